"""What a long command says, and how it ends early."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from modelyard_sandbox.folder import SandboxFolder
from modelyard_sandbox.progress import Progress


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SandboxFolder:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    found = SandboxFolder("trial")
    found.prepare()
    return found


def events(folder: SandboxFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder.path / "events.jsonl").read_text().splitlines()]


def test_json_lines_are_numbered_and_kept(folder: SandboxFolder, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(folder, as_json=True)
    with progress.phase("images", "loading"):
        progress.bytes("images", 1, 2)
        progress.component("s3", "installing", "its pods")
        progress.component("s3", "installing", "its pods")
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["seq"] for event in said] == [1, 2, 3, 4]
    assert [event["type"] for event in said] == [
        "phase.started",
        "phase.progress",
        "component",
        "phase.finished",
    ]
    assert (said[1]["bytes"], said[1]["total"]) == (1, 2)
    assert [event["type"] for event in events(folder)] == ["phase.started", "component", "phase.finished"]


def test_bytes_are_told_at_the_start_now_and_then_and_at_the_end(
    folder: SandboxFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(folder, as_json=True)
    for done in range(1, 1001):
        progress.bytes("images", done, 1000)
    told = [json.loads(line)["bytes"] for line in capsys.readouterr().out.splitlines()]
    assert (told[0], told[-1]) == (1, 1000)
    assert len(told) < 100


def test_plain_words_where_nobody_watches(folder: SandboxFolder, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(folder)
    progress.emit("warning", "be careful", phase="preflight")
    progress.component("s3", "ready")
    assert capsys.readouterr().err == "warning: preflight: be careful\ns3: ready\n"


def test_the_table_shows_state_wait_time_and_bytes(folder: SandboxFolder) -> None:
    from rich.console import Console

    progress = Progress(folder)
    progress.set("images", "running", "loading [what] lacks")
    progress.bytes("images", 1_000_000, 4_000_000)
    progress.set("s3", "failed", "")
    console = Console(width=100, record=True)
    console.print(progress._table())
    text = console.export_text()
    assert "1.0 MB of 4.0 MB" in text
    assert "loading [what] lacks" in text
    assert "failed" in text


SCRIPT = """
import sys, threading, time
from pathlib import Path
import click
from modelyard.errors import ModelyardError
from modelyard_sandbox.folder import SandboxFolder
from modelyard_sandbox.interruption import reported
from modelyard_sandbox.progress import Progress

folder = SandboxFolder("trial"); folder.prepare()
progress = Progress(folder, as_json=True)

def begin(): print("begun", flush=True)

try:
    with reported(progress):
        BODY
except click.exceptions.Exit as end:
    sys.exit(end.exit_code)
"""


def run(tmp_path: Path, body: str, *signals: int) -> tuple[int, list[dict[str, Any]], str]:
    code = textwrap.dedent(SCRIPT).replace("BODY", body)
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        for place, number in enumerate(signals, start=1):
            process.send_signal(number)
            if place < len(signals):  # two at once are one to the system
                assert process.stdout.readline() == "stopping\n"
        # `communicate` would miss what the reader has taken with the first line.
        assert process.stderr is not None
        out, err = process.stdout.read(), process.stderr.read()
        process.wait(timeout=60)
    return process.returncode, [json.loads(line) for line in out.splitlines() if line[:1] == "{"], err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_ends_it_with_the_last_event(tmp_path: Path, number: int, status: int) -> None:
    ended, said, err = run(tmp_path, "begin(); time.sleep(60)", number)
    assert ended == status
    assert said[-1]["type"] == "result"
    assert (said[-1]["ok"], said[-1]["exit_status"]) == (False, status)
    assert "the same command goes on" in err
    assert "Traceback" not in err


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    body = """try:
            begin()
            time.sleep(60)
        finally:
            print('stopping', flush=True)
            time.sleep(60)"""
    ended, _, _ = run(tmp_path, body, signal.SIGINT, signal.SIGINT)
    assert ended == 130


def test_a_fault_is_the_last_event_and_shows_its_evidence(tmp_path: Path) -> None:
    body = "begin(); raise ModelyardError('broken', 'it is broken', 'mend it', details={'evidence': ['why']})"
    ended, said, err = run(tmp_path, body)
    assert ended == 1
    assert [event["type"] for event in said] == ["error", "result"]
    assert (said[0]["code"], said[0]["hint"]) == ("broken", "mend it")
    assert "  why\n" in err
