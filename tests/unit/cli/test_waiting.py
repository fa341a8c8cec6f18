"""What is said on a terminal while something is waited for."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import pytest

from modelyard import console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shows(terminal: Terminal, text: str) -> bool:
    return within(lambda: text in terminal.getvalue())


def within(check: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not check() and time.monotonic() < deadline:
        time.sleep(0.02)
    return check()


def test_what_is_waited_for_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)  # not in a fixture: pytest puts its own there afterwards
    monkeypatch.setenv("TERM", "xterm")
    with console.waiting("applying [late].yaml"):
        assert shows(terminal, "applying [late].yaml")
        console.doing("fetching s3://models/late: 1.0 MB of 2.0 MB")
        assert shows(terminal, "fetching s3://models/late: 1.0 MB of 2.0 MB")
    console.doing("nobody waits")
    assert "nobody waits" not in terminal.getvalue()


def test_where_nobody_looks_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with console.waiting("applying late.yaml"):
        console.doing("fetching")
    assert capsys.readouterr() == ("", "")
