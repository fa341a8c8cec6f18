"""Every test runs in a home of its own, without telemetry, and leaves no process behind.

Folders that are full or read-only are made of real file systems where the machine lets us.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from xdist.scheduler import LoadScopeScheduling

from modelyard.processes import child_env

#: Carried by everything that tests start; each worker of pytest-xdist has its own value.
_MARK = "MODELYARD_TEST_SESSION"
_GIT = "[user]\n\tname = Tester\n\temail = tester@example.org\n[init]\n\tdefaultBranch = main\n"


def _set_up() -> None:
    """At import, because test modules read the environment when they are collected."""
    # What a shell starts in the background ignores Ctrl-C, and so would everything that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update({k: v for k, v in child_env().items() if k != "PYTHONUNBUFFERED"})
    for name in [name for name in os.environ if name.startswith("MODELYARD_") and name != _MARK]:
        if not name.startswith("MODELYARD_TEST_"):
            del os.environ[name]
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if not worker:
        home = Path(tempfile.mkdtemp(prefix="modelyard-tests-"))
        atexit.register(shutil.rmtree, home, ignore_errors=True)
        (home / ".gitconfig").write_text(_GIT)
        os.environ["MODELYARD_TEST_REAL_HOME"] = os.environ.get("HOME", "")
        os.environ["HOME"] = str(home)
        for name in ("CONFIG", "CACHE", "DATA", "STATE"):
            os.environ[f"XDG_{name}_HOME"] = str(home / name.lower())
        os.environ[_MARK] = home.name
    os.environ[_MARK] = f"{os.environ[_MARK]}{worker}"


_set_up()


class Folder(pytest.Package):
    """A folder of tests, with whose last test its fixtures of scope `package` end.

    pytest takes folders with an `__init__.py` alone for packages; in others such fixtures, and the servers
    behind them, would stay until everything is over, and slow down whatever comes after.
    """

    def setup(self) -> None:
        """There is no `__init__.py` to import."""


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector:
    """Every folder is one."""
    return Folder.from_parent(parent, path=path)


#: Folders whose tests share what takes long to set up, the longest first.
_TOGETHER = ("tests/cluster/", "tests/browser/", "tests/integration/jupyter/")


def _piece(nodeid: str) -> str:
    """What a worker runs in one go: such a folder, or a file."""
    return next((folder for folder in _TOGETHER if nodeid.startswith(folder)), nodeid.partition("::")[0])


class PiecesAtOnce(LoadScopeScheduling):
    """Several pieces run beside each other."""

    def _split_scope(self, nodeid: str) -> str:
        return _piece(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Used where tests run in several workers (`-n`)."""
    config.option.loadscopereorder = False  # the order of `pytest_collection_modifyitems`
    return PiecesAtOnce(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest pieces are first, or one worker would be at it alone in the end."""
    order = {folder: place for place, folder in enumerate(_TOGETHER)}
    items.sort(key=lambda item: order.get(_piece(item.nodeid), len(order)))


class SaidAtOnce:
    """Failures are named when they happen: of a run that is cut off there is no end that would."""

    def __init__(self, terminal: Any) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._terminal.write_line(f"\nfailed in {report.when}: {report.nodeid}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """In the process that prints."""
    if not hasattr(config, "workerinput") and (
        terminal := config.pluginmanager.get_plugin("terminalreporter")
    ):
        config.pluginmanager.register(SaidAtOnce(terminal))


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left_behind() -> Iterator[None]:
    """Ends with an error that names what tests left running, and by which test it was started."""
    yield
    deadline = time.monotonic() + 30
    while (left := _processes()) and time.monotonic() < deadline:
        time.sleep(0.1)
    names = [_described(process) for process in left]
    for process in left:
        process.kill()
    if names:
        pytest.fail("tests left processes running:\n" + "\n".join(names), pytrace=False)


def _processes() -> list[psutil.Process]:
    own = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter(["environ", "status"]):
        marked = (process.info["environ"] or {}).get(_MARK) == os.environ[_MARK]
        if marked and process.pid not in own and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def _described(process: psutil.Process) -> str:
    try:
        test = process.environ().get("PYTEST_CURRENT_TEST", "")
        return f"  {process.pid} {' '.join(process.cmdline())[:150]} (started by {test or 'no test'})"
    except psutil.Error:
        return f"  {process.pid} (ending)"


def _mounted(folder: Path, options: str) -> bool:
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder on a disk of 128 kB, or as large as its parameter says."""
    folder = tmp_path / "small disk"
    if os.geteuid() != 0 or not _mounted(folder, f"size={getattr(request, 'param', '128k')}"):
        pytest.skip("mounting a small tmpfs needs root and the right to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def read_only_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that can't be written: by rights, or for root by a read-only mount."""
    folder = tmp_path / "read only"
    if os.geteuid() != 0:
        folder.mkdir(mode=0o500)
        yield folder
        folder.chmod(0o700)
        return
    if not _mounted(folder, "ro"):
        pytest.skip("root can write everywhere, and may not mount here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
