"""Several replicas of a model: as many as are asked for or needed, replaced when they die or hang."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

V1, V2 = "models:/late-flights/1", "models:/late-flights/2"
#: Sleeps for as many seconds as the row says.
SLEEPER = """
import time
class Model:
    def predict(self, rows):
        time.sleep(max(row[0] for row in rows))
        return rows
"""


def file(project: Any, name: str, uri: str, window: str = "", model: Any = (), **predictor: Any) -> Path:
    path: Path = project.file(name, uri, **dict(model))
    content = json.loads(path.read_text())
    if window:
        content["metadata"]["annotations"] = {"autoscaling.knative.dev/window": window}
    content["spec"]["predictor"] |= predictor
    path.write_text(json.dumps(content))
    return path


def got(url: str, path: str) -> str:
    parts = urlsplit(url)
    with urllib.request.urlopen(f"http://{parts.netloc}{path}", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def answered(url: str, revision: str) -> dict[str, int]:
    """Requests that each replica answered."""
    pattern = rf'modelyard_requests_total{{revision="{revision}",code="200",replica="(.+?)"}} (\d+)'
    return {replica: int(count) for replica, count in re.findall(pattern, got(url, "/metrics"))}


@pytest.fixture(scope="module")
def sleeper(new_project: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A project, and where it finds a model that takes as long as it is told."""
    place = tmp_path_factory.mktemp("sleeper")
    (place / "sleeper_package.py").write_text(SLEEPER)
    folder = place / "model"
    folder.mkdir()
    (folder / "model.pkl").write_bytes(b"csleeper_package\nModel\n)R.")
    env = {"env": [{"name": "PYTHONPATH", "value": str(place)}]}
    return new_project(trust_pickle=True), str(folder), env


def test_three_replicas_share_the_requests_and_two_of_them_go_without_a_failure(
    project: Any, callers: Any, within: Any
) -> None:
    made = project.server.apply(file(project, "three", V1, minReplicas=3))
    assert within(60, lambda: len(project.family("three")) == 3)
    with callers(made.url, "three") as asking:
        assert within(60, lambda: len(answered(made.url, "three-00001")) == 3)
        assert "ready: 3 replicas" in got(made.url, "/")
        fewer = project.server.apply(file(project, "three", V1, minReplicas=1))
        assert within(60, lambda: len(project.family("three")) == 1)
        more = project.server.apply(file(project, "three", V1, minReplicas=2))
        assert within(60, lambda: len(project.family("three")) == 2)
    assert asking.failed() == []
    assert fewer.predict([{"temp": 1.0, "stops": 1}]).version == "1"
    assert more.ready


def test_one_that_is_killed_leaves_its_requests_to_the_others(
    project: Any, callers: Any, within: Any
) -> None:
    made = project.server.apply(file(project, "three", V1, minReplicas=3))
    assert within(60, lambda: len(project.family("three")) == 3)
    with callers(made.url, "three") as asking:
        assert within(60, lambda: len(asking.answers) > 50)
        for _ in range(2):
            victim = project.family("three")[0]
            victim.kill()
            assert within(60, lambda: len(project.family("three")) == 3)
            time.sleep(0.5)
    lost = asking.failed()
    assert len(lost) <= 2 * 4, "more than what the two were working on"
    assert all("ended while it answered" in said for _, _, said in lost), lost
    project.server.delete("three")
    assert project.family("three") == []


def test_replicas_come_with_the_load_and_go_without(sleeper: Any, post: Any, within: Any) -> None:
    project, folder, env = sleeper
    busy = {"minReplicas": 1, "maxReplicas": 3, "scaleTarget": 2}
    made = project.server.apply(file(project, "busy", folder, "6s", env, **busy))
    assert len(project.family("busy")) == 1
    ended = time.monotonic() + 60

    def ask(_: int) -> set[int]:
        seen = set()
        while len(project.family("busy")) < 3 and time.monotonic() < ended:
            seen.add(post(made.url, "/v1/models/busy:predict", b'{"instances": [[0.3]]}')[0])
        return seen

    with ThreadPoolExecutor(6) as pool:
        assert set().union(*pool.map(ask, range(6))) == {200}
    assert len(project.family("busy")) == 3, "six at once are too many for one"
    assert within(60, lambda: len(project.family("busy")) == 1)
    project.server.delete("busy")


def test_a_model_that_hangs_is_started_again(sleeper: Any, post: Any, within: Any) -> None:
    project, folder, env = sleeper
    made = project.server.apply(file(project, "hangs", folder, model=env, timeout=2))
    (before,) = project.family("hangs")
    path = "/v1/models/hangs:predict"
    assert post(made.url, path, b'{"instances": [[600]]}')[0] == 504
    assert within(60, lambda: post(made.url, path, b'{"instances": [[0]]}')[0] == 200)
    (after,) = project.family("hangs")
    assert after.pid != before.pid
    log = project.context.state.parent / "logs" / "serving.log"
    said = "it finished nothing within 2 s, so it is started again"
    assert within(60, lambda: said in log.read_text())
    project.server.delete("hangs")


def test_an_answer_that_takes_its_time_is_given_though_its_replica_leaves(
    sleeper: Any, post: Any, within: Any
) -> None:
    project, folder, env = sleeper
    made = project.server.apply(file(project, "leaves", folder, model=env, minReplicas=2))
    assert within(60, lambda: len(project.family("leaves")) == 2)
    with ThreadPoolExecutor(2) as pool:
        asked = [
            pool.submit(post, made.url, "/v1/models/leaves:predict", b'{"instances": [[9]]}') for _ in "12"
        ]
        time.sleep(0.5)
        project.server.apply(file(project, "leaves", folder, model=env, minReplicas=1))
        assert [task.result()[0] for task in asked] == [200, 200]
    assert within(60, lambda: len(project.family("leaves")) == 1)
    project.server.delete("leaves")


def test_one_that_is_woken_while_it_is_put_to_sleep_stays(project: Any, within: Any, rows: Any) -> None:
    made = project.server.apply(file(project, "woken", V1, "6s", minReplicas=0))
    stayed = False
    for _ in range(5):  # it stays for two seconds, in which a busy machine may not come to asking
        assert within(60, lambda: len(project.family("woken")) == 1)
        (before,) = project.family("woken")
        assert within(60, lambda: "asleep: the next request wakes it" in got(made.url, "/"))
        assert made.predict(rows).version == "1"
        time.sleep(3)
        stayed = [process.pid for process in project.family("woken")] == [before.pid]
        if stayed:
            break
    assert stayed, "it was ended although somebody asked"
    project.server.delete("woken")


def test_a_retired_revision_that_is_wanted_again_at_once_stays(
    project: Any, callers: Any, within: Any
) -> None:
    first = project.server.apply(file(project, "back", V1))
    (before,) = project.family("back")
    project.server.apply(file(project, "back", V2))
    proba = {"env": [{"name": "PREDICT_PROBA", "value": "true"}]}
    project.server.apply(file(project, "back", V2, model=proba))
    with callers(first.url, "back") as asking:
        back = project.server.apply(file(project, "back", V1))
        now = time.monotonic()
        assert back.ready
        time.sleep(3)
    assert before.pid in [process.pid for process in project.family("back")]
    assert asking.failed() == []
    assert asking.versions(since=now + 0.5) == {"1"}
    project.server.delete("back")
