"""P4, P4b, P5, P6, P6b: what an answer, a start and a sleeping model of the local runtime cost.

CPU time of every process that takes part (Envoy, activator, controller, model server) per request, against
the same scikit-learn model behind a bare uvicorn handler and in KServe's own server, in turns; for an image
(P5) the time that its caller waits.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

_COMMAND = "make bench ARGS=serving"
_PEERS = Path(__file__).with_name("serving_peers.py")
_FEATURES, _ROUNDS = 20, 7
_MODELS = 50
Family = Callable[[], "list[psutil.Process]"]


def measure() -> list[dict[str, Any]]:
    """Rows for the table of `run.py`."""
    with tempfile.TemporaryDirectory(prefix="modelyard bench ") as place:
        folder = Path(place)
        model = _model(folder / "model")
        with _project(folder / "project") as yard:
            rows = [*_answers(yard, model), _image(yard, folder / "image"), *_starts(yard, model)]
        with _project(folder / "many") as yard:
            rows.append(_sleeping(yard, model))
        return rows


# -- what is measured -------------------------------------------------------------------------


def _answers(yard: Any, model: Path) -> list[dict[str, Any]]:
    endpoint = _apply(yard, "bench", model)
    parts = urlsplit(endpoint.url)
    ours = (parts.port, f"{parts.path}/v2/models/bench/infer", lambda: _marked(yard))
    rows = []
    with _peer("raw", model) as bare, _peer("kserve", model) as theirs:
        for name, size, times, goals in (("P4", 1, 300, (1.5, 0.45)), ("P4b", 100, 150, (1.3, 0.35))):
            cost: dict[str, list[float]] = {"ours": [], "raw": [], "kserve": []}
            asked = partial(_ask, body=_body(size), times=times)
            for _ in range(_ROUNDS):
                for who, (port, path, family) in {"ours": ours, "raw": bare, "kserve": theirs}.items():
                    cost[who].append(_cpu_of(family, partial(asked, port, path)) / times)
            middle = {who: statistics.median(found) * 1e6 for who, found in cost.items()}
            for peer, goal in zip(("raw", "kserve"), goals):
                what = f"CPU per answer of {size} rows, V2 JSON / {peer} [us]"
                rows.append(_row(f"{name} {peer}", what, middle["ours"], middle[peer], goal))
    return rows


def _image(yard: Any, folder: Path) -> dict[str, Any]:
    """What a caller waits for with an image in hand, by REST's binary tensors and by KServe's gRPC."""
    import numpy as np
    import skops.io
    from sklearn.dummy import DummyRegressor

    folder.mkdir()
    skops.io.dump(DummyRegressor().fit([[0.0]], [0.5]), folder / "model.skops")
    endpoint = _apply(yard, "image", folder)
    image = np.random.default_rng(1).normal(size=(1, 3, 224, 224)).astype("<f4")
    waited: dict[str, list[float]] = {"ours": [], "kserve": []}
    with _peer("grpc", folder) as (port, _, _), _by_grpc(port, image) as theirs:
        callers = {"ours": _by_binary(endpoint.url, image), "kserve": theirs}
        for _ in range(_ROUNDS):
            for who, ask in callers.items():
                ask()
                for _ in range(40):
                    began = time.perf_counter()
                    ask()
                    waited[who].append((time.perf_counter() - began) * 1e3)
    middle = {who: statistics.median(found) for who, found in waited.items()}
    what = "p50 of an image of FP32, REST binary / KServe's gRPC [ms]"
    return _row("P5", what, middle["ours"], middle["kserve"], 1.2)


def _by_binary(url: str, image: Any) -> Callable[[], None]:
    parts, raw = urlsplit(url), image.tobytes()
    tensor = {"name": "image", "shape": list(image.shape), "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": len(raw)}
    said = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(said))}
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)

    def ask() -> None:
        connection.request("POST", f"{parts.path}/v2/models/image/infer", said + raw, headers)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body

    return ask


@contextlib.contextmanager
def _by_grpc(port: int, image: Any) -> Iterator[Callable[[], None]]:
    import grpc

    from modelyard_kserve.local.grpc_wire import MESSAGES

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=MESSAGES.ModelInferRequest.SerializeToString,
            response_deserializer=MESSAGES.ModelInferResponse.FromString,
        )
        tensor = {"name": "image", "shape": image.shape, "datatype": "FP32"}
        raw = image.tobytes()

        def ask() -> None:
            asked = MESSAGES.ModelInferRequest(model_name="bench", inputs=[tensor], raw_input_contents=[raw])
            infer(asked, timeout=60)

        yield ask


def _starts(yard: Any, model: Path) -> list[dict[str, Any]]:
    """From zero to the first answer, and what a second replica has for itself alone."""
    endpoint = _apply(yard, "sleeper", model, minReplicas=0)
    parts = urlsplit(endpoint.url)
    path, body = f"{parts.path}/v2/models/sleeper/infer", _body(1)
    cost, private = [], 0.0
    for _ in range(3):
        _until(lambda: not _replicas(yard, "sleeper"))
        cost.append(_cpu_of(lambda: _marked(yard), lambda: _ask(parts.port, path, body, 1)))
        (replica,) = _replicas(yard, "sleeper")
        private = replica.memory_full_info().uss / 1e6
    began = []
    for _ in range(2):
        with _peer("kserve", model) as (port, to, family):
            _ask(port, to, body, 1)
            (server,) = family()
            times = server.cpu_times()
            began.append(times.user + times.system)
            theirs = server.memory_full_info().uss / 1e6
    return [
        _row(
            "P6 cpu", "CPU from zero to the first answer / KServe's server [s]", min(cost), min(began), 0.06
        ),
        _row(
            "P6 memory", "private memory of a further replica / KServe's server [MB]", private, theirs, 0.25
        ),
    ]


def _sleeping(yard: Any, model: Path) -> dict[str, Any]:
    for number in range(_MODELS):
        _apply(yard, f"idle-{number}", model, minReplicas=0)
    _until(lambda: not any(_replicas(yard, f"idle-{number}") for number in range(_MODELS)))
    time.sleep(5)
    used = sum(process.memory_full_info().pss for process in _marked(yard)) / 1e6
    return _row("P6b", f"memory of the runtime with {_MODELS} models that sleep / 250 MB", used, 250, 1.0)


def _row(name: str, what: str, ours: float, peer: float, goal: float) -> dict[str, Any]:
    found = {"ours": round(ours, 3), "peer": round(peer, 3), "ratio": round(ours / peer, 3)}
    print(f"{name} {found['ratio']} of {goal};", end=" ", file=sys.stderr, flush=True)
    return {"id": name, "what": what, **found, "goal": goal, "command": _COMMAND}


# -- what takes part --------------------------------------------------------------------------


def _model(folder: Path) -> Path:
    import numpy as np
    import skops.io
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    rows = random.normal(size=(500, _FEATURES))
    folder.mkdir()
    skops.io.dump(LogisticRegression().fit(rows, rows[:, 0] > 0), folder / "model.skops")
    return folder


def _body(size: int) -> bytes:
    import numpy as np

    rows = np.random.default_rng(1).normal(size=(size, _FEATURES))
    tensor = {"name": "rows", "shape": [size, _FEATURES], "datatype": "FP64", "data": rows.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


@contextlib.contextmanager
def _project(folder: Path) -> Iterator[Any]:
    import modelyard

    folder.mkdir()
    command = [Path(sys.executable).with_name("modelyard"), "init", "."]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    yard = modelyard.open(folder)
    try:
        yield yard
    finally:
        yard.down()


def _apply(yard: Any, name: str, model: Path, **predictor: Any) -> Any:
    model_of = {"modelFormat": {"name": "sklearn"}, "storageUri": str(model)}
    content = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "annotations": {"autoscaling.knative.dev/window": "6s"}},
        "spec": {"predictor": {"model": model_of, **predictor}},
    }
    file = yard.root / f"{name}.yaml"
    file.write_text(json.dumps(content))
    return yard.endpoints.apply(file)


def _marked(yard: Any) -> list[psutil.Process]:
    """Every process behind the project's endpoints."""
    mark = str((yard.root / ".modelyard" / "services" / "serving.json").resolve())
    return [
        process
        for process in psutil.process_iter(["environ", "status"])
        if (process.info["environ"] or {}).get("MODELYARD_SERVICE") == mark
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def _replicas(yard: Any, name: str) -> list[psutil.Process]:
    file = yard.root / ".modelyard" / "kserve" / "endpoints" / name / "observed.json"
    pids = [revision["pid"] for revision in json.loads(file.read_text())["revisions"].values()]
    return [psutil.Process(pid) for pid in pids if pid and psutil.pid_exists(pid)]


@contextlib.contextmanager
def _peer(kind: str, model: Path) -> Iterator[tuple[int, str, Family]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, str(_PEERS), kind, str(model), str(port)]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env={**os.environ, **threads}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _until(lambda: _listens(port))
        yield port, "/v2/models/bench/infer", lambda: [psutil.Process(process.pid)]
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _until(true: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit("bench_serving.py: what was waited for did not come")
        time.sleep(0.1)


def _ask(port: int, path: str, body: bytes, times: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for _ in range(times):
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status == 200, said
    connection.close()


def _cpu_of(family: Family, work: Callable[[], None]) -> float:
    """CPU seconds that the processes used for it; one that was started meanwhile counts whole."""
    before = _spent(family())
    work()
    time.sleep(0.05)
    after = _spent(family())
    return sum(seconds - before.get(key, 0.0) for key, seconds in after.items())


def _spent(processes: list[psutil.Process]) -> dict[tuple[int, float], float]:
    found = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            found[process.pid, process.create_time()] = times.user + times.system
    return found
