"""The data store: what the stage `data` means, done by DVC and checked by us."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.errors import ConflictError, NotFoundError, UsageError
from modelyard.records import DataRef
from modelyard.stages import DataStatus
from modelyard_dvc import layout, objects
from modelyard_dvc.config import DvcSettings
from modelyard_dvc.dvcfiles import (
    Tracked,
    check_name,
    default_name,
    dvc_file_of,
    is_readable,
    tracked,
    write_meta,
)
from modelyard_dvc.memory import Memory, fingerprint
from modelyard_dvc.session import Session
from modelyard_dvc.transfer import Transfer

if TYPE_CHECKING:
    from typing import Literal

    from modelyard.stages import StageContext


_SCHEME = "dvc"


class DvcStore:
    """A `modelyard.stages.DataStore` on DVC, in this process.

    Reading (`refs`, `get`, `remote`, and `status` of untouched data) imports no DVC.
    """

    def __init__(self, context: StageContext) -> None:
        settings: DvcSettings = context.settings or DvcSettings()
        self._settings = settings
        self._root = context.root.resolve()
        self._target = context.target
        self._memory = Memory(context.state)
        self._session = Session(self._root, context.state, settings.lock_timeout)
        self._transfer = Transfer(self._root, self._session, self._memory)

    def add(self, path: Path, *, name: str | None = None) -> DataRef:
        """Take the file or folder as a version, and write the `.dvc` file beside it.

        Raises:
            NotFoundError: `data-not-found`.
            UsageError: `data-outside-project`, `data-not-addable`, `data-symlink`, `data-name-invalid`.
            ConflictError: `data-name-taken`, `data-in-git`, `data-overlaps`, `locked`.
        """
        whole = self._inside(path)
        place = whole.relative_to(self._root).as_posix()
        with self._session.holding(f"data add {place}"):
            file = dvc_file_of(whole)
            if file.exists() and not is_readable(file):
                self._memory.set_aside(file)
            known = tracked(self._root, self._memory)
            old = next((item for item in known if item.path == place), None)
            wanted = self._name_for(place, whole, name, old, known)
            before = fingerprint(whole)
            if not (old and old.name == wanted and old.digest and self._is_kept(old, before)):
                self._take(whole, wanted)
                if fingerprint(whole) == before:
                    self._memory.remember_seen(place, self._tracked(place).version, before)
                self._stage(whole)
            return self._ref(self._tracked(place))

    def status(self) -> list[DataStatus]:
        """Every data set, compared with the working tree; only what was touched is read again."""
        return [
            DataStatus(ref=self._ref(item), state=self._state(item))
            for item in tracked(self._root, self._memory)
        ]

    def refs(self) -> list[DataRef]:
        """The current version of every data set, from the `.dvc` files."""
        return [self._ref(item) for item in tracked(self._root, self._memory)]

    def get(self, name: str) -> DataRef:
        """The current version of one data set by name or path.

        Raises:
            NotFoundError: `data-not-found`, with the names that exist.
        """
        return self._ref(self._select([name])[0])

    def push(self, names: Sequence[str] = ()) -> list[DataRef]:
        """Copy to the remote what it lacks, and look whether all of it is there.

        Raises:
            ConfigError: `no-remote`.
            EnvironmentFault: `remote-unreachable`.
            NotFoundError: `data-not-found`, `data-not-in-cache`.
            CorruptStateError: `data-corrupt`: the cache holds other bytes.
        """
        with self._session.holding("data push"):
            chosen = self._select(names)
            remote = self._transfer.reachable(self._current_remote())
            self._transfer.push(chosen, remote)
            return [self._ref(item) for item in chosen]

    def lacking(self, refs: Sequence[DataRef]) -> list[int | None]:
        """See `DataStore.lacking`."""
        remote = self._transfer.reachable(self._current_remote())
        ours = [ref for ref in refs if ref.scheme == _SCHEME]
        lacking = dict(zip(ours, self._transfer.lacking([self._version(ref) for ref in ours], remote)))
        return [lacking.get(ref) for ref in refs]

    def publish(
        self, refs: Sequence[DataRef], *, progress: Callable[[int], None] = lambda _: None
    ) -> list[DataRef]:
        """See `DataStore.publish`."""
        with self._session.holding("data publish"):
            remote = self._transfer.reachable(self._current_remote())
            items = {ref: self._version(ref) for ref in refs if ref.scheme == _SCHEME}
            held = self._transfer.publish(list(items.values()), remote, progress)
            return [
                replace(ref, remote=remote.public, published=True)
                if items.get(ref) in held
                else replace(ref, remote=None, published=False)
                for ref in refs
            ]

    def pull(self, names: Sequence[str] = ()) -> list[DataRef]:
        """Bring the current versions into the working tree; all are checked before any is handed out.

        Raises:
            CorruptStateError: `data-corrupt`.
            NotFoundError: `data-not-found`, `data-not-in-remote`.
            ConfigError: `no-remote`: it is not in the cache, and there is no remote.
            EnvironmentFault: `remote-unreachable`.
            ConflictError: `data-modified`: a changed file would be lost.
        """
        with self._session.holding("data pull"):
            chosen = self._select(names)
            self._transfer.pull(chosen, self._current_remote())
            return [self._ref(item) for item in chosen]

    def set_remote(self, url: str) -> None:
        """Name the remote: a folder (relative to the project; made if need be) or a URL.

        Raises:
            UsageError: `remote-invalid`, `secret-in-url`, `remote-in-settings`, `remote-of-target`.
            MissingRequirementError: `missing-extra`.
        """
        if self._settings.remote is not None and url != self._settings.remote:
            raise UsageError(
                "remote-in-settings",
                f"modelyard.toml names the remote already: {self._settings.remote}",
                "edit `remote` in its table [providers.dvc]",
            )
        if self._target is not None:
            raise UsageError(
                "remote-of-target",
                f"on the target '{self._target.name}' data goes to its own storage",
                "leave out --target to name the project's remote",
            )
        with self._session.holding("data remote"):
            self._write_remote(layout.parse_remote(url, self._root))

    def remote(self) -> str | None:
        """The remote's URL without credentials, or None."""
        if self._settings.remote is not None and self._target is None:
            return layout.parse_remote(self._settings.remote, self._root).public
        remote = self._configured_remote()
        return remote.public if remote else None

    def _inside(self, path: Path) -> Path:
        """The absolute path of data that may be added. A relative one counts from the working
        directory, or from the project where there is no such file."""
        given = path.expanduser()
        here = given if given.is_absolute() or given.exists() else self._root / given
        place = here.absolute()
        if not os.path.lexists(place):
            raise NotFoundError(
                "data-not-found", f"there is no {path}", "name a file or folder of the project"
            )
        whole = place.resolve()
        if not whole.is_relative_to(self._root):
            raise UsageError(
                "data-outside-project",
                f"{path} lies outside of the project {self._root}" + _via(place, whole),
                "copy it into the project, then add the copy",
            )
        inner = whole.relative_to(self._root).parts
        internal = {".git", ".dvc", ".modelyard"}
        if not inner or internal & set(inner) or whole.suffix == ".dvc":
            raise UsageError("data-not-addable", f"{path} is not data", "name a file or folder with data")
        if not whole.exists():
            raise NotFoundError("data-not-found", f"{path} is a link to nothing", "name a file or folder")
        if not (whole.is_file() or whole.is_dir()):
            raise UsageError("data-not-addable", f"{path} is neither a file nor a folder", "name one")
        self._refuse_links(whole)
        return whole

    def _refuse_links(self, whole: Path) -> None:
        """DVC leaves out linked folders in silence and copies linked files, wherever they are."""
        for folder, folders, names in os.walk(whole) if whole.is_dir() else ():
            for name in (*folders, *names):
                inner = Path(folder, name)
                if inner.is_symlink():
                    target = inner.resolve()
                    if name in folders or not target.is_relative_to(self._root) or not target.is_file():
                        raise UsageError(
                            "data-symlink",
                            f"{inner} is a link to {target}, which is not a file of the project",
                            "replace the link by a copy, then run this again",
                        )

    def _name_for(
        self, place: str, whole: Path, name: str | None, old: Tracked | None, known: Sequence[Tracked]
    ) -> str:
        chosen = name or (old.name if old else default_name(place, ".dir" if whole.is_dir() else ""))
        wanted = check_name(chosen)
        other = next((item for item in known if item.name == wanted and item.path != place), None)
        if other:
            raise ConflictError(
                "data-name-taken",
                f"the name '{wanted}' belongs to {other.path} already",
                f"modelyard data add '{place}' --name ANOTHER",
                details={"name": wanted, "path": other.path},
            )
        return wanted

    def _is_kept(self, item: Tracked, now: str | None) -> bool:
        """The working tree is as when it was taken, and the cache still has all of it."""
        if not self._memory.is_unchanged(item.path, item.version, now):
            return False
        return self._transfer.kept_size(item) == item.size

    def _take(self, whole: Path, name: str) -> None:
        """Have DVC take the bytes, look at what it kept, and note name and digest."""
        place = whole.relative_to(self._root).as_posix()
        # Without relinking DVC leaves the working tree alone; with it, a damaged object of the cache
        # would take the place of the good file.
        self._session.call(lambda repo: repo.add(str(whole), relink=False))
        item = self._tracked(place)
        content = self._memory.content(item.version)
        if content is None or self._transfer.kept_size(item) != content.size:
            try:
                content = self._transfer.read_cache(item)
            except (objects.Damaged, FileNotFoundError):
                self._transfer.set_damaged_aside(item)
                self._session.call(lambda repo: repo.add(str(whole), relink=False))
                content = self._transfer.read_cache(item)
            self._memory.remember_content(item.version, content)
        write_meta(item.file, name=name, version=item.version, digest=content.digest)

    def _stage(self, whole: Path) -> None:
        """`git add` what git should carry. Nobody's data depends on it, so a busy index or a missing
        git is no error; `git status` shows the files either way."""
        top = layout.git_root(self._root)
        repo = self._session.repo_root()
        if not self._settings.autostage or top is None or repo is None:
            return
        wanted = (
            dvc_file_of(whole),
            whole.parent / ".gitignore",
            repo / ".dvc" / "config",
            repo / ".dvc" / ".gitignore",
            repo / ".dvcignore",
        )
        files = [str(file) for file in wanted if file.exists()]
        try:
            command = ["git", "-C", str(top), "add", "--", *files]
            subprocess.run(command, check=False, capture_output=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            return

    def _version(self, ref: DataRef) -> Tracked:
        """A version, also one that is no longer the current one of its path."""
        return Tracked(
            name=ref.name,
            path=ref.path,
            file=dvc_file_of(self._root / ref.path),
            version=ref.version,
            size=ref.size,
            files=ref.files,
            digest=ref.digest or None,
        )

    def _tracked(self, place: str) -> Tracked:
        found = next((i for i in tracked(self._root, self._memory) if i.path == place), None)
        if found is None:
            raise NotFoundError(
                "data-not-found", f"{place}.dvc was removed meanwhile", f"modelyard data add '{place}'"
            )
        return found

    def _select(self, names: Sequence[str]) -> list[Tracked]:
        known = tracked(self._root, self._memory)
        if not names:
            return known
        return list(dict.fromkeys(self._find(name, known) for name in names))

    def _find(self, name: str, known: Sequence[Tracked]) -> Tracked:
        places = {name.rstrip("/")}
        for start in (self._root, Path.cwd()):
            whole = Path(os.path.normpath(start / name))
            if whole.is_relative_to(self._root):
                places.add(whole.relative_to(self._root).as_posix())
        named = [item for item in known if item.name == name] or [i for i in known if i.path in places]
        if named:
            return named[0]
        names = [item.name for item in known]
        raise NotFoundError(
            "data-not-found",
            f"no data set '{name}'; there is {', '.join(names) or 'none yet'}",
            "modelyard data add PATH" if not names else "modelyard data status",
            details={"names": names},
        )

    def _ref(self, item: Tracked) -> DataRef:
        content = self._content(item)
        remote = self._configured_remote()
        published = remote is not None and self._transfer.is_published(item, remote)
        return DataRef(
            name=item.name,
            scheme=_SCHEME,
            path=item.path,
            version=item.version,
            digest=content.digest if content else item.digest or "",
            size=content.size if content else item.size,
            files=content.files if content else item.files,
            remote=remote.public if remote and published else None,
            published=published,
        )

    def _content(self, item: Tracked) -> objects.Content | None:
        """What the version holds: as remembered, as written down in git, or read once from the
        cache (data that a plain `dvc add` took)."""
        known = self._memory.content(item.version)
        if known or item.digest or item.legacy:
            return known
        try:
            content = self._transfer.read_cache(item)
        except (objects.Damaged, FileNotFoundError):
            return None
        self._memory.remember_content(item.version, content)
        return content

    def _state(self, item: Tracked) -> Literal["unchanged", "modified", "missing"]:
        whole = self._root / item.path
        if not whole.exists():
            return "missing"
        now = fingerprint(whole)
        if self._memory.is_unchanged(item.path, item.version, now):
            return "unchanged"
        with self._session.holding("data status"):
            version = self._transfer.version_of(whole, item)
            if version != item.version:
                return "modified"
            if fingerprint(whole) == now:
                self._memory.remember_seen(item.path, item.version, now)
            return "unchanged"

    def _configured_remote(self) -> layout.Remote | None:
        if self._target is not None:
            return layout.remote_of(self._target)
        repo = self._session.repo_root()
        return layout.read_config(repo).remote if repo else None

    def _current_remote(self) -> layout.Remote | None:
        """The remote to work with; one that `modelyard.toml` names goes into `.dvc/config` first, so
        that `dvc push` typed by hand means the same."""
        current = self._configured_remote()
        if self._settings.remote is None or self._target is not None:
            return current
        wanted = layout.parse_remote(self._settings.remote, self._root)
        if current is None or current.url != wanted.url:
            self._write_remote(wanted)
        return self._configured_remote()

    def _write_remote(self, remote: layout.Remote) -> None:
        if remote.folder is not None:
            # Made now, so that a remote that is gone later is known to be gone: DVC would silently
            # make a new one in the empty mount point of a disk. If it can't be made, the push says so.
            with contextlib.suppress(OSError):
                remote.folder.mkdir(parents=True, exist_ok=True)
        layout.write_remote(self._session.repo_root() or layout.init_repo(self._root), remote)


def _via(place: Path, whole: Path) -> str:
    return f" (it is a link to {whole})" if re.sub(r"/+$", "", str(place)) != str(whole) else ""
