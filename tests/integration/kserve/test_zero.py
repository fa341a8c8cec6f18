"""Models that are ended when nobody asks, and come back for whoever does."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

V1, V2 = "models:/late-flights/1", "models:/late-flights/2"
NAME = "sleepy"


def file(project: Any, name: str, uri: str, window: str = "6s", **predictor: Any) -> Path:
    """An InferenceService without a replica that stays."""
    path: Path = project.file(name, uri)
    content = json.loads(path.read_text())
    content["metadata"]["annotations"] = {"autoscaling.knative.dev/window": window}
    content["spec"]["predictor"] |= {"minReplicas": 0, **predictor}
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def body(rows: Any) -> bytes:
    return json.dumps({"instances": rows}).encode()


def test_an_idle_model_is_ended_and_no_request_is_lost_when_it_is_woken(
    project: Any, within: Any, post: Any, body: bytes
) -> None:
    made = project.server.apply(file(project, NAME, V1))
    assert made.predict([{"temp": 1.0, "stops": 1}]).version == "1"
    assert len(project.family(NAME)) == 1
    assert within(60, lambda: project.family(NAME) == []), "nobody asks, but it stays"
    assert project.server.get(NAME).ready, "what sleeps is ready: it answers who asks"
    path = f"/v1/models/{NAME}:predict"
    with ThreadPoolExecutor(50) as pool:
        got = list(pool.map(lambda _: post(made.url, path, body), range(200)))
    assert [said for status, _, said in got if status != 200] == []
    assert {headers["X-Modelyard-Version"] for _, headers, _ in got} == {"1"}
    assert len(project.family(NAME)) == 1


def test_what_slept_sleeps_on_after_down_and_up(project: Any, within: Any, rows: Any) -> None:
    assert within(60, lambda: project.family(NAME) == [])
    project.down()
    project.up()
    assert within(60, lambda: project.server.get(NAME).ready)
    assert project.family(NAME) == []
    assert project.server.get(NAME).predict(rows).version == "1"


def test_a_sleeping_model_is_replaced_by_the_next_version(project: Any, within: Any, rows: Any) -> None:
    assert within(60, lambda: project.family(NAME) == [])
    moved = project.server.apply(file(project, NAME, V2))
    assert moved.predict(rows).version == "2"
    project.server.delete(NAME)
    assert project.family(NAME) == []


def test_one_that_can_not_come_back_says_why_at_once(
    project: Any, samples: Any, within: Any, post: Any, body: bytes, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    samples["1"].folder.rename(folder)
    try:
        uri = f"models:/lost/{project.shelf.put('lost', folder).version.version}"
        made = project.server.apply(file(project, "lost", uri))
        assert within(60, lambda: project.family("lost") == [])
    finally:
        folder.rename(samples["1"].folder)
    status, headers, said = post(made.url, "/v1/models/lost:predict", body, seconds=30)
    assert status == 503
    assert headers["Retry-After"]
    assert "is gone" in json.loads(said)["error"]
    project.server.delete("lost")


def test_an_answer_that_takes_too_long_is_given_up(new_project: Any, post: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.pkl").write_bytes(b"cslow_package\nModel\n)R.")
    (tmp_path / "slow_package.py").write_text(
        "import time\n"
        "class Model:\n"
        "    def predict(self, rows):\n"
        "        time.sleep(3 * (rows[0][0] == 3))\n"
        "        return rows\n"
    )
    project = new_project(trust_pickle=True)
    path = project.file("slow", str(folder), env=[{"name": "PYTHONPATH", "value": str(tmp_path)}])
    content = json.loads(path.read_text())
    content["spec"]["predictor"]["timeout"] = 1
    path.write_text(json.dumps(content))
    made = project.server.apply(path)
    status, _, said = post(made.url, "/v1/models/slow:predict", b'{"instances": [[3]]}')
    assert (status, json.loads(said)) == (504, {"error": "the model did not answer in time"})
    project.server.delete("slow")
