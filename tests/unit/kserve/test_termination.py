"""The last words of a program in a pod."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelyard_kserve.cluster import initializer, termination


def test_they_are_in_the_log_and_in_the_pods_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "termination-log"
    file.touch()
    monkeypatch.setattr(termination, "_LAST_WORDS", file)
    termination.say("model server", "it is gone" + "!" * 5000)
    assert capsys.readouterr().out.startswith("model server: it is gone")
    assert file.read_text().startswith("it is gone")
    assert file.stat().st_size <= 4096


def test_outside_of_pods_no_file_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(termination, "_LAST_WORDS", tmp_path / "termination-log")
    termination.say("model server", "it is gone")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [[], ["s3://a"], ["s3://a", "/b", "s3://c"]])
def test_the_initializer_takes_pairs(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert initializer.main(arguments) == 2
    assert "pairs" in capsys.readouterr().out
