"""The DVC repository in this process: opened late, used by one at a time, silent, explained.

DVC's own lock gives up after three seconds, also for readers. Our processes therefore queue at a
lock of ours first; what other DVC processes hold is waited for, and then named.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from modelyard.errors import ConfigError, ConflictError, EnvironmentFault, ModelyardError
from modelyard.state import fault_of, locked
from modelyard_dvc import layout

if TYPE_CHECKING:
    from dvc.repo import Repo

T = TypeVar("T")
# Faults of the system that explain what DVC reports as a failure of its own.
_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EMFILE}
_LOGGERS = ("dvc", "dvc_data", "dvc_objects", "scmrepo", "dvc_http", "dvc_s3")
_BARS = ("dvc.progress", "dvc_data.callbacks")  # progress bars show as long as these take errors


class Session:
    """The project's DVC repository. `holding` comes first, `call` inside of it."""

    def __init__(self, root: Path, state: Path, timeout: float) -> None:
        self.root = root
        self._lock = state / "dvc.lock"
        self._timeout = timeout

    def repo_root(self) -> Path | None:
        """The folder of the DVC repository, or None before the first `add`."""
        return layout.find_repo(self.root)

    @contextlib.contextmanager
    def holding(self, doing: str) -> Iterator[None]:
        """Keep other processes and threads of Modelyard from the project's data meanwhile."""
        with locked(self._lock, timeout=self._timeout, doing=doing):
            yield

    def call(self, work: Callable[[Repo], T], remote: layout.Remote | None = None) -> T:
        """What DVC answers, or a `ModelyardError` that says what went wrong.

        Args:
            work: is given the repository.
            remote: that it works with, if any; one of a target is known to DVC for this call alone.

        Raises:
            ConflictError: `locked`: another DVC process works in the repository.
            EnvironmentFault: disk, rights, or a fault that only DVC understands (`dvc-failed`).
        """
        import dvc.repo  # noqa: F401 (before `_quiet`: importing it installs handlers that print)

        deadline = time.monotonic() + self._timeout
        while True:
            said: list[logging.LogRecord] = []
            try:
                with _quiet(said), self._open(remote) as repo:
                    return work(repo)
            except ModelyardError:
                raise
            except Exception as fault:
                kinds = {kind.__name__ for kind in type(fault).__mro__}
                if "LockError" in kinds and "DvcException" in kinds:
                    if time.monotonic() > deadline:
                        raise self._busy(fault) from fault
                    time.sleep(0.1)
                elif kinds & {"RWLockFileCorruptedError", "RWLockFileFormatError"}:
                    self._drop_torn_rwlock(fault)
                else:
                    raise self._explained(fault, said) from fault

    def _open(self, remote: layout.Remote | None) -> Repo:
        """A new one each time (8 ms): an open one misses what happens to its cache behind its back,
        and its databases belong to one thread."""
        os.environ.setdefault("DVC_NO_ANALYTICS", "1")
        from dvc.repo import Repo

        # We stage with git ourselves: DVC's own rewrite of the index takes a second in a repository
        # with many files and fails on index formats that git writes by now.
        core = {"analytics": False, "check_update": False, "autostage": False}
        config: dict[str, Any] = {"core": core}
        if remote is not None and remote.settings:
            layout.require("s3")
            # Newer SDKs add checksums that other servers than Amazon's store as part of the file.
            os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
            config["remote"] = {remote.name: dict(remote.settings)}
        found = self.repo_root()
        if found is None or not layout.is_whole(found):
            found = layout.init_repo(found or self.root)
        return Repo(str(found), config=config)

    def _scratch(self) -> Path:
        return (self.repo_root() or self.root) / ".dvc" / "tmp"

    def _busy(self, fault: Exception) -> ConflictError:
        holder = _holder(self._scratch() / "lock")
        said = str(fault).splitlines()[0]
        who = holder or re.sub(r"\s+", " ", said)
        return ConflictError(
            "locked",
            f"the DVC repository {self.repo_root()} is in use: {who}",
            "wait for it to end, then run this again",
        )

    def _drop_torn_rwlock(self, fault: Exception) -> None:
        """`rwlock` is a scratch list of who works on which path. A torn one stops every command of
        DVC until it is removed by hand; that is safe when nobody is at work."""
        folder = self._scratch()
        file = folder / "rwlock"
        explained = ConflictError(
            "locked",
            f"{file} is damaged, and another DVC process may still be at work",
            f"end it, then remove the scratch file: rm '{file}'",
        )
        with contextlib.ExitStack() as free:
            for name in ("lock", "rwlock.lock"):
                if not free.enter_context(_free(folder / name)):
                    raise explained from fault
            try:
                text = file.read_text(encoding="utf-8", errors="replace")
            except FileNotFoundError:
                return
            if any(_alive(int(pid)) for pid in re.findall(r'"pid":\s*(\d+)', text)):
                raise explained from fault
            file.unlink(missing_ok=True)

    def _explained(self, fault: Exception, logged: list[logging.LogRecord]) -> ModelyardError:
        # DVC counts failed files and only logs why they failed.
        faults = [fault, *(record.exc_info[1] for record in logged if record.exc_info)]
        system = next((f for one in faults for f in _chain(one) if _is_of_the_machine(f)), None)
        said = re.sub(r"\s+", " ", str(fault)).strip() or type(fault).__name__
        kinds = {kind.__name__ for kind in type(fault).__mro__}
        if "OutputAlreadyTrackedError" in kinds:
            path = next(iter(re.findall(r"output '(.*?)'", said)), "the data")
            return ConflictError(
                "data-in-git",
                f"{path} is tracked by git; data is versioned by git or by DVC, not both",
                f"git rm -r --cached '{path}', then run this again",
            )
        if kinds & {"OverlappingOutputPathsError", "OutputDuplicationError", "StagePathAsOutputError"}:
            return ConflictError("data-overlaps", said, "modelyard data status")
        if "FileIsGitIgnored" in kinds:
            return ConfigError(
                "data-file-ignored",
                f"git ignores the .dvc file that stands for the data: {said}",
                "add a line `!*.dvc` to the .gitignore, and ignore `data/*` instead of `data/`",
            )
        if kinds & {"OutputIsIgnoredError", "IgnoreInCollectedDirError"}:
            return ConfigError("data-ignored", said, "edit .dvcignore")
        if "ConfigError" in kinds or "SCMError" in kinds:
            return ConfigError(
                "dvc-config-invalid", f"DVC can't open {self.root}: {said}", "modelyard doctor"
            )
        if system is not None:
            return fault_of(system, self.root)
        return EnvironmentFault("dvc-failed", f"DVC failed: {said}", "modelyard doctor")


class _Collector(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__(logging.WARNING)
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)


@contextlib.contextmanager
def _quiet(records: list[logging.LogRecord]) -> Iterator[None]:
    """Neither prints nor progress bars: what DVC logs goes into `records`."""
    from dvc.ui import ui

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger.propagate, logger.level, logger.handlers) for logger in loggers]
    bars = [logging.getLogger(name) for name in _BARS]
    bars_before = [logger.level for logger in bars]
    collector = _Collector(records)
    console, console_before = ui.error_console, ui.error_console.quiet  # the spinner of `add`
    try:
        console.quiet = True
        for logger in bars:
            logger.setLevel(logging.CRITICAL)
        for logger in loggers:
            logger.propagate = False
            logger.setLevel(logging.WARNING)
            logger.handlers = [collector]  # DVC installs its own, which print, when it is imported
        yield
    finally:
        console.quiet = console_before
        for logger, level in zip(bars, bars_before):
            logger.setLevel(level)
        for logger, (propagate, level, handlers) in zip(loggers, before):
            logger.propagate, logger.handlers = propagate, handlers
            logger.setLevel(level)


def _is_of_the_machine(fault: BaseException) -> bool:
    return isinstance(fault, OSError) and fault.errno in _MACHINE


@contextlib.contextmanager
def _free(lock: Path) -> Iterator[bool]:
    """Whether nobody holds the lock file; while the block runs nobody can take it."""
    if not lock.exists():
        yield True
        return
    with open(lock, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def _holder(lock: Path) -> str:
    """Who holds DVC's lock: it writes its pid into the file."""
    with _free(lock) as free:
        if free:
            return ""
    try:
        pid = int(lock.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return "another process holds its lock"
    return f"process {pid} ({_name(pid)}) holds its lock"


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "dvc"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return pid != os.getpid()


def _chain(fault: BaseException | None) -> Iterator[Any]:
    seen: set[int] = set()
    while fault is not None and id(fault) not in seen:
        seen.add(id(fault))
        yield fault
        fault = fault.__cause__ or fault.__context__
