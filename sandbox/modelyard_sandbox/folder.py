"""What the sandbox remembers on this machine, in a folder of its own.

sandboxes/NAME/
  state.json     what was asked for and how far it came; the truth is read from Docker and the cluster
  secrets.json   random passwords, made once (0600)
  kubeconfig     the way in (0600)
  manifests/     every object as it was applied
  events.jsonl   what the last runs said
  data/          what the components store; it survives `down`
  change.lock    held by the command that changes it
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import string
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from modelyard.errors import ConflictError, UsageError
from modelyard.state import locked, os_errors, read_json, write_bytes, write_json
from modelyard_sandbox.errors import SandboxLocked

DEFAULT = "default"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?")
_LETTERS = string.ascii_letters + string.digits


class SandboxFolder:
    """The folder of one sandbox.

    Args:
        name: lower-case letters, digits and hyphens, at most 30.

    Raises:
        UsageError: `sandbox-name`.
    """

    def __init__(self, name: str = DEFAULT) -> None:
        if not _NAME.fullmatch(name):
            raise UsageError(
                "sandbox-name",
                f"'{name}' can't be a sandbox's name: lower-case letters, digits and hyphens, at most 30",
                "modelyard sandbox up --name NAME",
            )
        self.name = name
        self.path = _home() / name
        self._writing = threading.RLock()

    @property
    def cluster_name(self) -> str:
        """What kind calls the cluster."""
        return f"modelyard-{self.name}"

    @property
    def node_name(self) -> str:
        """What Docker calls the node's container."""
        return f"{self.cluster_name}-control-plane"

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of this sandbox alone."""
        return self.path / "kubeconfig"

    @property
    def data(self) -> Path:
        """What the components store."""
        return self.path / "data"

    @property
    def exists(self) -> bool:
        """Whether a sandbox of this name was ever begun."""
        return (self.path / "state.json").exists()

    def prepare(self) -> None:
        """Make the folder, private to the user."""
        with os_errors(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
            self.data.mkdir(exist_ok=True)

    @contextlib.contextmanager
    def held(self, doing: str) -> Iterator[None]:
        """Keep other commands from changing this sandbox meanwhile.

        Raises:
            SandboxLocked: `sandbox-locked`, with the pid of who holds it.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path / "change.lock", timeout=0, doing=doing))
            except ConflictError as fault:
                raise SandboxLocked(
                    "sandbox-locked",
                    f"the sandbox '{self.name}' is being changed by {fault.message.rpartition(' by ')[2]}",
                    "wait for it to end, then run this again",
                ) from None
            yield

    # -- state ------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """What was asked for and how far it came; empty if nothing was begun."""
        found: dict[str, Any] = read_json(self.path / "state.json") or {}
        return found

    def remember(self, **values: Any) -> dict[str, Any]:
        """Change keys of the state; None removes one."""
        with self._writing:
            merged = {k: v for k, v in {**self.state(), **values}.items() if v is not None}
            write_json(self.path / "state.json", merged, mode=0o600)
            return merged

    def secret(self, name: str) -> str:
        """The random password of that name, made on first use: 32 letters and digits."""
        return self.keep_secret(name, lambda: "".join(secrets.choice(_LETTERS) for _ in range(32)))

    def keep_secret(
        self, name: str, make: Callable[[], str], *, is_good: Callable[[str], bool] = lambda _: True
    ) -> str:
        """The secret of that name; `make()` gives it first, and again when it is not good any more."""
        known = self.secrets().get(name)
        if known is not None and is_good(known):
            return known
        made = make()  # which may keep secrets of its own
        with self._writing:
            now = self.secrets().get(name)
            if now is not None and now != known:  # another thread was faster
                return now
            write_json(self.path / "secrets.json", {**self.secrets(), name: made}, mode=0o600)
        return made

    def secrets(self) -> Mapping[str, str]:
        """Every secret of this sandbox."""
        known: Mapping[str, str] = read_json(self.path / "secrets.json") or {}
        return known

    def write_applied(self, component: str, objects: list[dict[str, Any]]) -> None:
        """Leave what is applied where people can read it; the values of Secrets are left out."""
        import yaml

        shown = [_without_values(found) for found in objects]
        text = yaml.safe_dump_all(shown, sort_keys=False, allow_unicode=True, width=110)
        write_bytes(self.path / "manifests" / f"{component}.yaml", text.encode())

    def forget_applied(self, component: str) -> None:
        """The component is gone; so is its file."""
        (self.path / "manifests" / f"{component}.yaml").unlink(missing_ok=True)

    def append_event(self, event: Mapping[str, Any]) -> None:
        """Keep what was said; the file starts anew when it has grown to 5 MB."""
        file = self.path / "events.jsonl"
        with contextlib.suppress(OSError):  # a full disk must not hide the fault that it causes
            if file.exists() and file.stat().st_size > 5_000_000:
                file.replace(file.with_suffix(".jsonl.old"))
            with open(file, "a", encoding="utf-8", opener=_private) as log:
                log.write(json.dumps(event, ensure_ascii=False) + "\n")

    def remove(self) -> None:
        """Remove everything that is remembered; the data folder must be empty of others' files."""
        with os_errors(self.path):
            shutil.rmtree(self.path)


def sandboxes() -> list[str]:
    """The names of the sandboxes on this machine."""
    return sorted(file.parent.name for file in _home().glob("*/state.json"))


def cache_folder() -> Path:
    """Where downloads are kept for all sandboxes."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "modelyard" / "sandbox"


def _home() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "modelyard" / "sandboxes"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _without_values(manifest: dict[str, Any]) -> dict[str, Any]:
    if manifest["kind"] != "Secret":
        return manifest
    return {**manifest, "data": dict.fromkeys(manifest.get("data") or {}, "(in secrets.json)")}
