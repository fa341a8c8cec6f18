"""Where models come from: an address becomes files on this machine that stay as they are."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from modelyard.console import size
from modelyard.digests import model_digest
from modelyard.errors import (
    ConfigError,
    ConflictError,
    EnvironmentFault,
    MissingRequirementError,
    ModelyardError,
)
from modelyard.stages import StageContext
from modelyard.state import os_errors
from modelyard_kserve.config import KserveSettings
from modelyard_kserve.local import desired as states
from modelyard_kserve.storage import apart, archives, faults, web
from modelyard_kserve.storage.cache import Cache, Known
from modelyard_kserve.storage.orders import Fetched, Order, Tell
from modelyard_kserve.storage.uris import SCHEMES, is_azure, is_git, scheme_of, shown

#: Is told in words what is being done.
Progress = Callable[[str], None]
#: Seconds between two words about how far it is.
_EVERY = 0.2
_NEEDED = {
    "s3": ("boto3", "kserve_storage"),
    "azure": ("kserve_storage",),
    "library": ("kserve_storage",),
    "dvc": ("dvc",),
}
_EXTRA = {"dvc": "modelyard[dvc]"}


@dataclass(frozen=True)
class Resolved:
    """A model on this machine.

    Attributes:
        path: its folder, or its only file; not to be written to.
        digest: `modelyard.digests.model_digest` of the path.
        model, version: the registered version; None and `0` for a model that nobody registered.
        trusted: the registry vouches for the files: they are those that were registered.
        note: what the user should know about it.
    """

    path: Path
    digest: str
    model: str | None = None
    version: str = "0"
    trusted: bool = False
    note: str = ""


def resolve(uri: str, context: StageContext, progress: Progress = lambda _: None) -> Resolved:
    """The model at an address, fetched if it is not here or has changed.

    Args:
        uri: what `storageUri` says.
        context: the provider's.
        progress: is told what is being done.

    Raises:
        ModelyardError: it is not there, not for us, can't be reached, is broken or too large.
    """
    settings: KserveSettings = context.settings or KserveSettings()  # type: ignore[call-arg,unused-ignore]
    if uri.startswith("models:/"):
        return _registered(uri, context)
    found = _here(uri, context, settings)
    # What a run logged may be deleted, or fetched anew by others who look at the run.
    if found is None or scheme_of(uri) == "runs" or _is_archive(found):
        return _Fetch(uri, found, context, settings, progress).run()
    return Resolved(found, model_digest(found))


def problem(uri: str, settings: KserveSettings) -> tuple[str, str]:
    """What is wrong with an address before anybody goes there, and what to do; empty if nothing is.

    Example:
        >>> problem("ftp://host/late", KserveSettings())[0]
        "'ftp' is no place that models come from here"
    """
    scheme = scheme_of(uri)
    if scheme and scheme not in SCHEMES:
        known = ", ".join(SCHEMES.values())
        return f"'{scheme}' is no place that models come from here", f"known: {known}, a folder"
    if scheme == "pvc" and (claim := uri.partition("://")[2].partition("/")[0]) not in settings.pvc:
        message = f"no folder stands for the PersistentVolumeClaim '{claim}' here"
        return message, f'write into modelyard.toml: [providers.kserve.pvc] {claim} = "/FOLDER"'
    return "", ""


def _registered(uri: str, context: StageContext) -> Resolved:
    resolved = context.resolve_model(uri)
    version, digest = resolved.version, model_digest(resolved.path)
    if version.digest not in (None, digest):
        raise EnvironmentFault(
            "model-changed",
            f"the files of {version.ref} are not those that were registered",
            f"modelyard models show {version.ref}",
        )
    # Without a recorded digest nothing says that these are the files that somebody registered.
    return Resolved(resolved.path, digest, version.name, version.version, version.digest is not None)


def _here(uri: str, context: StageContext, settings: KserveSettings) -> Path | None:
    """Where it lies on this machine already; None: it is to be fetched."""
    said, hint = problem(uri, settings)
    if said:
        raise ConfigError("storage-unknown", f"{shown(uri)}: {said}", hint)
    scheme = scheme_of(uri)
    if scheme == "runs":
        run, _, path = uri.removeprefix("runs:/").strip("/").partition("/")
        if not run or not path:
            raise ConfigError("storage-unknown", f"{uri} is not runs:/RUN_ID/PATH", "modelyard runs list")
        return context.run_artifact(run, path)
    if scheme == "pvc":
        claim, _, path = uri.partition("://")[2].partition("/")
        return _below(context.root / Path(settings.pvc[claim]).expanduser(), unquote(path), uri)
    if scheme in ("", "file"):
        path = unquote(uri.removeprefix("file://")) if scheme else uri
        place = context.root / path
        if not place.exists():
            raise faults.missing(uri)
        return place
    return None


def _below(folder: Path, path: str, uri: str) -> Path:
    place = Path(os.path.normpath(folder / path.strip("/")))
    if not place.resolve().is_relative_to(folder.resolve()):
        raise ConfigError("storage-unknown", f"{uri} leads out of {folder}", "correct storageUri")
    if not place.exists():
        raise faults.missing(uri, f"it stands for {place}")
    return place


class _Fetch:
    """One fetch into the project's cache.

    Args:
        uri: the address.
        here: what is copied or unpacked on this machine; None: the address is elsewhere.
        context, settings, progress: see `resolve`.
    """

    def __init__(
        self,
        uri: str,
        here: Path | None,
        context: StageContext,
        settings: KserveSettings,
        progress: Progress,
    ) -> None:
        self._uri, self._local, self._settings = uri, here, settings
        self._context, self._progress = context, progress
        self._cache = Cache(context.state / "models", lambda: _used(context.state))
        self._told = 0.0

    def run(self) -> Resolved:
        """The model in the cache."""
        self._require_means()
        self._progress(f"looking at {shown(self._uri)}")
        with ExitStack() as stack:
            try:
                stack.enter_context(self._cache.locked(self._uri, timeout=1))
            except ConflictError:
                self._progress(f"waiting for another command that fetches {shown(self._uri)}")
                stack.enter_context(self._cache.locked(self._uri))
            known, note = self._cache.known(self._uri), ""
            try:
                known = self._fetched(known)
            except EnvironmentFault as fault:
                if fault.code != "storage-unreachable" or known is None:
                    raise
                note = f"{fault.message}; serving what was fetched at {known.fetched[:16].replace('T', ' ')}"
        return Resolved(self._cache.path(known.digest), known.digest, note=note)

    def _fetched(self, known: Known | None) -> Known:
        with self._cache.part(self._uri) as part:
            raw, files = part / "raw", part / "files"
            with os_errors(raw):
                raw.mkdir()
            order = Order(
                uri=self._uri,
                folder=raw,
                known=known.version if known else None,
                root=self._context.root,
                limit=self._settings.fetch_limit,
            )
            found = self._asked(order)
            if found.same and known is not None:
                return known
            self._progress(f"checking {shown(self._uri)}")
            archive = _only_archive(raw) if self._local is None else self._local
            if archive is not None and _is_archive(archive):
                archives.unpack(archive, files, self._settings.fetch_limit, shown(self._uri))
            else:
                archives.require_inside(raw, shown(self._uri))
                files = raw
            if not any(path.is_file() for path in files.rglob("*")):
                raise faults.missing(self._uri, "it holds no file")
            return self._cache.keep(self._uri, files, found.version)

    def _asked(self, order: Order) -> Fetched:
        if self._local is not None:
            version = model_digest(self._local)
            if version != order.known and not _is_archive(self._local):
                _copy(self._local, order.folder)
            return Fetched(version, same=version == order.known)
        place = _place(self._uri)
        if place == "web":
            return web.fetch(order, self._tell)
        return apart.fetch(place, order, self._tell)

    def _require_means(self) -> None:
        place = _place(self._uri)
        lacking = [name for name in _NEEDED.get(place, ()) if importlib.util.find_spec(name) is None]
        if lacking and self._local is None:
            raise MissingRequirementError(
                "extra-missing",
                f"{shown(self._uri)} needs {', '.join(lacking)}",
                f"pip install '{_EXTRA.get(place, 'modelyard[storage]')}'",
            )

    @property
    def _tell(self) -> Tell:
        def tell(have: int, total: int | None) -> None:
            if time.monotonic() - self._told > _EVERY:
                self._told = time.monotonic()
                of = f" of {size(total)}" if total else ""
                self._progress(f"fetching {shown(self._uri)}: {size(have)}{of}")

        return tell


def _place(uri: str) -> str:
    """What fetches from there: a module of this package."""
    scheme = scheme_of(uri)
    if scheme in ("s3", "dvc"):
        return scheme
    if is_azure(uri):
        return "azure" if ".blob." in uri.split("/")[2] else "library"
    return "web" if scheme in ("http", "https") and not is_git(uri) else "library"


def _only_archive(folder: Path) -> Path | None:
    found = list(folder.iterdir())
    one = found[0] if len(found) == 1 else None
    return one if one is not None and _is_archive(one) else None


def _is_archive(path: Path) -> bool:
    return path.is_file() and archives.is_archive(path.name)


def _copy(source: Path, folder: Path) -> None:
    for path in source.rglob("*") if source.is_dir() else [source]:
        target = folder / (path.relative_to(source) if source.is_dir() else path.name)
        with os_errors(target):
            if path.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


def _used(state: Path) -> Collection[str] | None:
    """The digests of all revisions' files; None: a file that says so is damaged."""
    used: set[str] = set()
    for file in (state / "endpoints").glob(f"*/{states.DESIRED}"):
        try:
            found = states.load(file.parent)
        except ModelyardError:
            return None
        used |= {revision.digest for revision in found.everything} if found else set()
    return used
