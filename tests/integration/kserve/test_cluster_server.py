"""The model server of pods, run as KServe runs it: what it proves, what it answers, how it ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.digests import model_digest
from modelyard.testing.models import ROWS, save_mlflow_folder

pytest.importorskip("kserve")
pytest.importorskip("mlflow")
pytest.importorskip("h2")

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modelle") / "1"
    save_mlflow_folder(folder, 0.25)
    return folder


@pytest.fixture(scope="module")
def ports() -> list[int]:
    """For HTTP, for gRPC, and another one."""
    with contextlib.ExitStack() as open_:
        probes = [open_.enter_context(socket.socket()) for _ in range(3)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@pytest.fixture
def port(ports: list[int]) -> int:
    return ports[0]


@pytest.fixture
def start(model: Path, ports: list[int]) -> Iterator[Start]:
    """Starts the server with the environment that `endpoints apply` gives it."""
    started: list[subprocess.Popen[str]] = []

    def begun(
        folder: Path = model, model_format: str = "mlflow", **environment: str
    ) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "modelyard_kserve.cluster.server", "--model_name", "flights"]
        argv += ["--model_format", model_format, "--model_dir", str(folder)]
        argv += ["--http_port", str(ports[0]), "--grpc_port", str(ports[1])]
        said = {"MODELYARD_MODEL": "late-flights", "MODELYARD_VERSION": "7", **environment}
        started.append(subprocess.Popen(argv, env={**os.environ, **said}, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield begun
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)


def call(
    port: int, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def await_ready(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        try:
            if call(port, "GET", "/v2/health/ready")[0] == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("the server is not ready")


def test_it_answers_and_says_who_it_is(start: Start, port: int, model: Path) -> None:
    process = start(MODELYARD_DIGEST=model_digest(model), K_REVISION="flights-predictor-00002")
    await_ready(process, port)
    status, headers, body = call(
        port, "POST", "/v1/models/flights:predict", {"instances": list(ROWS)}, {"X-Request-Id": "p-1"}
    )
    assert (status, json.loads(body)) == (200, {"predictions": [0.25] * len(ROWS)})
    said = {name: value for name, value in headers.items() if name.startswith("x-")}
    assert said == {
        "x-modelyard-model": "late-flights",
        "x-modelyard-version": "7",
        "x-modelyard-revision": "flights-predictor-00002",
        "x-request-id": "p-1",
    }
    assert call(port, "GET", "/v2/health/live")[0] == 200
    tensors = [{"name": n, "shape": [1], "datatype": "FP64", "data": [1.0]} for n in ROWS[0]]
    status, headers, body = call(
        port, "POST", "/v2/models/flights/infer", {"inputs": tensors}, {"Ce-Id": "p-2"}
    )
    assert (status, json.loads(body)["id"], headers["x-request-id"]) == (200, "p-2", "p-2")
    assert "x-request-id" not in call(port, "POST", "/v1/models/flights:predict", {"instances": [[1, 2]]})[1]
    assert call(port, "POST", "/v1/models/flights:predict", {"instances": 1})[0] == 400
    metrics = call(port, "GET", "/metrics")[2].decode()
    assert 'modelyard_requests_total{revision="flights-predictor-00002",code="200"} 3' in metrics
    assert 'modelyard_requests_total{revision="flights-predictor-00002",code="400"} 1' in metrics


def test_outside_of_knative_the_replica_set_is_the_revision(start: Start, port: int) -> None:
    process = start(HOSTNAME="flights-predictor-5d8f7c9c4b-x2x9k")
    await_ready(process, port)
    headers = call(port, "GET", "/v2")[1]
    assert headers["x-modelyard-revision"] == "flights-predictor-5d8f7c9c4b"


def test_other_files_than_the_registered_ones_are_not_served(start: Start) -> None:
    process = start(MODELYARD_DIGEST="ab" * 32)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 3
    assert said.count("\n") == 1
    assert "are not those that the revision was made of" in said


def test_a_model_that_can_not_be_loaded_is_one_sentence(start: Start, tmp_path: Path) -> None:
    process = start(tmp_path, "sklearn")
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 3
    assert said.startswith(f"model server: {tmp_path.name} can't be loaded: it holds 0 model files")
    assert said.count("\n") == 1


def test_requests_that_come_just_after_term_are_answered(start: Start, port: int) -> None:
    process = start()
    await_ready(process, port)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    answered = 0
    while time.monotonic() - began < 2:
        assert call(port, "POST", "/v1/models/flights:predict", {"instances": list(ROWS)})[0] == 200
        answered += 1
    assert answered > 10
    process.wait(timeout=20)
    assert process.returncode in (0, -signal.SIGTERM)


def test_knative_ends_the_routes_itself(start: Start, port: int) -> None:
    took: list[float] = []
    while len(took) < 4 and not any(seconds < 2.5 for seconds in took):  # a busy machine takes its time
        process = start(K_REVISION="flights-predictor-00001")
        await_ready(process, port)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        process.wait(timeout=20)
        took.append(time.monotonic() - began)
    assert min(took) < 2.5


def test_a_request_under_way_is_finished(start: Start, port: int) -> None:
    process = start(K_REVISION="flights-predictor-00001")
    await_ready(process, port)
    body = json.dumps({"instances": list(ROWS)}).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as caller:
        head = f"POST /v1/models/flights:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        caller.sendall(head.encode() + body[:10])
        timer = threading.Timer(1.0, caller.sendall, [body[10:]])
        timer.start()
        time.sleep(0.3)  # the server has the first part of the body
        process.send_signal(signal.SIGTERM)
        answer = caller.recv(1 << 16)
        timer.join()
    assert b" 200 " in answer.split(b"\r\n")[0]
    process.wait(timeout=20)


# -- HTTP/2: what gRPC is, and what Knative makes of everything that goes to a port named h2c -------------


class Service:
    """Calls methods of KServe's service."""

    def __init__(self, port: int) -> None:
        import grpc

        from modelyard_kserve.local import grpc_wire

        self.pb = grpc_wire.MESSAGES
        self._channel = grpc.insecure_channel(
            f"127.0.0.1:{port}",
            options=[("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0)],
        )

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def __call__(self, method: str, said: Mapping[str, Any], **options: Any) -> tuple[Any, dict[str, str]]:
        """The answer, and its headers."""
        answers = getattr(self.pb, f"{method}Response", self.pb.ServerLiveResponse)
        function = self._channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=lambda made: made.SerializeToString(),
            response_deserializer=answers.FromString,
        )
        request = getattr(self.pb, f"{method}Request", self.pb.ServerLiveRequest)(**said)
        made, call = function.with_call(request, timeout=60, **options)
        return made, dict(call.initial_metadata())

    def refused(self, method: str, said: Mapping[str, Any], **options: Any) -> tuple[str, str]:
        """The code and the sentence of a refusal."""
        import grpc

        with pytest.raises(grpc.RpcError) as caught:
            self(method, said, **options)
        fault: Any = caught.value
        return fault.code().name, fault.details()


def asked(rows: int = 1, **changed: Any) -> dict[str, Any]:
    raw = np.zeros(rows).tobytes()
    inputs = [{"name": name, "datatype": "FP64", "shape": [rows]} for name in ROWS[0]]
    return {"model_name": "flights", "inputs": inputs, "raw_input_contents": [raw] * len(inputs), **changed}


def test_by_grpc_it_answers_the_same_and_says_who_it_is(start: Start, ports: list[int]) -> None:
    import grpc

    await_ready(start(K_REVISION="flights-predictor-00002"), ports[0])
    with Service(ports[1]) as service:
        assert service("ServerReady", {})[0].ready
        assert service("ModelMetadata", {"name": "flights"})[0].inputs[0].name == next(iter(ROWS[0]))
        made, headers = service("ModelInfer", asked(3), metadata=[("x-request-id", "p-1")])
        assert np.frombuffer(made.raw_output_contents[0]).tolist() == [0.25] * 3
        assert (made.model_version, made.id) == ("7", "p-1")
        assert {name: value for name, value in headers.items() if name.startswith("x-")} == {
            "x-modelyard-model": "late-flights",
            "x-modelyard-version": "7",
            "x-modelyard-revision": "flights-predictor-00002",
            "x-request-id": "p-1",
        }
        assert service("ModelInfer", asked(3), compression=grpc.Compression.Gzip)[0].outputs[0].shape == [3]
        assert service.refused("ModelInfer", asked(model_name="fühl"))[0] == "NOT_FOUND"
        code, sentence = service.refused("ModelInfer", asked(inputs=[]))
        assert (code, sentence) == ("INVALID_ARGUMENT", "the message needs 'inputs': a list of tensors")
        assert service.refused("ModelDream", {})[0] == "UNIMPLEMENTED"
    metrics = call(ports[0], "GET", "/metrics")[2].decode()
    assert 'modelyard_requests_total{revision="flights-predictor-00002",code="200"} 2' in metrics
    assert 'modelyard_requests_total{revision="flights-predictor-00002",code="400"} 1' in metrics
    assert 'modelyard_request_rows_sum{revision="flights-predictor-00002"} 6' in metrics


def test_large_messages_come_and_go(start: Start, ports: list[int]) -> None:
    await_ready(start(), ports[0])
    with Service(ports[1]) as service:
        rows = 1_000_000  # 16 MB, and 8 MB
        made, _ = service("ModelInfer", asked(rows))
        assert len(made.raw_output_contents[0]) == 8 * rows
        assert service.refused("ModelInfer", asked(5 * rows)) == (
            "RESOURCE_EXHAUSTED",
            "the body is larger than 64 MiB",
        )
        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(lambda _: service("ModelInfer", asked(50_000))[0], range(64)))
        assert {len(made.raw_output_contents[0]) for made in answers} == {400_000}


def test_on_the_port_that_knative_names_everything_is_answered(start: Start, ports: list[int]) -> None:
    import httpx

    await_ready(start(K_REVISION="flights-predictor-00001", PORT=str(ports[2])), ports[0])
    with Service(ports[2]) as service:
        assert service("ModelInfer", asked())[0].outputs[0].shape == [1]
    for http2 in (True, False):
        with httpx.Client(http1=not http2, http2=http2, base_url=f"http://127.0.0.1:{ports[2]}") as client:
            answer = client.post("/v1/models/flights:predict", json={"instances": list(ROWS)})
            assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            assert answer.json() == {"predictions": [0.25] * len(ROWS)}
            assert answer.headers["x-modelyard-version"] == "7"
            assert client.get("/v2/models/nobody").status_code == 404


def test_by_http_2_as_well_a_request_under_way_is_finished(start: Start, ports: list[int]) -> None:
    import httpx

    process = start(K_REVISION="flights-predictor-00001")
    await_ready(process, ports[0])
    body = json.dumps({"instances": list(ROWS)}).encode()

    def slowly() -> Iterator[bytes]:
        yield body[:10]
        time.sleep(0.3)  # the server has the first part of the body
        process.send_signal(signal.SIGTERM)
        time.sleep(0.7)
        yield body[10:]

    with httpx.Client(http1=False, http2=True, timeout=20) as client:
        answer = client.post(f"http://127.0.0.1:{ports[1]}/v1/models/flights:predict", content=slowly())
    assert answer.status_code == 200
    process.wait(timeout=20)
    assert process.returncode in (0, -signal.SIGTERM)


def test_by_grpc_as_well_requests_just_after_term_are_answered(start: Start, ports: list[int]) -> None:
    process = start()
    await_ready(process, ports[0])
    with Service(ports[1]) as service:
        service("ServerLive", {})
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        while time.monotonic() - began < 2:
            service("ModelInfer", asked())
    process.wait(timeout=20)
