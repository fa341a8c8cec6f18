"""A prediction is found by its id, and with it what other endpoints answered under the same one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from modelyard.records import Prediction
from modelyard_evidently.collector import Collector
from modelyard_evidently.config import EvidentlySettings
from modelyard_evidently.folder import MonitorFolder


def logged(collector: Collector, endpoint: str, name: str, second: int, rows: int = 1) -> None:
    headers = {
        "ce-id": name,
        "ce-time": f"2026-04-01T12:00:{second:02}+00:00",
        "ce-inferenceservicename": endpoint,
        "ce-annotations": json.dumps(
            {f"modelyard.dev/{key}": f"{endpoint}-{key}" for key in ("model", "version", "revision")}
        ),
    }
    kind = "org.kubeflow.serving.inference."
    asked = json.dumps({"instances": [{"x": 1}] * rows}).encode()
    collector.take({**headers, "ce-type": f"{kind}request"}, asked)
    answered = json.dumps({"predictions": [0] * rows}).encode()
    collector.take({**headers, "ce-type": f"{kind}response"}, answered)


def test_the_steps_of_a_graph_are_found_in_the_order_of_their_times(tmp_path: Path) -> None:
    collector = Collector(tmp_path)
    for endpoint, second in (("breed", 9), ("animal", 7), ("age", 8)):
        logged(collector, endpoint, "through-all", second, rows=2)
    logged(collector, "animal", "alone", 7)
    asyncio.run(collector.flush())
    monitor = MonitorFolder(tmp_path, EvidentlySettings())
    found = monitor.find("through-all")
    assert [one.endpoint for one in (found, *found.others)] == ["animal", "age", "breed"]
    assert [one.rows for one in found.others] == [2, 2]
    assert monitor.find("alone").others == ()
    assert Prediction.from_dict(json.loads(json.dumps(found.to_dict()))) == found
