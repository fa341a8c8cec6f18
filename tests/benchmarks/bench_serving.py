"""P4, P4b, P4c, P5, P6, P6b: what an answer, a start and a sleeping model of the local runtime cost.

CPU time of every process that takes part (Envoy, activator, controller, model server) per request, against
the same scikit-learn model behind a bare uvicorn handler and in KServe's own server, in turns; eight callers
ask all the time. How long an answer takes is measured at half of what each can do; of an image (P5) what its
caller waits.
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
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psutil
from load import asked

_COMMAND = "make bench ARGS=serving"
_PEERS = Path(__file__).with_name("serving_peers.py")
_FEATURES, _ROUNDS, _SECONDS, _CALLERS = 20, 7, 2.0, 8
_MODELS = 50
Family = Callable[[], "list[psutil.Process]"]
T = TypeVar("T")
#: Who is asked: where, and which processes take part.
Everybody = dict[str, tuple[str, Family]]


def measure() -> list[dict[str, Any]]:
    """Rows for the table of `run.py`."""
    with tempfile.TemporaryDirectory(prefix="modelyard bench ") as place:
        folder = Path(place)
        model = _model(folder / "model")
        with _project(folder / "project") as yard:
            rows = [*_answers(yard, model, folder), _image(yard, folder / "image"), *_starts(yard, model)]
        with _project(folder / "many") as yard:
            rows += _sleeping(yard, model)
        return rows


# -- what is measured -------------------------------------------------------------------------


def _answers(yard: Any, model: Path, place: Path) -> list[dict[str, Any]]:
    endpoint = _apply(yard, "bench", model)
    ours = (f"{endpoint.url}/v2/models/bench/infer", lambda: _marked(yard))
    rows = []
    with _peer("raw", model) as bare, _peer("kserve", model) as theirs:
        everybody = {"ours": ours, "raw": bare, "kserve": theirs}
        for name, size, goals in (("P4", 1, (1.5, 0.45)), ("P4b", 100, (1.3, 0.35))):
            middle, rate = _costs(everybody, _body(size), place)
            for peer, goal in zip(("raw", "kserve"), goals):
                what = f"CPU per answer of {size} rows, V2 JSON / {peer} [us]"
                rows.append(_row(f"{name} {peer}", what, middle["ours"], middle[peer], goal))
            if size == 1:
                rows.append(_calm({who: everybody[who] for who in ("ours", "raw")}, rate, place))
    rows.append(_two(yard, model, place))
    return rows


def _costs(everybody: Everybody, body: bytes, place: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Of each: microseconds of CPU per answer, and answers a second; the middle of all rounds."""
    cost: dict[str, list[float]] = {who: [] for who in everybody}
    rate: dict[str, list[float]] = {who: [] for who in everybody}
    for url, _ in everybody.values():  # until each knows how fast its model is
        asked(url, body, place, seconds=_SECONDS, callers=_CALLERS)
    for _ in range(_ROUNDS):
        for who, (url, family) in everybody.items():
            load = partial(asked, url, body, place, seconds=_SECONDS, callers=_CALLERS)
            cpu, found = _cpu_of(family, load)
            cost[who].append(cpu / found.requests * 1e6)
            rate[who].append(found.rate)
    middle = statistics.median
    return {who: middle(found) for who, found in cost.items()}, {who: middle(r) for who, r in rate.items()}


def _calm(everybody: Everybody, rate: dict[str, float], place: Path) -> dict[str, Any]:
    """How long 99 % take at half of what each can do, by callers who come at random."""
    took: dict[str, list[float]] = {who: [] for who in everybody}
    for _ in range(_ROUNDS):
        for who, (url, _) in everybody.items():
            pause = (
                f"math.floor(-math.log(1 - math.random()) * {1000 * _CALLERS / (rate[who] / 2):.3f} + 0.5)"
            )
            found = asked(url, _body(1), place, seconds=_SECONDS, callers=_CALLERS, pause=pause)
            took[who].append(found.p99 * 1000)
    what = "p99 of an answer at half of what each can do / raw [ms]"
    return _row("P4 p99", what, statistics.median(took["ours"]), statistics.median(took["raw"]), 1.5)


def _two(yard: Any, model: Path, place: Path) -> dict[str, Any]:
    """Answers a second of two replicas and of one; on two cores the callers and Envoy take their part."""
    rates = []
    for replicas in (2, 1):
        endpoint = _apply(yard, "bench", model, minReplicas=replicas)
        _until(partial(_has, yard, "bench", replicas))
        url = f"{endpoint.url}/v2/models/bench/infer"
        found = [
            asked(url, _body(1), place, seconds=_SECONDS, callers=2 * _CALLERS).rate for _ in range(_ROUNDS)
        ]
        rates.append(statistics.median(found))
    what = f"answers a second of two replicas / of one, on {os.cpu_count()} cores with the load"
    return _row("P4c", what, *rates, None)


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
    with _peer("grpc", folder) as (url, _), _by_grpc(url, image) as theirs:
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
def _by_grpc(url: str, image: Any) -> Iterator[Callable[[], None]]:
    import grpc

    from modelyard_kserve.local.grpc_wire import MESSAGES

    with grpc.insecure_channel(urlsplit(url).netloc) as channel:
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
    ours, body = f"{endpoint.url}/v2/models/sleeper/infer", _body(1)
    cost, private = [], 0.0
    for _ in range(3):
        _until(lambda: not _replicas(yard, "sleeper"))
        cost.append(_cpu_of(lambda: _marked(yard), lambda: _ask(ours, body))[0])
        (replica,) = _replicas(yard, "sleeper")
        private = replica.memory_full_info().uss / 1e6
    began = []
    for _ in range(2):
        with _peer("kserve", model) as (url, family):
            _ask(url, body)
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


def _sleeping(yard: Any, model: Path) -> list[dict[str, Any]]:
    """Just after the models went to sleep, and ten windows later, when what they come out of has gone."""
    for number in range(_MODELS):
        _apply(yard, f"idle-{number}", model, minReplicas=0)
    _until(lambda: not any(_replicas(yard, f"idle-{number}") for number in range(_MODELS)))
    time.sleep(5)
    soon = _memory(yard)
    _until(lambda: not any("fork_server" in " ".join(one.cmdline()) for one in _marked(yard)))
    what = f"memory of the runtime with {_MODELS} models that sleep"
    return [
        _row("P6b", f"{what} / 250 MB", _memory(yard), 250, 1.0),
        _row("P6b soon", f"{what}, just after they fell asleep / 250 MB", soon, 250, None),
    ]


def _memory(yard: Any) -> float:
    """Of all processes together; what several share is counted once."""
    return sum(process.memory_full_info().pss for process in _marked(yard)) / 1e6


def _row(name: str, what: str, ours: float, peer: float, goal: float | None) -> dict[str, Any]:
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
    revisions = json.loads(file.read_text())["revisions"].values()
    pids = {pid for revision in revisions for pid in revision["pids"]}
    return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]


def _has(yard: Any, name: str, replicas: int) -> bool:
    return len(_replicas(yard, name)) == replicas


@contextlib.contextmanager
def _peer(kind: str, model: Path) -> Iterator[tuple[str, Family]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, str(_PEERS), kind, str(model), str(port)]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env={**os.environ, **threads}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _until(lambda: _listens(port))
        url = f"http://127.0.0.1:{port}/v2/models/bench/infer"
        yield url, lambda: [psutil.Process(process.pid)]
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


def _ask(url: str, body: bytes) -> None:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def _cpu_of(family: Family, work: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds that the processes used for it, and what it gave; one that was started meanwhile counts
    whole."""
    before = _spent(family())
    found = work()
    time.sleep(0.05)
    after = _spent(family())
    return sum(seconds - before.get(key, 0.0) for key, seconds in after.items()), found


def _spent(processes: list[psutil.Process]) -> dict[tuple[int, float], float]:
    found = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            found[process.pid, process.create_time()] = times.user + times.system
    return found
