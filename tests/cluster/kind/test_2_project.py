"""The demo's project on the cluster: the same commands, the same InferenceService file."""

from __future__ import annotations

import http.client
import json
import math
import os
import re
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cluster.kind.conftest import Box, eventually

import modelyard
from modelyard.errors import EnvironmentFault, NotFoundError
from modelyard.kube import Ref
from modelyard.records import Endpoint, Window
from modelyard.yard import Yard

grpc = pytest.importorskip("grpc")


@pytest.fixture(scope="module")
def project(box: Box, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What `modelyard demo` leaves: two versions, promotions, data, files."""
    folder = tmp_path_factory.mktemp("work") / "late flights"
    _modelyard(box, Path.cwd(), "demo", str(folder), "--fast")
    yield folder
    _modelyard(box, folder, "down")
    _modelyard(box, folder, "--target", "sandbox-ci", "down")


@pytest.fixture(scope="module")
def flights(project: Path) -> Any:
    """The rows that the demo asks about."""
    return json.loads((project / "traffic" / "flight.json").read_text())


@pytest.fixture(scope="module")
def yard(box: Box, project: Path) -> Iterator[Yard]:
    """The project, opened on the sandbox."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", box.env["XDG_STATE_HOME"])
        yield modelyard.open(project, target="sandbox-ci")


def _modelyard(box: Box, folder: Path, *args: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "modelyard", *args],
        cwd=folder,
        env=box.env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == status, f"{args}: {done.stdout}\n{done.stderr}"
    return done.stdout


def _many(endpoint: Endpoint, rows: Any, count: int) -> Counter[str]:
    """Which versions answered."""
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: endpoint.predict(rows), range(count)))
    return Counter(answer.version for answer in answers)


def _prometheus(box: Box, query: str) -> list[dict[str, Any]]:
    """What it finds; nothing while it starts."""
    url = f"{box.url('prometheus')}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return found
    except (OSError, http.client.HTTPException):
        return []


def test_ship_copies_everything_once(box: Box, project: Path, yard: Yard) -> None:
    planned = json.loads(_modelyard(box, project, "ship", "--to", "sandbox-ci", "--dry-run", "--json"))
    assert {v["state"] for v in planned["versions"]} == {"new"}
    assert yard.registry.models() == []
    _modelyard(box, project, "ship", "--to", "sandbox-ci")
    again = json.loads(_modelyard(box, project, "ship", "--to", "sandbox-ci", "--json"))
    assert {v["state"] for v in again["versions"]} == {"there"}
    local = modelyard.open(project, target="local")
    for version in local.registry.versions("late-flights"):
        there = yard.registry.get("late-flights", version.version)
        assert (there.digest, there.lineage_id, there.aliases) == (
            version.digest,
            version.lineage_id,
            version.aliases,
        )
        assert yard.registry.address(there).startswith("s3://mlflow/")
    assert [p.reason for p in yard.history()] == [p.reason for p in local.history()]
    assert {ref.published for ref in yard.data.list()} == {True}


def test_the_same_file_answers_through_the_gateway(box: Box, project: Path, yard: Yard, flights: Any) -> None:
    _modelyard(box, project, "--target", "sandbox-ci", "endpoints", "apply", "-f", "late-flights.yaml")
    endpoint = yard.endpoints.get("late-flights")
    assert endpoint.ready
    assert endpoint.target == "sandbox-ci"
    production = yard.registry.alias("late-flights", "production")
    for protocol in ("v1", "v2"):
        answer = endpoint.predict(flights, protocol=protocol, headers={"X-Request-Id": f"first-{protocol}"})
        assert (answer.model, answer.version) == ("late-flights", production)
        assert answer.id == f"first-{protocol}"
        assert 0 <= max(answer.predictions[0]) <= 1
    shown = _modelyard(box, project, "--target", "sandbox-ci", "endpoints", "list")
    assert "late-flights" in shown
    # By any client that sets the host's name, too.
    said = urllib.parse.urlsplit(endpoint.url)
    request = urllib.request.Request(
        f"http://127.0.0.1:{said.port}/v2/models/late-flights/ready", headers={"Host": str(said.hostname)}
    )
    with urllib.request.urlopen(request, timeout=60) as found:
        assert found.status == 200


def test_a_prediction_on_the_cluster_leads_to_data_code_and_person(
    box: Box, project: Path, yard: Yard
) -> None:
    found = eventually(lambda: _found(yard, "first-v1"), "the prediction in the log")
    assert (found.model, found.endpoint) == ("late-flights", "late-flights")
    told = _modelyard(box, project, "--target", "sandbox-ci", "lineage", "first-v1")
    for part in (
        "endpoint late-flights",
        "model late-flights",
        "run ",
        "data data/winter.parquet",
        "code train.py",
    ):
        assert part in told, told


def _found(yard: Yard, prediction: str) -> Any:
    try:
        return yard.monitor.find(prediction)
    except NotFoundError:
        return None


def test_a_canary_gets_its_share_then_everything_then_nothing(
    box: Box, project: Path, yard: Yard, flights: Any
) -> None:
    at_target = ("--target", "sandbox-ci")
    first = yard.registry.alias("late-flights", "production")
    assert first == "1"
    _modelyard(box, project, *at_target, "endpoints", "apply", "-f", "late-flights-canary.yaml")
    count = 400
    share = _many(yard.endpoints.get("late-flights"), flights, count)
    sigma = math.sqrt(count * 0.2 * 0.8)
    assert abs(share["2"] - 0.2 * count) <= 5 * sigma, share
    assert set(share) == {"1", "2"}
    counted = {one.revision: one for one in yard.endpoints.statistics("late-flights")}
    shown = yard.endpoints.get("late-flights").revisions
    assert {one.version: one.traffic for one in shown if one.traffic} == {"1": 80, "2": 20}
    asked = {one.version: counted[one.name] for one in shown if one.traffic}
    assert asked["2"].requests == share["2"]  # its pod is as old as the canary
    assert asked["1"].requests >= share["1"]
    assert all(one.errors == 0 and 0 < (one.p95 or 0) < 60 for one in asked.values())
    _modelyard(
        box, project, *at_target, "promote", "late-flights/2", "--to", "production", "--reason", "canary"
    )
    _modelyard(box, project, *at_target, "endpoints", "apply", "-f", "late-flights.yaml")
    assert set(_many(yard.endpoints.get("late-flights"), flights, 40)) == {"2"}
    _modelyard(box, project, *at_target, "rollback", "late-flights", "--reason", "look first")
    assert set(_many(yard.endpoints.get("late-flights"), flights, 40)) == {"1"}
    last = yard.history("late-flights")[0]
    assert (last.action, last.to_version, last.deployed) == ("rollback", "1", True)


def test_drift_reaches_the_clusters_prometheus_and_an_alert_fires(
    box: Box, project: Path, yard: Yard
) -> None:
    """Summer comes: the replay of the demo, this time through the gateway. Our rules wait for minutes before
    they fire; here they don't, and nothing else is different."""
    rules = Ref("v1", "ConfigMap", "modelyard", "prometheus-rules-monitor")
    text = (box.cluster.get(rules) or {})["data"]["rules.yml"]
    hasty, count = re.subn(r"(?m)^( +)for: .*$", r"\1for: 0s", text)
    assert count >= 9
    box.cluster.patch(rules, {"data": {"rules.yml": hasty}})
    box.kubectl("-n", "modelyard", "delete", "pod", "-l", "app=prometheus", "--wait=false")  # reads them now
    _replay(box, project)
    _modelyard(box, project, "--target", "sandbox-ci", "monitor", "labels", "late-flights", "traffic/c.csv")
    # KServe's agent sends what was asked and answered behind the answers.
    summer = eventually(lambda: _labelled(yard), "every row of the summer with its label")
    assert any(window.drifted for window in summer)
    drifted = eventually(
        lambda: _prometheus(box, 'modelyard_feature_drift_detected{endpoint="late-flights"} == 1'),
        "the drift in Prometheus",
    )
    assert {one["metric"]["project"] for one in drifted} == {yard.name}
    firing = 'ALERTS{alertname="ModelyardFeatureDrift",alertstate="firing"}'
    eventually(lambda: _prometheus(box, firing), "the alert to fire")
    told = eventually(lambda: _alerts(box, "ModelyardFeatureDrift"), "Alertmanager to be told")
    assert {alert["labels"]["endpoint"] for alert in told} == {"late-flights"}
    assert {"ModelyardFeatureDrift"} <= {one.name for one in yard.monitor.alerts("late-flights")}
    assert box.up()["changed"] == ["monitor"], "somebody's change of our rules is found and mended"


def _labelled(yard: Yard) -> list[Window]:
    """The windows of the replay, once every row in them has its label."""
    summer = [window for window in yard.monitor.windows("late-flights") if window.rows >= 1000]
    return summer if all(window.labelled == window.rows for window in summer) else []


def _replay(box: Box, project: Path) -> None:
    what = ["--months", "5", "6", "--rows", "1200", "--name", "cluster", "--labels", "traffic/c.csv"]
    done = subprocess.run(
        [sys.executable, "replay.py", *what],
        cwd=project,
        env={**box.env, "MODELYARD_TARGET": "sandbox-ci"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _alerts(box: Box, name: str) -> list[dict[str, Any]]:
    url = f"{box.url('alertmanager')}/api/v2/alerts?filter=alertname%3D{name}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        found: list[dict[str, Any]] = json.load(answer)
        return found


def test_prometheus_finds_the_models_by_itself(box: Box, yard: Yard) -> None:
    """Their own metrics, and those of Knative's proxy in front of them."""
    for job in ("models", "revisions"):
        up = eventually(
            lambda job=job: _prometheus(box, f'up{{job="{job}",endpoint="late-flights"}} == 1'),  # type: ignore[misc]
            f"the {job} of late-flights",
        )
        assert {one["metric"]["namespace"] for one in up} == {"default"}
    counted = eventually(
        lambda: _prometheus(box, 'sum by (endpoint) (modelyard_requests_total{endpoint="late-flights"})'),
        "what the model counted",
    )
    assert float(counted[0]["value"][1]) > 0
    eventually(lambda: _all_up(box), "everything else to be up")


def _all_up(box: Box) -> bool:
    """Whether the last look at every part of the sandbox went well: one that was just restarted is looked at
    again in a quarter of a minute."""
    found = _prometheus(box, 'up{job!~"models|revisions"}')
    return bool(found) and all(one["value"][1] == "1" for one in found)


def test_scaled_to_zero_the_first_requests_wait_and_none_is_lost(
    box: Box, project: Path, yard: Yard, flights: Any
) -> None:
    manifest = (project / "late-flights.yaml").read_text()
    manifest = manifest.replace("name: late-flights\n", "name: sleepy\n", 1)
    manifest = manifest.replace("  predictor:\n", "  predictor:\n    minReplicas: 0\n", 1)
    manifest = manifest.replace(
        "  name: sleepy\n", '  name: sleepy\n  annotations:\n    autoscaling.knative.dev/window: "6s"\n', 1
    )
    (project / "sleepy.yaml").write_text(manifest)
    _modelyard(box, project, "--target", "sandbox-ci", "endpoints", "apply", "-f", "sleepy.yaml")

    def pods(*, ending: bool = False) -> set[str]:
        labels = "serving.kserve.io/inferenceservice=sleepy"
        found = [p["metadata"] for p in box.cluster.find("v1", "Pod", namespace="default", labels=labels)]
        return {pod["name"] for pod in found if ending or "deletionTimestamp" not in pod}

    first = pods(ending=True)  # on a busy machine it may be told to end before we look
    assert first
    eventually(lambda: not pods(), "the last pod to be told to end", 150)
    endpoint = yard.endpoints.get("sleepy")
    assert sum(_many(endpoint, flights, 24).values()) == 24
    assert pods(ending=True) - first


def test_what_can_not_be_loaded_says_why_and_the_old_one_answers(
    project: Path, yard: Yard, flights: Any
) -> None:
    text = (project / "late-flights.yaml").read_text()
    broken = text.replace("models:/late-flights@production", "s3://mlflow/none")
    (project / "broken.yaml").write_text(broken)
    with pytest.raises(EnvironmentFault, match="mlflow/none") as fault:
        yard.endpoints.apply("broken.yaml")
    assert fault.value.code == "revision-failed"
    assert set(_many(yard.endpoints.get("late-flights"), flights, 10)) == {"1"}
    assert yard.endpoints.apply("late-flights.yaml").ready


def test_models_of_other_libraries_answer_from_the_same_file_as_on_a_laptop(
    box: Box, project: Path, yard: Yard
) -> None:
    """XGBoost's, LightGBM's and ONNX's own files, one by KServe's old way of writing."""
    import lightgbm
    import xgboost

    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] > 0).astype(int)
    boosted = xgboost.train({"max_depth": 2}, xgboost.DMatrix(x, y), 5)
    lighter = lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(x, y), 5)
    files = {
        "xgboost/model.json": bytes(boosted.save_raw("json")),
        "lightgbm/model.txt": lighter.model_to_string().encode(),
        "onnx/1/model.onnx": _sum_of_rows(),
    }
    for name, content in files.items():
        box.s3().put_object(Bucket="mlflow", Key=f"examples/{name}", Body=content)
    (project / "formats.yaml").write_text("\n---\n".join(_FORMATS))
    _modelyard(box, project, "--target", "sandbox-ci", "endpoints", "apply", "-f", "formats.yaml")
    rows = x[:4].astype(float)
    wanted = {
        "boosted": boosted.predict(xgboost.DMatrix(x[:4])),
        "lighter": lighter.predict(rows),
        "sums": rows.sum(axis=1),
    }
    for name, values in wanted.items():
        answer = yard.endpoints.get(name).predict(rows, protocol="v2")
        assert np.ravel(answer.predictions).tolist() == pytest.approx(values.tolist(), rel=1e-5), name
        yard.endpoints.delete(name)


def _sum_of_rows() -> bytes:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x", "axis"], ["sum"], keepdims=0)],
        "sums",
        [value("x", TensorProto.FLOAT, ["n", 3])],
        [value("sum", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


_FORMATS = [
    """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: boosted}
spec:
  predictor:
    model:
      modelFormat: {name: xgboost}
      storageUri: s3://mlflow/examples/xgboost
""",
    """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: lighter}
spec:
  predictor:
    lightgbm:
      storageUri: s3://mlflow/examples/lightgbm
""",
    """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: sums}
spec:
  predictor:
    model:
      modelFormat: {name: onnx, version: "1"}
      protocolVersion: v2
      storageUri: s3://mlflow/examples/onnx
""",
]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("called", ["ports: [{name: h2c, protocol: TCP, containerPort: 8081}]"]),
        ("called-in-v2", ["ports: [{name: h2c, containerPort: 9000}]", "protocolVersion: grpc-v2"]),
    ],
)
def test_a_port_named_h2c_is_asked_by_grpc_through_the_gateway_and_by_everything_else(
    box: Box, project: Path, yard: Yard, flights: Any, name: str, lines: list[str]
) -> None:
    """As KServe's samples ask for it. Knative has just that port then: V1 and V2 go there, too, and behind
    KServe's agent, which the file's logger puts in between."""
    text = (project / "late-flights.yaml").read_text().replace("name: late-flights\n", f"name: {name}\n", 1)
    for line in lines:
        text = text.replace("    model:\n", f"    model:\n      {line}\n", 1)
    (project / f"{name}.yaml").write_text(text)
    _modelyard(box, project, "--target", "sandbox-ci", "endpoints", "apply", "-f", f"{name}.yaml")
    endpoint = yard.endpoints.get(name)
    wanted = endpoint.predict(flights, protocol="v1", headers={"X-Request-Id": f"{name}-v1"})
    assert endpoint.predict(flights, protocol="v2").predictions == wanted.predictions
    made, headers = _by_grpc(endpoint, flights)
    assert np.ravel(made).tolist() == pytest.approx(np.ravel(wanted.predictions).tolist())
    said = (headers["x-modelyard-model"], headers["x-modelyard-version"], headers["x-request-id"])
    assert said == (wanted.model, wanted.version, "called-1")
    with pytest.raises(grpc.RpcError) as refused:
        _by_grpc(endpoint, flights, model="nobody")
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    assert refused.value.details() == f"there is no model 'nobody'; this endpoint serves '{name}'"
    assert [one.requests for one in yard.endpoints.statistics(name)] == [4]
    eventually(lambda: _found(yard, f"{name}-v1"), "the prediction in the log")
    yard.endpoints.delete(name)


def _by_grpc(endpoint: Endpoint, rows: Any, model: str = "") -> tuple[Any, dict[str, str]]:
    """The first output, and the headers."""
    from modelyard_kserve.local import grpc_wire

    pb, said = grpc_wire.MESSAGES, urllib.parse.urlsplit(endpoint.url or "")
    request = pb.ModelInferRequest(model_name=model or endpoint.name)
    for column, value in rows[0].items():
        values = [row[column] for row in rows]
        made = request.inputs.add(name=column, shape=[len(rows)])
        if isinstance(value, str):
            made.datatype = "BYTES"
            made.contents.bytes_contents.extend(text.encode() for text in values)
        elif isinstance(value, int):
            made.datatype = "INT64"
            made.contents.int64_contents.extend(values)
        else:
            made.datatype = "FP64"
            made.contents.fp64_contents.extend(values)
    options = [("grpc.default_authority", str(said.hostname)), ("grpc.enable_retries", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{said.port}", options=options) as channel:
        answer, call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=lambda made: made.SerializeToString(),
            response_deserializer=pb.ModelInferResponse.FromString,
        ).with_call(request, metadata=[("x-request-id", "called-1")], timeout=60)
    return answer.outputs[0].contents.fp64_contents, dict(call.initial_metadata())


def test_two_who_apply_at_once_leave_one_model_that_answers(
    box: Box, project: Path, yard: Yard, flights: Any
) -> None:
    """The alias and a fixed version: whoever comes last has what they asked for; nobody gets a traceback."""
    text = (project / "late-flights.yaml").read_text()
    (project / "fixed.yaml").write_text(text.replace("late-flights@production", "late-flights/2"))
    commands = [
        [sys.executable, "-m", "modelyard", "--target", "sandbox-ci", "endpoints", "apply", "-f", file]
        for file in ("late-flights.yaml", "fixed.yaml")
    ]
    both = [
        subprocess.Popen(command, cwd=project, env=box.env, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert 0 in [process.returncode for process in both], said
    assert not any("Traceback" in text for text in said)
    assert len(_many(yard.endpoints.get("late-flights"), flights, 20)) == 1
    assert yard.endpoints.apply("late-flights.yaml").ready
    assert set(_many(yard.endpoints.get("late-flights"), flights, 10)) == {"1"}


def test_any_context_of_a_kubeconfig_is_a_target_through_forwards_of_ours(
    box: Box, project: Path, flights: Any
) -> None:
    """Everything through the API server, as on a cluster far away; no kubectl, no open port."""
    at = ("--target", "far")
    _modelyard(box, project, "target", "add", "far", "--kubeconfig", str(box.folder / "kubeconfig"))
    checks = json.loads(_modelyard(box, project, *at, "doctor", "--json"))
    assert {check["status"] for check in checks if check["name"] in ("cluster", "rights")} == {"ok"}
    assert "late-flights" in _modelyard(box, project, *at, "models", "list")
    far = modelyard.open(project, target="far")
    try:
        assert _many(far.endpoints.get("late-flights"), flights, 20)
        forwards = {s.name: s for s in far.services() if s.name.startswith("forward-")}
        assert {"forward-mlflow", "forward-gateway"} <= forwards.keys()
        os.kill(forwards["forward-mlflow"].pid or 0, signal.SIGKILL)
        eventually(
            lambda: "forward-mlflow" not in {s.name for s in far.services() if s.status == "running"},
            "the forward to be dead",
        )
        again = modelyard.open(project, target="far")
        assert "late-flights" in again.models.names()
        box.kubectl("-n", "modelyard", "delete", "pod", "-l", "app=mlflow", "--wait=true")
        box.kubectl("-n", "modelyard", "rollout", "status", "deploy/mlflow", "--timeout=120s")
        assert "late-flights" in modelyard.open(project, target="far").models.names()
    finally:
        _modelyard(box, project, *at, "down")
