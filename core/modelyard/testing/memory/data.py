"""The reference data store: bytes under their SHA-256, in the project and in the remote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from modelyard import state
from modelyard.digests import file_digest, manifest, manifest_digest
from modelyard.errors import ConfigError, CorruptStateError, EnvironmentFault, NotFoundError, UsageError
from modelyard.project import STATE_FOLDER
from modelyard.records import DataRef
from modelyard.stages import DataStatus, StageContext


class MemoryDataStore:
    """Keeps an index of data sets and their bytes under `objects/`; the remote is a folder like it."""

    def __init__(self, context: StageContext) -> None:
        self._root = context.root
        self._target = context.target
        # Not `context.state`: on every target it is the same project with the same data.
        home = context.root / STATE_FOLDER / "memory"
        self._objects = home / "objects"
        self._index = home / "index.json"
        self._lock = home / "index.lock"

    def add(self, path: Path, *, name: str | None = None) -> DataRef:
        """See `DataStore.add`."""
        path = self._inside(path)
        files = manifest(path)
        for file in files:
            self._keep(path / file["path"] if file["path"] else path, file["sha256"])
        digest = manifest_digest(files)
        ref = DataRef(
            name=name or path.stem,
            scheme="memory",
            path=path.relative_to(self._root.resolve()).as_posix(),
            version=digest[:32],
            digest=digest,
            size=sum(file["size"] for file in files),
            files=len(files),
        )
        with state.locked(self._lock):
            index = self._read()
            index["data"][ref.name] = ref.to_dict()
            index["versions"][ref.digest] = files
            state.write_json(self._index, index)
        return self.get(ref.name)

    def status(self) -> list[DataStatus]:
        """See `DataStore.status`."""
        return [self._compared(ref) for ref in self.refs()]

    def refs(self) -> list[DataRef]:
        """See `DataStore.refs`."""
        index, remote = self._read(), self.remote()
        held = index["published"].get(remote or "", ())
        found = [DataRef.from_dict(index["data"][name]) for name in sorted(index["data"])]
        return [replace(ref, remote=remote, published=True) if ref.digest in held else ref for ref in found]

    def get(self, name: str) -> DataRef:
        """See `DataStore.get`."""
        for ref in self.refs():
            if name in (ref.name, ref.path):
                return ref
        names = ", ".join(ref.name for ref in self.refs()) or "none"
        raise NotFoundError("data-not-found", f"no data set '{name}'; there are: {names}")

    def push(self, names: Sequence[str] = ()) -> list[DataRef]:
        """See `DataStore.push`."""
        return self.publish(self._chosen(names))

    def lacking(self, refs: Sequence[DataRef]) -> list[int | None]:
        """See `DataStore.lacking`."""
        remote = self._require_remote()
        lacking = [self._to_copy(ref, remote) for ref in refs]
        return [None if files is None else sum(file["size"] for file in files) for files in lacking]

    def publish(
        self, refs: Sequence[DataRef], *, progress: Callable[[int], None] = lambda _: None
    ) -> list[DataRef]:
        """See `DataStore.publish`."""
        remote = self._require_remote()
        published = []
        for ref in refs:
            files = self._to_copy(ref, remote)
            for file in files or ():
                self._store(remote / file["sha256"], self._verified(self._objects / file["sha256"], ref))
                progress(file["size"])
            if files is not None:
                self._note_published(ref)
            held = files is not None
            published.append(replace(ref, published=held, remote=self.remote() if held else None))
        return published

    def _to_copy(self, ref: DataRef, remote: Path) -> list[dict[str, Any]] | None:
        """The files that the remote lacks; None if this machine lacks one of them too."""
        files = self._read()["versions"].get(ref.digest)
        lacking = [file for file in files or () if not (remote / file["sha256"]).exists()]
        here = all((self._objects / file["sha256"]).exists() for file in lacking)
        return lacking if files is not None and here else None

    def pull(self, names: Sequence[str] = ()) -> list[DataRef]:
        """See `DataStore.pull`."""
        pulled = []
        for ref in self._chosen(names):
            # All bytes are checked before the first is handed out.
            contents = [(file["path"], self._bytes_of(file["sha256"], ref)) for file in self._files_of(ref)]
            for path, content in contents:
                state.write_bytes(self._root / ref.path / path if path else self._root / ref.path, content)
            pulled.append(ref)
        return pulled

    def set_remote(self, url: str) -> None:
        """See `DataStore.set_remote`."""
        if self._target is not None:
            raise UsageError("remote-of-target", f"the target '{self._target.name}' has its own storage")
        with state.locked(self._lock):
            state.write_json(self._index, {**self._read(), "remote": url})

    def remote(self) -> str | None:
        """See `DataStore.remote`."""
        if self._target is not None:
            return self._target.address("s3").storage
        url = self._read()["remote"]
        return None if url is None else _without_credentials(url)

    def _inside(self, path: Path) -> Path:
        whole, root = path.resolve(), self._root.resolve()
        if not whole.is_relative_to(root):
            raise UsageError("data-outside-project", f"{path} is outside the project {root}")
        if not whole.exists():
            raise NotFoundError("data-not-found", f"there is no file or folder {path}")
        return whole

    def _compared(self, ref: DataRef) -> DataStatus:
        path = self._root / ref.path
        if not path.exists():
            return DataStatus(ref=ref, state="missing")
        same = manifest_digest(manifest(path)) == ref.digest
        return DataStatus(ref=ref, state="unchanged" if same else "modified")

    def _chosen(self, names: Sequence[str]) -> list[DataRef]:
        return [self.get(name) for name in names] if names else self.refs()

    def _files_of(self, ref: DataRef) -> list[dict[str, Any]]:
        files: list[dict[str, Any]] = self._read()["versions"][ref.digest]
        return files

    def _note_published(self, ref: DataRef) -> None:
        with state.locked(self._lock):
            index = self._read()
            held = index["published"].setdefault(self.remote(), [])
            if ref.digest not in held:
                held.append(ref.digest)
                state.write_json(self._index, index)

    def _keep(self, file: Path, digest: str) -> None:
        if not (self._objects / digest).exists():
            state.write_bytes(self._objects / digest, file.read_bytes())

    def _bytes_of(self, digest: str, ref: DataRef) -> bytes:
        local = self._objects / digest
        if not local.exists():
            remote = Path(self.remote() or "") / digest
            if self.remote() is None or not remote.exists():
                raise NotFoundError(
                    "data-not-in-remote",
                    f"the remote {self.remote()} does not hold all of '{ref.name}'",
                    "push it from where it was added: modelyard data push",
                )
            self._store(local, self._verified(remote, ref))
        return self._verified(local, ref)

    def _verified(self, file: Path, ref: DataRef) -> bytes:
        if file_digest(file) != file.name:
            raise CorruptStateError(
                "data-corrupt",
                f"{file} does not hold the bytes of '{ref.name}'; nothing was handed out",
                f"remove it and pull again: rm '{file}'",
            )
        return file.read_bytes()

    def _store(self, target: Path, content: bytes) -> None:
        try:
            state.write_bytes(target, content)
        except EnvironmentFault as fault:
            raise EnvironmentFault(
                "remote-unreachable", f"{target.parent} can't be written: {fault.message}"
            ) from fault

    def _require_remote(self) -> Path:
        remote = self.remote()
        if remote is None:
            raise ConfigError("no-remote", "no remote is set", "modelyard data remote URL")
        return Path(remote)

    def _read(self) -> dict[str, Any]:
        found: dict[str, Any] = state.read_json(self._index) or {}
        return {"data": {}, "versions": {}, "published": {}, "remote": None, **found}


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if parts.netloc else url
