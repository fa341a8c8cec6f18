"""KServe's `spec.canary`: predictors beside the one, with what they get, in one file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from modelyard.errors import UsageError

V1, V2 = "models:/late-flights/1", "models:/late-flights/2"
NAME = "beside"


def file(project: Any, predictor: str, *canaries: tuple[str, str, int]) -> Path:
    path: Path = project.file(NAME, predictor)
    content = json.loads(path.read_text())
    spec = content["spec"]
    spec["predictor"]["name"] = "stable"
    spec["canary"] = [
        {
            "predictor": {"name": name, "model": {**spec["predictor"]["model"], "storageUri": uri}},
            "trafficPercent": percent,
        }
        for name, uri, percent in canaries
    ]
    path.write_text(json.dumps(content))
    return path


def shares(endpoint: Any) -> dict[str, int]:
    return {revision.version: revision.traffic for revision in endpoint.revisions if revision.traffic}


def test_a_canary_stands_beside_the_predictor_and_takes_its_place(
    project: Any, callers: Any, rows: Any, within: Any
) -> None:
    made = project.server.apply(file(project, V1))
    (first,) = project.family(NAME)
    with callers(made.url, NAME) as asking:
        beside = project.server.apply(file(project, V1, ("next", V2, 30)))
        assert shares(beside) == {"1": 70, "2": 30}
        count = Counter(beside.predict(rows[:1]).version for _ in range(200))
        assert 30 <= count["2"] <= 90, count
        with pytest.raises(UsageError, match="stand in its file"):
            project.server.traffic(NAME, 50)
        dark = project.server.apply(file(project, V1, ("next", V2, 0)))
        assert shares(dark) == {"1": 100}
        assert len(project.family(NAME)) == 2, "it runs without traffic"
        processes = {process.pid for process in project.family(NAME)}
        moved = project.server.apply(file(project, V2))
        assert shares(moved) == {"2": 100}
        assert {process.pid for process in project.family(NAME)} == processes, "it was there already"
    assert asking.failed() == []
    assert first.pid in processes
    assert [revision.version for revision in moved.revisions if revision.traffic] == ["2"]
    project.server.delete(NAME)
    assert project.family(NAME) == []


def test_a_canary_that_fails_takes_nothing_along(project: Any, rows: Any, tmp_path: Path) -> None:
    (tmp_path / "model.skops").write_text("torn")
    project.server.apply(file(project, V1))
    with pytest.raises(Exception, match="can't be loaded"):
        project.server.apply(file(project, V1, ("torn", str(tmp_path), 50)))
    still = project.server.get(NAME)
    assert shares(still) == {"1": 100}
    assert still.predict(rows).version == "1"
    project.server.delete(NAME)
