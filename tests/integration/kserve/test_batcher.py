"""Endpoints that gather the requests of many callers, as callers see them."""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

#: Refuses negative numbers; is loaded as a pickle.
PICKY = """
class Model:
    def predict(self, rows):
        if (rows < 0).any():
            raise ValueError(f"{len(rows)} rows, one is negative")
        return rows[:, 0] * 2
"""


def apply(project: Any, name: str, uri: str, batcher: dict[str, int], **model: Any) -> Any:
    file: Path = project.file(name, uri, **model)
    content = json.loads(file.read_text())
    content["spec"]["predictor"]["batcher"] = batcher
    file.write_text(json.dumps(content))
    return project.server.apply(file)


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What the calls give, which begin together."""
    gate = threading.Barrier(len(calls))

    def called(call: Callable[[], Any]) -> Any:
        gate.wait(20)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(called, calls))


def batches(url: str, revision: str) -> tuple[int, int]:
    """How many calls the model has had, and how many rows they had together."""
    parts = urlsplit(url)
    with urllib.request.urlopen(f"http://{parts.netloc}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    said = dict(re.findall(rf'modelyard_batch_rows_(count|sum){{revision="{revision}".*}} ([0-9.]+)', text))
    return int(said["count"]), int(float(said["sum"]))


NAME = "gathered"
PREDICT, INFER = f"/v1/models/{NAME}:predict", f"/v2/models/{NAME}/infer"
LENGTH = "Inference-Header-Content-Length"


def v1(temp: float) -> tuple[str, bytes, dict[str, str]]:
    return PREDICT, json.dumps({"instances": [{"temp": temp, "stops": 1}]}).encode(), {}


def v2(temp: float, *, binary: bool = False) -> tuple[str, bytes, dict[str, str]]:
    given: dict[str, tuple[str, Any]] = {
        "temp": ("FP64", np.array([temp])),
        "stops": ("INT64", np.array([1])),
    }
    inputs: list[dict[str, Any]] = [
        {"name": name, "shape": [1], "datatype": datatype} for name, (datatype, _) in given.items()
    ]
    for tensor, (_, values) in zip(inputs, given.values()):
        tensor |= {"parameters": {"binary_data_size": 8}} if binary else {"data": values.tolist()}
    head = json.dumps({"id": f"{temp}", "inputs": inputs}).encode()
    if not binary:
        return INFER, head, {}
    return INFER, head + b"".join(v.tobytes() for _, v in given.values()), {LENGTH: str(len(head))}


def test_many_callers_by_v1_and_v2_are_one_call_of_the_model(project: Any, post: Any, samples: Any) -> None:
    import pandas as pd

    endpoint = apply(project, NAME, "models:/late-flights/1", {"maxBatchSize": 8, "maxLatency": 20_000})
    assert endpoint.message == ""
    temps = [float(3 * n) for n in range(8)]
    wanted = samples["1"].model.predict(pd.DataFrame({"temp": temps, "stops": [1] * 8})).tolist()
    assert len(set(wanted)) == 2
    asked = [v1(temp) for temp in temps[:4]] + [v2(temp) for temp in temps[4:6]]
    asked += [v2(temp, binary=True) for temp in temps[6:]]
    answers = at_once([partial(post, endpoint.url, *one) for one in asked])
    assert [status for status, _, _ in answers] == [200] * 8
    said = [json.loads(text) for _, _, text in answers]
    assert [one["predictions"] for one in said[:4]] == [[answer] for answer in wanted[:4]]
    assert len({one["batchId"] for one in said[:4]}) == 1
    assert [one["id"] for one in said[4:]] == [f"{temp}" for temp in temps[4:]]
    assert [one["outputs"][0]["data"] for one in said[4:]] == [[answer] for answer in wanted[4:]]
    assert batches(endpoint.url, f"{NAME}-00001") == (1, 8)


def test_bad_rows_of_one_caller_are_that_callers_400(new_project: Any, post: Any, tmp_path: Path) -> None:
    (tmp_path / "picky_package.py").write_text(PICKY)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.pkl").write_bytes(b"cpicky_package\nModel\n)R.")
    env = [{"name": "PYTHONPATH", "value": str(tmp_path)}]
    project = new_project(trust_pickle=True)
    endpoint = apply(project, "picky", str(folder), {"maxBatchSize": 4, "maxLatency": 20_000}, env=env)
    bodies = [json.dumps({"instances": [[number]]}).encode() for number in (1, -2, 3, 4)]
    answers = at_once([partial(post, endpoint.url, "/v1/models/picky:predict", body) for body in bodies])
    assert [status for status, _, _ in answers] == [200, 400, 200, 200]
    assert json.loads(answers[1][2]) == {"error": "1 rows, one is negative"}
    assert [json.loads(answers[n][2])["predictions"] for n in (0, 2, 3)] == [[2], [6], [8]]
    assert batches(endpoint.url, "picky-00001") == (3, 3), "what failed is counted as an error alone"


def test_another_batcher_is_another_revision(project: Any, post: Any) -> None:
    batcher = {"maxBatchSize": 8, "maxLatency": 50}
    assert apply(project, "changing", "models:/late-flights/1", batcher).revisions[0].number == 1
    assert apply(project, "changing", "models:/late-flights/1", batcher).revisions[0].number == 1
    changed = apply(project, "changing", "models:/late-flights/1", {**batcher, "maxBatchSize": 1})
    assert changed.revisions[0].number == 2
    path, body, _ = v1(20.0)
    status, _, text = post(changed.url, path.replace(NAME, "changing"), body)
    assert (status, list(json.loads(text))) == (200, ["message", "batchId", "predictions"])


# -- without a batcher ------------------------------------------------------------------------

FOREST = "forest"


def test_callers_at_once_are_one_call_of_scikit_learn_and_get_what_they_get_alone(
    project: Any, post: Any, tmp_path: Path
) -> None:
    """Five milliseconds for one row or for fifty: what takes long is the call. `containerConcurrency: 1`
    has each asked for alone."""
    import skops.io
    from sklearn.ensemble import RandomForestRegressor

    random = np.random.default_rng(0)
    rows = random.normal(size=(96, 4))
    model = RandomForestRegressor(60, max_depth=4, random_state=0).fit(rows, rows[:, 0])
    (tmp_path / "forest").mkdir()
    skops.io.dump(model, tmp_path / "forest" / "model.skops")
    file = project.file(FOREST, str(tmp_path / "forest"), modelFormat={"name": "sklearn"})
    content = json.loads(file.read_text())
    bodies = [json.dumps({"instances": [row]}).encode() for row in rows.tolist()]
    for number, more in ((1, {}), (2, {"containerConcurrency": 1})):
        content["spec"]["predictor"].update(more)
        file.write_text(json.dumps(content))
        url = project.server.apply(file).url
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(partial(post, url, f"/v1/models/{FOREST}:predict"), bodies))
        given = [json.loads(body) for _, _, body in answers]
        assert [set(one) for one in given] == [{"predictions"}] * len(rows), "no batchId"
        found = [one["predictions"][0] for one in given]
        np.testing.assert_allclose(found, model.predict(rows), rtol=1e-12)
        calls, counted = batches(url, f"{FOREST}-0000{number}")
        assert counted == len(rows)
        assert calls == len(rows) if more else calls < len(rows) / 2
