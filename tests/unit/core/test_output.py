"""What a run prints is kept here, bounded, readable by its owner alone; and never in the way of the run."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path

import pytest

from modelyard import output
from modelyard.errors import NotFoundError
from modelyard.yard import Yard


def test_a_run_keeps_what_it_prints(modelyard_project: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    before = (sys.stdout, sys.stderr)
    with modelyard_project.run("train") as run:
        print("epoch 1", "äöü")
        print("careful", file=sys.stderr)
        assert modelyard_project.runs.logs(run.id) == ["epoch 1 äöü", "careful"]  # while it runs
    print("after it")
    assert (sys.stdout, sys.stderr) == before
    assert modelyard_project.runs.logs(run.id[:12]) == ["epoch 1 äöü", "careful"]
    assert modelyard_project.runs.logs(run.id, lines=1) == ["careful"]
    assert capsys.readouterr().out == "epoch 1 äöü\nafter it\n"
    file = output.file_of(modelyard_project.state, run.id)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_what_ended_a_run_stands_last(modelyard_project: Yard) -> None:
    with pytest.raises(ValueError, match="no rows"), modelyard_project.run("train") as run:
        raise ValueError("no rows")
    lines = modelyard_project.runs.logs(run.id)
    assert (lines[0], lines[-1]) == ("Traceback (most recent call last):", "ValueError: no rows")


def test_a_silent_run_left_nothing(modelyard_project: Yard) -> None:
    with modelyard_project.run("train") as run:
        run.log({"auc": 0.7})
    with pytest.raises(NotFoundError, match="printed nothing, or ran on another machine"):
        modelyard_project.runs.logs(run.id)
    assert not output.file_of(modelyard_project.state, run.id).parent.exists()


def test_runs_within_runs_print_into_both(modelyard_project: Yard) -> None:
    with modelyard_project.run("outer") as outer:
        with modelyard_project.run("inner") as inner:
            print("both")
        print("outer alone")
    assert modelyard_project.runs.logs(inner.id) == ["both"]
    assert modelyard_project.runs.logs(outer.id) == ["both", "outer alone"]


def test_runs_that_end_crosswise_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    first, second = (output.Output(output.file_of(tmp_path, name)) for name in "ab")
    first.begin()
    second.begin()
    first.end(None)
    print("second alone")
    second.end(None)
    assert sys.stdout is before
    print("nobody")
    assert output.read(tmp_path, "b", 9) == ["second alone"]
    assert not output.file_of(tmp_path, "a").exists()
    assert capsys.readouterr().out == "second alone\nnobody\n"


def test_much_output_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_MOST", 10)
    kept = output.Output(output.file_of(tmp_path, "a"))
    for text in ("12345\n", "678901234\n", "never"):
        kept.take(text)
    kept.end(None)
    assert output.read(tmp_path, "a", 9) == ["12345", "6789", "(the rest was not kept)"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_disturbs_no_run(
    modelyard_project: Yard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("modelyard.active.file_of", lambda *_: Path("/dev/full"))
    with modelyard_project.run("train") as run:
        print("goes on")
    assert run.record.status == "finished"
    assert capsys.readouterr().out == "goes on\n"


def test_streams_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stream)
    kept = output.Output(output.file_of(tmp_path, "a"))
    kept.begin()
    try:
        assert (sys.stdout.encoding, sys.stdout.isatty()) == ("latin-1", False)
        sys.stdout.writelines(["one\n", "two\n"])
        sys.stdout.buffer.write(b"past it")
        logging.StreamHandler(sys.stdout).emit(logging.makeLogRecord({"msg": "logged"}))
    finally:
        kept.end(None)
    assert output.read(tmp_path, "a", 9) == ["one", "two", "logged"]
