"""What a long command says: JSON lines for programs, a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal

from modelyard.console import size
from modelyard_sandbox.folder import SandboxFolder

Kind = Literal[
    "phase.started",
    "phase.progress",
    "phase.finished",
    "check",
    "component",
    "log",
    "warning",
    "error",
    "result",
]


@dataclass
class _Line:
    """A row of the live table."""

    state: str = "waiting"
    doing: str = ""
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None
    bytes: int = 0
    total: int = 0
    told: float = 0.0

    @property
    def elapsed(self) -> float:
        return (self.ended or time.monotonic()) - self.began


class Progress:
    """Where phases and components report to. Safe to use from several threads.

    Args:
        folder: keeps everything that was said in `events.jsonl`.
        as_json: JSON Lines on stdout instead of words on stderr.
        quiet: keep what is said in the file alone.
    """

    def __init__(self, folder: SandboxFolder, *, as_json: bool = False, quiet: bool = False) -> None:
        self._folder, self._json, self._quiet = folder, as_json, quiet
        self._run = secrets.token_hex(4)
        self._seq = 0
        self._lock = threading.RLock()
        self._lines: dict[str, _Line] = {}
        self._live: Any = None
        self.moved = time.monotonic()

    # -- saying things ----------------------------------------------------------------------

    def emit(
        self, kind: Kind, message: str = "", *, phase: str = "", component: str = "", **data: Any
    ) -> None:
        """One event.

        Args:
            kind: what it is.
            message: a sentence for people.
            phase: the phase that it belongs to.
            component: the component that it belongs to.
            data: `bytes`, `total`, `code` and other facts.
        """
        with self._lock:
            self._seq += 1
            event = {
                "v": 1,
                "ts": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
                "run": self._run,
                "seq": self._seq,
                "type": kind,
                "phase": phase,
                "component": component,
                "msg": message,
                **data,
            }
            if kind != "phase.progress":
                self._folder.append_event(event)
            if self._quiet:
                return
            if self._json:
                print(json.dumps(event, ensure_ascii=False), flush=True)
            elif self._live is None and message and kind not in ("phase.progress", "result", "error"):
                self._say(kind, component or phase, message)

    @contextlib.contextmanager
    def phase(self, name: str, doing: str) -> Iterator[None]:
        """A phase, from its start to its end."""
        self.emit("phase.started", doing, phase=name)
        self.set(name, "running", doing)
        began = time.monotonic()
        try:
            yield
        except BaseException:
            self.set(name, "failed")
            raise
        self.set(name, "done", "")
        self.emit("phase.finished", "", phase=name, seconds=round(time.monotonic() - began, 1))

    def set(self, name: str, state: str, doing: str | None = None) -> None:
        """The state of a phase or component, and what it waits for."""
        with self._lock:
            line = self._lines.setdefault(name, _Line())
            if (state, doing) != (line.state, line.doing):
                self.moved = time.monotonic()
            if line.state != state:
                line.ended = time.monotonic() if state in ("ready", "done", "failed", "unchanged") else None
            line.state = state
            if doing is not None:
                line.doing = doing

    def component(self, name: str, state: str, waits_for: str = "") -> None:
        """A component's state; said once when it changes."""
        with self._lock:
            line = self._lines.get(name)
            changed = line is None or (line.state, line.doing) != (state, waits_for)
            self.set(name, state, waits_for)
            if changed:
                said = f"{state}: {waits_for}" if waits_for else state
                self.emit("component", said, component=name, state=state, waits_for=waits_for)

    def bytes(self, name: str, done: int, total: int) -> None:
        """How much of something has been moved; programs are told twice a second, and of the end."""
        with self._lock:
            now = time.monotonic()
            line = self._lines.setdefault(name, _Line())
            if done != line.bytes:
                self.moved = now
            line.bytes, line.total = done, total
            if now - line.told < 0.5 and done != total:
                return
            line.told = now
        self.emit("phase.progress", phase=name, bytes=done, total=total)

    # -- the live table ---------------------------------------------------------------------

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """Draw the table on a terminal while the block runs."""
        if (
            self._json
            or self._quiet
            or not sys.stderr.isatty()
            or os.environ.get("CI")
            or os.environ.get("NO_COLOR")
        ):
            yield
            return
        from rich.console import Console
        from rich.live import Live

        with Live(
            get_renderable=self._table, console=Console(stderr=True), refresh_per_second=4
        ) as self._live:
            try:
                yield
            finally:
                self._live.update(self._table(), refresh=True)
        self._live = None

    def _table(self) -> Any:
        from rich.table import Table

        drawn = Table(box=None, pad_edge=False, header_style="bold")
        for header in ("", "state", "waits for", "time", "moved"):
            drawn.add_column(header, no_wrap=header in ("", "state"))
        colours = {"failed": "red", "ready": "green", "done": "green", "unchanged": "green"}
        with self._lock:
            for name, line in self._lines.items():
                moved = f"{size(line.bytes)} of {size(line.total)}" if line.total else ""
                colour = colours.get(line.state, "yellow")
                doing = line.doing.replace("[", r"\[")
                drawn.add_row(name, f"[{colour}]{line.state}[/]", doing, f"{line.elapsed:.0f} s", moved)
        return drawn

    @staticmethod
    def _say(kind: str, where: str, message: str) -> None:
        start = f"{kind}: " if kind in ("warning", "error") else ""
        print(f"{start}{where + ': ' if where else ''}{message}", file=sys.stderr, flush=True)
