"""P12, P12a to P12d: what the panel costs a JupyterLab that has it.

A JupyterLab with and one without the panel stand beside each other, each with a browser page of its own;
what is compared is measured in turns. Needs chromium and the built panel.
"""

from __future__ import annotations

import contextlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

_COMMAND = "make bench ARGS=jupyter"
_MANY = 10_000
_TEXT = ("model = fit(table[features], table.late)  # one row " * 2)[:100]
_LIVE = """
import time, modelyard
with modelyard.open().run("live") as run:
    print("running", flush=True)
    for step in range(100_000):
        run.log({"auc": step / 1000}, step=step)
        time.sleep(0.5)
"""


def measure() -> list[dict[str, Any]]:
    """Rows for the table of `run.py`."""
    from playwright.sync_api import sync_playwright
    from tests.browser import conftest as kit

    with tempfile.TemporaryDirectory(prefix="modelyard bench ") as place, sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=kit._CHROMIUM, args=list(kit._FLAGS))
        folder = Path(place)
        rows = [_told(_bundle(kit.EXTENSION / "labextension")), _told(_starts(kit, folder))]
        with _labs(kit, browser, folder) as (ours, peer):
            rows += [_told(part(ours, peer)) for part in (_paint, _idle, _typing)]
        browser.close()
    return rows


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """A row, said as soon as it is known: all of them take minutes."""
    print(f"{row['id']} {row['ratio']} of {row['goal']};", end=" ", file=sys.stderr, flush=True)
    return row


def _row(name: str, what: str, ours: float, peer: float, goal: float) -> dict[str, Any]:
    ratio = round(ours / peer, 3)
    return {
        "id": name,
        "what": what,
        "ours": ours,
        "peer": peer,
        "ratio": ratio,
        "goal": goal,
        "command": _COMMAND,
    }


def _bundle(built: Path) -> dict[str, Any]:
    files = [file for file in (built / "static").iterdir() if file.suffix in (".js", ".css")]
    kilobytes = sum(file.stat().st_size for file in files) / 1000
    return _row("P12", "the panel's production bundle / 150 KB", round(kilobytes, 1), 150, 1.0)


def _starts(kit: Any, folder: Path) -> dict[str, Any]:
    """CPU of a server until it answers."""
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(5):
        for panel in (True, False):
            (home := folder / f"start {number} {panel}").mkdir()
            with contextlib.contextmanager(kit.start_server)(home, home, panel=panel) as server:
                times[panel].append(_cpu(server.pid))
    ours, peer = (statistics.median(times[panel][1:]) for panel in (True, False))
    return _row("P12a", "start of JupyterLab's server with the panel / without, CPU s", ours, peer, 1.03)


@contextlib.contextmanager
def _labs(kit: Any, browser: Any, folder: Path) -> Iterator[tuple[Any, Any]]:
    """The same project in a JupyterLab with the panel and in one without it, both open in a page."""
    from tests.browser.many_runs import make_runs

    project = folder / "trials"
    kit.modelyard("init", str(project))
    make_runs(project, _MANY)
    (many := project / "many").mkdir()
    for number in range(_MANY):
        (many / f"file-{number:05}.txt").touch()
    with contextlib.ExitStack() as stack:
        labs = []
        for panel in (True, False):
            (home := folder / f"home {panel}").mkdir()
            start = contextlib.contextmanager(kit.start_server)
            server = stack.enter_context(start(project, home, panel=panel))
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(120_000)
            labs.append(kit.Lab(page, server))
            _open(labs[-1])
        labs[0].run("modelyard:show-panel")
        labs[0].panel.get_by_text(re.compile(r"^10.?000 runs$")).wait_for()  # the worker has read them all
        yield labs[0], labs[1]


def _open(lab: Any) -> None:
    """JupyterLab as it is first seen, with its file browser."""
    lab.page.goto(f"{lab.server.url}lab?token={lab.server.token}&reset")
    lab.page.locator(".jp-DirListing-item").first.wait_for()
    time.sleep(3)  # it still loads what is not seen


def _paint(ours: Any, peer: Any) -> dict[str, Any]:
    """From the wish to the first rows on the screen, in turns."""
    mine, theirs = [], []
    for _ in range(3):
        _open(ours)
        mine.append(_seconds(ours, "modelyard:show-panel", {}, ".modelyard-RunRow-name[title]"))
        _open(peer)
        many = {"path": "many"}
        theirs.append(_seconds(peer, "filebrowser:go-to-path", many, ".jp-DirListing-item[title*='file-0']"))
    what = f"first rows of {_MANY} runs / file browser with {_MANY} files, s"
    return _row("P12b", what, statistics.median(mine), statistics.median(theirs), 0.5)


def _seconds(lab: Any, command: str, args: dict[str, Any], selector: str) -> float:
    """From a command to the first frame with an element."""
    milliseconds = lab.page.evaluate(
        """([command, args, selector]) => new Promise(done => {
            const began = performance.now();
            const look = () => document.querySelector(selector)
                ? done(performance.now() - began) : requestAnimationFrame(look);
            window.jupyterapp.commands.execute(command, args);
            look();
        })""",
        [command, args, selector],
    )
    return float(milliseconds) / 1000


def _idle(ours: Any, peer: Any) -> dict[str, Any]:
    """Three minutes in which nobody does anything, side by side."""
    _open(peer)
    ours.run("modelyard:show-panel")
    time.sleep(10)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(3):
        before = _cpu(ours.server.pid), _cpu(peer.server.pid)
        time.sleep(60)
        for lab, start, seconds in zip((ours, peer), before, times):
            seconds.append(_cpu(lab.server.pid) - start)
    mine, theirs = (statistics.median(seconds) for seconds in times)
    return _row(
        "P12c", "a visible idle panel / an idle file browser, server CPU s in a minute", mine, theirs, 1.2
    )


def _typing(ours: Any, peer: Any) -> dict[str, Any]:
    """500 characters into a cell, while five runs log."""
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            live = subprocess.Popen(
                [sys.executable, "-c", _LIVE], cwd=ours.server.folder, stdout=subprocess.PIPE, text=True
            )
            stack.callback(live.wait)
            stack.callback(live.kill)
            assert live.stdout is not None
            live.stdout.readline()
        for lab in (ours, peer):
            lab.run("notebook:create-new", {"kernelName": "python3"})
            lab.page.locator(".jp-Notebook .cm-content").first.wait_for()
        ours.run("modelyard:show-panel")
        # Short turns: what else the machine does meanwhile hits both alike.
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(16):
            for lab, seconds in zip((ours, peer), times):
                lab.page.bring_to_front()
                lab.page.locator(".jp-Notebook .cm-content").first.click()
                began = time.monotonic()
                lab.page.keyboard.type(_TEXT)
                seconds.append(time.monotonic() - began)
        mine, theirs = (5 * statistics.median(seconds[1:]) for seconds in times)
    return _row("P12d", "typing 500 characters beside 5 live runs / without the panel, s", mine, theirs, 1.05)


def _cpu(pid: int) -> float:
    """Seconds of a process and of those that it started."""
    import psutil

    whole = psutil.Process(pid)
    times = [one.cpu_times() for one in (whole, *whole.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))
