"""Where DVC keeps its things in a project, read without importing DVC (0.6 s of every command)."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from modelyard.errors import ConfigError, MissingRequirementError, UsageError
from modelyard.s3 import Bucket
from modelyard.state import os_errors, write_bytes
from modelyard.targets import Target

#: The name under which we enter a remote into `.dvc/config`.
REMOTE_NAME = "modelyard"

_IGNORE_TEMPLATE = """\
# Patterns of files that DVC shall leave out, one per line:
# https://dvc.org/doc/user-guide/dvcignore
"""

#: URL scheme -> (module that must be there, extra of DVC that brings it).
_EXTRAS = {
    "s3": ("dvc_s3", "s3"),
    "gs": ("dvc_gs", "gs"),
    "azure": ("dvc_azure", "azure"),
    "abfs": ("dvc_azure", "azure"),
    "gdrive": ("dvc_gdrive", "gdrive"),
    "hdfs": ("dvc_hdfs", "hdfs"),
    "webhdfs": ("dvc_webhdfs", "webhdfs"),
    "oss": ("dvc_oss", "oss"),
    "ssh": ("dvc_ssh", "ssh"),
    "webdav": ("dvc_webdav", "webdav"),
    "webdavs": ("dvc_webdav", "webdav"),
    "http": ("dvc_http", "http"),
    "https": ("dvc_http", "http"),
}


@dataclass(frozen=True, slots=True)
class Remote:
    """A remote of DVC. `url` is absolute; `folder` is set when it is a folder of this machine.
    `login` is what a person wrote before the `@`, with a password; it never goes into git.

    A target's storage is a `bucket`, and `settings` are what DVC needs to read from it; they hold its
    password, and live in memory alone."""

    name: str
    url: str
    folder: Path | None
    login: tuple[str, str] | None = field(default=None, repr=False)
    bucket: Bucket | None = field(default=None, repr=False)
    settings: Mapping[str, object] = field(default_factory=dict, repr=False)

    @property
    def public(self) -> str:
        """The URL without credentials, for people and records.

        Example:
            >>> Remote("x", "https://ann:secret@host/data?token=1", None).public
            'https://host/data'
        """
        if self.folder is not None:
            return self.url
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    def connection_fault(self) -> str:
        """Why nobody answers at an HTTP remote; DVC takes that for "there is no such file"."""
        import socket

        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            return ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((parts.hostname, port), timeout=10).close()
        except OSError as fault:
            return str(fault)
        return ""


@dataclass(frozen=True, slots=True)
class DvcConfig:
    """What `.dvc/config` and its user-wide siblings say, as far as we need it."""

    cache: Path
    remote: Remote | None


def git_root(root: Path) -> Path | None:
    """The git repository around the folder, or None."""
    return next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), None)


def is_whole(repo: Path) -> bool:
    """False when a `dvc init` was killed half-way."""
    return (repo / ".dvc" / "config").is_file()


def find_repo(root: Path) -> Path | None:
    """The DVC repository that the project belongs to: its own folder, or one between it and the
    top of its git repository (a team may keep one DVC repository for many projects)."""
    top = git_root(root)
    for folder in (root, *(root.parents if top else ())):
        if (folder / ".dvc").is_dir():
            return folder
        if folder == top:
            return None
    return None


def init_repo(root: Path) -> Path:
    """What `dvc init` does (`--subdir` below a git repository, `--no-scm` outside of one), but whole
    or not at all: DVC's own leaves a half-made `.dvc` when it is killed, and refuses to go on."""
    core = ["analytics = false", "check_update = false", "autostage = true"]
    if git_root(root) is None:
        core.append("no_scm = true")
    config = "[core]\n" + "".join(f"    {line}\n" for line in core)
    if (root / ".dvc").is_dir():
        write_bytes(root / ".dvc" / "config", config.encode())
        return root
    with os_errors(root):
        scratch = Path(tempfile.mkdtemp(prefix=".dvc-new-", dir=root))
        try:
            scratch.chmod(0o755)
            write_bytes(scratch / ".gitignore", b"/config.local\n/tmp\n/cache\n")
            write_bytes(scratch / "config", config.encode())
            scratch.rename(root / ".dvc")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if not (root / ".dvcignore").exists():
            write_bytes(root / ".dvcignore", _IGNORE_TEMPLATE.encode())
    return root


def read_config(repo: Path) -> DvcConfig:
    """DVC's configuration of the repository: system, user, repository and local file, last wins.

    Raises:
        ConfigError: `dvc-config-invalid`.
    """
    merged: dict[str, dict[str, Any]] = {}
    for file in (*_shared_config_files(), repo / ".dvc" / "config", repo / ".dvc" / "config.local"):
        for section, values in _sections(file).items():
            merged.setdefault(section, {}).update(values)
    cache = Path(merged.get("cache", {}).get("dir") or repo / ".dvc" / "cache")
    name = merged.get("core", {}).get("remote")
    url = merged.get(f"remote {name}", {}).get("url") if name else None
    remote = _as_remote(str(name), str(url)) if url else None
    return DvcConfig(cache=cache / "files" / "md5", remote=remote)


def write_remote(repo: Path, remote: Remote) -> None:
    """Make it the repository's default remote; comments of the file survive. A password goes into
    `.dvc/config.local`, which git ignores and nobody else can read."""
    section = f'remote "{REMOTE_NAME}"'
    local = repo / ".dvc" / "config.local"
    secrets = _parse(local)
    if remote.login or section in secrets:
        secrets.pop(section, None)
        if remote.login:
            user, password = remote.login
            secrets[section] = {"auth": "basic", "user": user, "password": password}
        _write(local, secrets, mode=0o600)
    file = repo / ".dvc" / "config"
    config = _parse(file)
    url = remote.url
    if remote.folder is not None and remote.folder.is_relative_to(repo):
        # Relative to the file, so that the project can be moved; DVC reads it like that too.
        url = os.path.relpath(remote.folder, repo / ".dvc")
    config.setdefault("core", {})["remote"] = REMOTE_NAME
    config[section] = {"url": url, "verify": "true"}
    _write(file, config)


def parse_remote(url: str, root: Path) -> Remote:
    """The remote that a person named: a folder (relative to the project) or a URL.

    Raises:
        UsageError: `remote-invalid`, or `secret-in-url` where DVC can't keep a password apart.
        MissingRequirementError: `missing-extra`: DVC lacks the part for this kind of URL.
    """
    if not url.strip() or "\n" in url:
        raise UsageError("remote-invalid", "the remote is empty", "name a folder or a URL")
    url = url.removeprefix("file://")
    if not re.match(r"\w+://", url):
        folder = Path(os.path.normpath(root / Path(url).expanduser()))
        if folder.exists() and not folder.is_dir():
            raise UsageError("remote-invalid", f"{folder} is a file, not a folder", "name a folder")
        return Remote(REMOTE_NAME, str(folder), folder)
    parts = urlsplit(url)
    require(parts.scheme.lower())
    if parts.password is None:
        return Remote(REMOTE_NAME, url, None)
    if parts.scheme.lower() not in ("http", "https"):
        raise UsageError(
            "secret-in-url",
            f"the URL of the remote on {parts.hostname} holds a password, which would end up in git",
            f"name it without, then: dvc remote modify --local {REMOTE_NAME} password ...",
        )
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return Remote(REMOTE_NAME, bare, None, (unquote(parts.username or ""), unquote(parts.password)))


def remote_of(target: Target) -> Remote:
    """Where data goes on a target: the storage of its S3.

    Raises:
        ConfigError: `no-remote`: the target names no storage.
        NotFoundError: `target-service-unknown`: it has no S3.
    """
    address = target.address("s3")
    if not address.storage.startswith("s3://"):
        raise ConfigError(
            "no-remote",
            f"the target '{target.name}' does not say in which bucket data is kept",
            f'write into modelyard.toml: [targets.{target.name}.services.s3] storage = "s3://BUCKET"',
        )
    bucket = Bucket(address, address.storage)
    settings = {
        "url": address.storage,
        "endpointurl": address.url,
        "access_key_id": address.user,
        "secret_access_key": address.password,
        "region": "us-east-1",
        "verify": True,
    }
    return Remote(f"{REMOTE_NAME}-{target.name}", address.storage, None, bucket=bucket, settings=settings)


def require(scheme: str) -> None:
    """See that DVC's part for such URLs is installed.

    Raises:
        UsageError: `remote-invalid`.
        MissingRequirementError: `missing-extra`.
    """
    import importlib.util

    if scheme not in _EXTRAS:
        raise UsageError(
            "remote-invalid",
            f"DVC knows no remotes of the kind {scheme}://",
            f"use a folder or one of {', '.join(sorted(_EXTRAS))}",
        )
    module, extra = _EXTRAS[scheme]
    if importlib.util.find_spec(module) is None:
        raise MissingRequirementError(
            "missing-extra",
            f"remotes of the kind {scheme}:// need the package {module.replace('_', '-')}",
            f"pip install 'dvc[{extra}]'",
        )


def _as_remote(name: str, url: str) -> Remote:
    folder = None if re.match(r"\w+://", url) else Path(url)
    return Remote(name, url, folder)


def _shared_config_files() -> tuple[Path, Path]:
    import platformdirs

    system = os.environ.get("DVC_SYSTEM_CONFIG_DIR") or platformdirs.site_config_dir("dvc", "iterative")
    user = os.environ.get("DVC_GLOBAL_CONFIG_DIR") or platformdirs.user_config_dir("dvc", "iterative")
    return Path(system, "config"), Path(user, "config")


def _sections(file: Path) -> dict[str, dict[str, Any]]:
    """The file's sections by plain name (`core`, `remote NAME`), with paths made absolute."""
    if not file.is_file():
        return {}
    found = {}
    for section, values in _parse(file).items():
        if not isinstance(values, Mapping):
            continue
        named = re.fullmatch(r"'?(\w+) \"(.*)\"'?", section)
        plain = {str(key).lower(): value for key, value in values.items()}
        for key in ("url", "dir"):
            if isinstance(plain.get(key), str) and not re.match(r"\w+://", plain[key]):
                plain[key] = os.path.normpath(file.parent / Path(plain[key]).expanduser())
        found[f"{named[1]} {named[2]}" if named else section] = plain
    return found


def _write(file: Path, config: Any, *, mode: int = 0o644) -> None:
    from io import BytesIO

    made = BytesIO()
    config.write(made)
    write_bytes(file, made.getvalue(), mode=mode)


def _parse(file: Path) -> Any:
    from configobj import ConfigObj, ConfigObjError  # type: ignore[import-untyped]

    try:
        with os_errors(file):
            text = file.read_text(encoding="utf-8") if file.exists() else ""
        return ConfigObj(text.splitlines(), encoding="utf-8")
    except (ConfigObjError, UnicodeDecodeError) as fault:
        raise ConfigError("dvc-config-invalid", f"{file} can't be read: {fault}", f"edit {file}") from None
