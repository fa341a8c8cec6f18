"""Moving versions between cache, remote and working tree, with every byte looked at."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from modelyard.errors import (
    ConfigError,
    ConflictError,
    CorruptStateError,
    EnvironmentFault,
    ModelyardError,
    NotFoundError,
)
from modelyard_dvc import layout, objects
from modelyard_dvc.dvcfiles import Tracked
from modelyard_dvc.layout import Remote
from modelyard_dvc.memory import Memory, fingerprint
from modelyard_dvc.objects import Content, Damaged, Entry
from modelyard_dvc.session import Session
from modelyard_dvc.upload import Upload

if TYPE_CHECKING:
    from dvc.repo import Repo

T = TypeVar("T")


class Transfer:
    """Works inside `Session.holding`, except for what only reads."""

    def __init__(self, root: Path, session: Session, memory: Memory) -> None:
        self._root = root
        self._session = session
        self._memory = memory

    def read_cache(self, item: Tracked) -> Content:
        """Read the version in the cache once, checking all of it.

        Raises:
            Damaged: an object holds other bytes.
            FileNotFoundError: the cache lacks an object.
        """
        cache = self._cache()
        listed = objects.entries(item.version, cache)
        if listed is None:
            raise FileNotFoundError(objects.object_path(cache, item.version))
        return objects.content(cache, listed)

    def kept_size(self, item: Tracked) -> int | None:
        """Bytes of the version in the cache; None unless all of it is there. Reads no contents."""
        cache = self._cache()
        try:
            listed = objects.entries(item.version, cache)
        except Damaged:
            return None
        return None if listed is None else objects.total_size(cache, listed)

    def set_damaged_aside(self, item: Tracked) -> None:
        """Clear the cache of what is damaged in this version, so that it can be stored anew."""
        cache = self._cache()
        try:
            listed = objects.entries(item.version, cache) or []
        except Damaged as fault:
            self._memory.set_aside(fault.path)
            return
        for bad in list(objects.damaged(cache, listed)):
            self._memory.set_aside(bad.path)

    def version_of(self, whole: Path, item: Tracked) -> str:
        """The version that DVC would give to the file or folder as it lies there."""
        if item.legacy:
            raise _legacy(item)

        def work(repo: Repo) -> str:
            from dvc.ignore import DvcIgnoreFilter
            from dvc_data.hashfile.build import build

            # Not `Repo.status`: that waits for DVC's lock and fails while anybody else works.
            ignore = DvcIgnoreFilter(repo.fs, repo.root_dir)
            cache = repo.cache.local
            _, _, found = build(cache, str(whole), repo.fs, "md5", ignore=ignore, dry_run=True)
            return str(found.hash_info.value)

        return self._session.call(work)

    def is_published(self, item: Tracked, remote: Remote) -> bool:
        """True when the remote was seen to hold all of it; a folder is looked at again (sizes only)."""
        if not self._memory.is_published(remote.public, item.version):
            return False
        if remote.folder is None:
            return True
        store = _store(remote)
        try:
            listed = objects.entries(item.version, store)
        except (Damaged, CorruptStateError, OSError):
            return False
        return listed is not None and objects.total_size(store, listed) == self._size(item)

    def reachable(self, remote: Remote | None) -> Remote:
        """The remote, if there is one and it answers.

        Raises:
            ConfigError: `no-remote`.
            EnvironmentFault: `remote-unreachable`.
        """
        if remote is None:
            raise ConfigError(
                "no-remote", "the project has no remote for data", "modelyard data remote FOLDER-OR-URL"
            )
        if remote.folder is not None and not remote.folder.is_dir():
            raise EnvironmentFault(
                "remote-unreachable",
                f"the remote {remote.folder} is not there",
                f"mount or make it (mkdir -p '{remote.folder}'), or: modelyard data remote ANOTHER",
            )
        if remote.bucket is not None:
            with _s3_errors():
                remote.bucket.require()
        return remote

    def lacking(self, chosen: Sequence[Tracked], remote: Remote) -> list[int | None]:
        """Bytes of each version that the remote lacks; None: this machine lacks them, too."""
        wanted = self._wanted(chosen, remote)
        sizes = (objects.sizes(self._cache(), wanted[item]) if item in wanted else None for item in chosen)
        return [None if found is None else sum(found) for found in sizes]

    def publish(
        self, chosen: Sequence[Tracked], remote: Remote, progress: Callable[[int], None]
    ) -> list[Tracked]:
        """Copy what the remote lacks and this machine has; returns those of which the remote holds all."""
        wanted = self._wanted(chosen, remote)
        if remote.bucket is None:
            self.push(list(wanted), remote)
        else:
            self._upload(wanted, remote, progress)
        for item in wanted:
            self._memory.remember_published(remote.public, item.version, True)
        return list(wanted)

    def push(self, chosen: Sequence[Tracked], remote: Remote) -> None:
        """Copy what the remote lacks, then look whether it holds everything, and note the answer."""
        if remote.bucket is not None:
            held = self.publish(chosen, remote, lambda _: None)
            for item in chosen:
                if item not in held:
                    raise _not_here(item)
            return
        fresh = {
            item: self._ready_for_push(item, remote)
            for item in chosen
            if not self.is_published(item, remote) and not self._is_there_only(item, remote)
        }
        for item, listed in fresh.items():
            oids = objects.needed(item.version, listed)
            self._with_remote(remote, partial(self._copy, oids=oids, remote=remote, up=True))
            self._confirm(item, listed, remote)

    def pull(self, chosen: Sequence[Tracked], remote: Remote | None) -> None:
        """Into the cache and checked first, all of them; then into the working tree."""
        checked = {item: self._bring(item, remote) for item in chosen}
        for item, listed in checked.items():
            self._hand_out(item, listed)
        for item, listed in checked.items():
            if remote is not None and not self.is_published(item, remote):
                self._note_whether_published(item, listed, remote)

    def _wanted(self, chosen: Sequence[Tracked], remote: Remote) -> dict[Tracked, set[str]]:
        """The objects of each version that the remote lacks, of those versions that can be completed."""
        needed = {item: self._needed(item) for item in chosen}
        absent = self._absent({oid for oids in needed.values() for oid in oids}, remote)
        nowhere = objects.absent(self._cache(), absent)
        return {item: oids & absent for item, oids in needed.items() if not oids & nowhere}

    def _needed(self, item: Tracked) -> set[str]:
        """The objects of the version; the listing alone where this machine lacks it: it is written last,
        so it stands for all.

        Raises:
            CorruptStateError: `data-corrupt`.
        """
        if item.legacy:
            raise _legacy(item)
        try:
            return objects.needed(item.version, objects.entries(item.version, self._cache()) or ())
        except Damaged as fault:
            raise self._corrupt(item, fault, "cache") from None

    def _absent(self, oids: set[str], remote: Remote) -> set[str]:
        """Those objects that the remote lacks."""
        if remote.folder is not None:
            return objects.absent(_store(remote), oids)
        if remote.bucket is not None:
            with _s3_errors():
                return Upload(self._cache(), remote.bucket).lacking(oids)
        return self._absent_there(oids, remote)

    def _upload(
        self, wanted: Mapping[Tracked, set[str]], remote: Remote, progress: Callable[[int], None]
    ) -> None:
        assert remote.bucket is not None
        oids = {oid for some in wanted.values() for oid in some}
        try:
            with _s3_errors():
                large = Upload(self._cache(), remote.bucket).send(oids, progress)
        except Damaged as fault:
            item = next(item for item, some in wanted.items() if fault.entry.oid in some)
            listed = objects.entries(item.version, self._cache())
            bad = Damaged(fault.path, _entry(listed, {fault.entry.oid}))
            raise self._corrupt(item, bad, "cache") from None
        if large:
            self._with_remote(remote, partial(self._copy, oids=large, remote=remote, up=True))
            if gone := self._absent(large, remote):
                raise _unreachable(remote, f"{len(gone)} files did not arrive")

    def _is_there_only(self, item: Tracked, remote: Remote) -> bool:
        """The remote has all of it and this machine has not, as in a fresh clone: nothing to push."""
        if item.legacy or self.kept_size(item) is not None or remote.folder is None:
            return False
        try:
            listed = objects.entries(item.version, _store(remote))
        except Damaged:
            return False
        return listed is not None and self._note_whether_published(item, listed, remote)

    def _ready_for_push(self, item: Tracked, remote: Remote) -> list[Entry]:
        """The version's files. What lies damaged in a remote folder makes room: DVC would take the
        name of an object for its bytes."""
        if item.legacy:
            raise _legacy(item)
        try:
            listed = objects.entries(item.version, self._cache())
        except Damaged as fault:
            raise self._corrupt(item, fault, "cache") from None
        if listed is None or objects.absent(self._cache(), objects.needed(item.version, listed)):
            raise _not_here(item)
        if remote.folder is not None:
            for bad in list(objects.damaged(_store(remote), _whole(item, listed))):
                self._memory.set_aside(bad.path)
        return listed

    def _confirm(self, item: Tracked, listed: Sequence[Entry], remote: Remote) -> None:
        if self._note_whether_published(item, listed, remote):
            return
        for bad in objects.damaged(self._cache(), listed):
            raise self._corrupt(item, bad, "cache")
        raise EnvironmentFault(
            "remote-unreachable",
            f"{remote.public} does not hold all of {item.path} after the push",
            "look at the remote, then run this again: modelyard data push",
        )

    def _note_whether_published(self, item: Tracked, listed: Sequence[Entry], remote: Remote) -> bool:
        oids = objects.needed(item.version, listed)
        if remote.folder is not None:
            store = _store(remote)
            held = not objects.absent(store, oids) and not any(objects.damaged(store, _whole(item, listed)))
        else:
            held = not self._absent(oids, remote)
        self._memory.remember_published(remote.public, item.version, held)
        return held

    def _bring(self, item: Tracked, remote: Remote | None) -> list[Entry]:
        """Have all of the version in the cache, checked against MD5 and, where known, SHA-256."""
        if item.legacy:
            raise _legacy(item)
        cache = self._cache()
        fetched = self._fetch_what_lacks(item, remote)
        try:
            listed = objects.entries(item.version, cache)
            assert listed is not None
            content = objects.content(cache, listed)
        except Damaged as fault:
            source = "remote" if fault.entry.oid in fetched else "cache"
            raise self._corrupt(item, fault, source) from None
        known = self._memory.content(item.version)
        expected = item.digest or (known.digest if known else content.digest)
        if content.digest != expected:
            raise CorruptStateError(
                "data-corrupt",
                f"{item.path} has the MD5 but not the SHA-256 that was written down; somebody forged it",
                f"compare with a copy that you trust, then: modelyard data add '{item.path}'",
            )
        self._memory.remember_content(item.version, content)
        return listed

    def _fetch_what_lacks(self, item: Tracked, remote: Remote | None) -> set[str]:
        """Fetch from the remote what the cache lacks; returns the names of those objects."""
        fetched: set[str] = set()
        while lacking := self._lacking(item):
            remote = self.reachable(remote)
            if remote.folder is not None:
                self._look_into(item, _store(remote))
            self._with_remote(remote, partial(self._copy, oids=lacking, remote=remote, up=False))
            still = objects.absent(self._cache(), lacking)
            if still:
                raise self._not_fetched(item, still, remote)
            fetched |= lacking  # the listing of a folder first, then its files
        return fetched

    def _lacking(self, item: Tracked) -> set[str]:
        cache = self._cache()
        try:
            listed = objects.entries(item.version, cache)
        except Damaged as fault:
            raise self._corrupt(item, fault, "cache") from None
        if listed is None:
            return {item.version}
        return objects.absent(cache, objects.needed(item.version, listed))

    def _not_fetched(self, item: Tracked, still: set[str], remote: Remote) -> ModelyardError:
        listed = objects.entries(item.version, self._cache())
        if fault := remote.connection_fault():
            return _unreachable(remote, fault)
        there = set() if remote.folder else still - self._absent(still, remote)
        if there:
            # DVC fetched it, found other bytes, and dropped them again (`verify`).
            where = objects.object_path(Path("files/md5"), sorted(there)[0])
            return self._corrupt(item, Damaged(where, _entry(listed, there)), "remote")
        return self._not_in_remote(item, listed, still)

    def _copy(self, repo: Repo, oids: set[str], remote: Remote, *, up: bool) -> None:
        """Copy objects between cache and remote. Not by `Repo.push` and `fetch`: these remember which
        folders a remote has, ask for none of their files again, and so never repair a loss."""
        from dvc.exceptions import DownloadError, UploadError
        from dvc_data.hashfile.hash_info import HashInfo

        cache, there = repo.cache.local, repo.cloud.get_remote_odb(remote.name)
        source, target = (cache, there) if up else (there, cache)
        # A folder of this machine was and will be read by us; bytes from afar are checked at once.
        done = repo.cloud.transfer(
            source,
            target,
            {HashInfo("md5", oid) for oid in oids},
            cache_odb=cache,
            verify=remote.folder is None,
        )
        if done.failed:
            raise (UploadError if up else DownloadError)(len(done.failed))

    def _look_into(self, item: Tracked, store: Path) -> None:
        """Check what a remote folder holds before DVC does: it deletes damaged objects there, and
        then says that they are missing."""
        cache = self._cache()
        try:
            listed = objects.entries(item.version, cache) or objects.entries(item.version, store)
            if listed is None:
                raise self._not_in_remote(item, None, {item.version})
            lacking = objects.absent(cache, objects.needed(item.version, listed))
            gone = objects.absent(store, lacking)
            if gone:
                raise self._not_in_remote(item, listed, gone)
            for fault in objects.damaged(store, [e for e in listed if e.oid in lacking]):
                raise fault
        except Damaged as fault:
            raise self._corrupt(item, fault, "remote") from None

    def _hand_out(self, item: Tracked, listed: Sequence[Entry]) -> None:
        whole = self._root / item.path
        self._memory.sweep(self._root)
        try:
            with self._memory.writing(item.path):
                self._session.call(lambda repo: repo.checkout([str(item.file)]))
        except ModelyardError as fault:
            if "unsaved files" in fault.message:
                raise ConflictError(
                    "data-modified",
                    f"{item.path} was changed since it was added; a pull would lose that",
                    f"keep it: modelyard data add '{item.path}', or remove it, then run this again",
                ) from fault
            raise
        now = fingerprint(whole)
        wrong = next(objects.differing(whole, listed), None)
        if wrong is not None:
            raise CorruptStateError(
                "data-corrupt",
                f"{whole / wrong if wrong else whole} does not hold what was checked out",
                f"remove it, then: modelyard data pull '{item.name}'",
            )
        self._memory.remember_seen(item.path, item.version, now)

    def _with_remote(self, remote: Remote, work: Callable[[Repo], T]) -> T | None:
        """What DVC does with the remote. That single files failed is no answer: the caller looks
        which, and why; all other failures are the remote's.

        Raises:
            EnvironmentFault: `remote-unreachable`, `disk-full`, `read-only`.
        """
        try:
            return self._session.call(work, remote)
        except EnvironmentFault as fault:
            if fault.code != "dvc-failed":
                raise
            if re.search(r"\d+ files failed to (up|down)load", fault.message):
                return None
            raise _unreachable(remote, fault.message.removeprefix("DVC failed: ")) from fault

    def _absent_there(self, oids: set[str], remote: Remote) -> set[str]:
        """Those objects that a remote behind a URL lacks."""

        def ask(repo: Repo) -> set[str]:
            return set(repo.cloud.get_remote_odb(remote.name).list_oids_exists(sorted(oids)))

        return oids - (self._with_remote(remote, ask) or set())

    def _corrupt(self, item: Tracked, fault: Damaged, source: str) -> CorruptStateError:
        inner = f"{item.path}/{fault.entry.path}" if fault.entry.path else item.path
        cached = fault.path.is_relative_to(self._cache())
        if cached:
            self._memory.set_aside(fault.path)
        hint = (
            f"the damaged copy was put aside; take another: modelyard data pull '{item.name}'"
            if source == "cache"
            else f"where the good file still is: modelyard data add '{item.path}' && modelyard data push"
        )
        return CorruptStateError(
            "data-corrupt",
            f"the {source} holds other bytes of {inner} than were stored ({fault.path})",
            hint,
            details={"file": inner, "object": str(fault.path)},
        )

    def _not_in_remote(
        self, item: Tracked, listed: Sequence[Entry] | None, lacking: set[str]
    ) -> NotFoundError:
        first = _entry(listed, lacking).path
        inner = f"{item.path}/{first}" if first else item.path
        more = f" and {len(lacking) - 1} more files" if len(lacking) > 1 else ""
        return NotFoundError(
            "data-not-in-remote",
            f"neither this machine nor the remote has the current version of {inner}{more}",
            "where the data still is: modelyard data push",
        )

    def _size(self, item: Tracked) -> int:
        known = self._memory.content(item.version)
        return known.size if known else item.size

    def _cache(self) -> Path:
        return layout.read_config(self._session.repo_root() or self._root).cache


@contextmanager
def _s3_errors() -> Iterator[None]:
    try:
        yield
    except (EnvironmentFault, NotFoundError) as fault:
        if fault.code in ("s3-refused", "s3-unreachable", "bucket-not-found"):
            raise EnvironmentFault("remote-unreachable", fault.message, fault.hint) from fault
        raise


def _not_here(item: Tracked) -> NotFoundError:
    return NotFoundError(
        "data-not-in-cache",
        f"this machine lacks the current version of {item.path}, so it can't be pushed",
        f"modelyard data pull '{item.name}', or take it anew: modelyard data add '{item.path}'",
    )


def _unreachable(remote: Remote, why: str) -> EnvironmentFault:
    return EnvironmentFault(
        "remote-unreachable",
        f"{remote.public}: {why}",
        "check network and credentials, then run this again",
    )


def _store(remote: Remote) -> Path:
    assert remote.folder is not None
    return remote.folder / "files" / "md5"


def _whole(item: Tracked, listed: Sequence[Entry]) -> list[Entry]:
    """The version's files and, for a folder, its listing."""
    return [*listed, Entry("", item.version)] if item.version.endswith(".dir") else list(listed)


def _entry(listed: Sequence[Entry] | None, oids: set[str]) -> Entry:
    return next((entry for entry in listed or () if entry.oid in oids), Entry("", sorted(oids)[0]))


def _legacy(item: Tracked) -> ConfigError:
    return ConfigError(
        "data-file-legacy",
        f"{item.file} was written by DVC 2, which hashes otherwise",
        "dvc cache migrate --dvc-files",
    )
