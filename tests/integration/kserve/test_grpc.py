"""gRPC on the port of everything else: KServe's service, for endpoints that wake for it, too."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from modelyard.records import Endpoint
from modelyard.testing import EventCollector

grpc = pytest.importorskip("grpc")

NAME = "steady"
V1, V2 = "models:/late-flights/1", "models:/late-flights/2"
TEMPS, STOPS = [20.5, -4.0, 31.25], [0, 2, 1]


@pytest.fixture(scope="module")
def endpoint(project: Any) -> Endpoint:
    made: Endpoint = project.apply(NAME, V1)
    return made


@pytest.fixture(scope="module")
def other(project: Any, endpoint: Endpoint) -> Endpoint:
    """A second endpoint of the project."""
    made: Endpoint = project.apply("other", V2)
    return made


@pytest.fixture(scope="module")
def pb() -> Any:
    from modelyard_kserve.local import grpc_wire

    return grpc_wire.MESSAGES


#: Clients refuse answers of more than 4 MiB unless told otherwise.
_ANY_SIZE = [("grpc.max_receive_message_length", -1)]


class Service:
    """Calls methods; the channel names the endpoint as its authority unless told otherwise."""

    def __init__(self, endpoint: Endpoint, pb: Any, host: str | None = None, **options: Any) -> None:
        authority = host or f"{endpoint.name}-default.example.com"
        self._channel = grpc.insecure_channel(
            urlsplit(endpoint.url or "").netloc,
            options=[("grpc.default_authority", authority), ("grpc.enable_retries", 0), *_ANY_SIZE],
            **options,
        )
        self._pb = pb

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def __call__(self, method: str, request: Any = None, headers: dict[str, str] | None = None) -> Any:
        """The answer, and its headers."""
        made, call = self.call(method, request, headers)
        return made, dict(call.initial_metadata())

    def call(self, method: str, request: Any, headers: dict[str, str] | None = None) -> Any:
        function = self._channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=lambda made: made if isinstance(made, bytes) else made.SerializeToString(),
            response_deserializer=getattr(
                self._pb, f"{method}Response", self._pb.ServerLiveResponse
            ).FromString,
        )
        request = getattr(self._pb, f"{method}Request")() if request is None else request
        return function.with_call(request, metadata=list((headers or {}).items()), timeout=60)

    def refused(self, method: str, request: Any, headers: dict[str, str] | None = None) -> tuple[str, str]:
        """The code and the sentence of a refusal."""
        with pytest.raises(grpc.RpcError) as caught:
            self.call(method, request, headers)
        fault: Any = caught.value
        return fault.code().name, fault.details()


@pytest.fixture
def service(endpoint: Endpoint, pb: Any) -> Iterator[Service]:
    with Service(endpoint, pb) as made:
        yield made


@pytest.fixture
def typed(pb: Any) -> Callable[..., Any]:
    """Three flights with typed contents; named fields replace those of the request."""

    def made(**changed: Any) -> Any:
        inputs = [
            {"name": "temp", "datatype": "FP64", "shape": [3], "contents": {"fp64_contents": TEMPS}},
            {"name": "stops", "datatype": "INT64", "shape": [3], "contents": {"int64_contents": STOPS}},
        ]
        return pb.ModelInferRequest(**{"model_name": NAME, "inputs": inputs, **changed})

    return made


@pytest.fixture
def raw(pb: Any) -> Callable[..., Any]:
    def made(**changed: Any) -> Any:
        inputs = [
            {"name": "temp", "datatype": "FP32", "shape": [3]},
            {"name": "stops", "datatype": "INT32", "shape": [3, 1]},
        ]
        contents = [np.array(TEMPS, "<f4").tobytes(), np.array(STOPS, "<i4").tobytes()]
        return pb.ModelInferRequest(
            **{"model_name": NAME, "inputs": inputs, "raw_input_contents": contents, **changed}
        )

    return made


@pytest.fixture
def expected(samples: Any) -> list[int]:
    import pandas as pd

    answers: list[int] = samples["1"].model.predict(pd.DataFrame({"temp": TEMPS, "stops": STOPS})).tolist()
    return answers


def test_the_server_and_the_model_say_who_they_are(service: Service, pb: Any) -> None:
    assert service("ServerLive")[0].live
    assert service("ServerReady")[0].ready
    assert service("ServerMetadata")[0].name == "modelyard"
    assert service("ModelReady", pb.ModelReadyRequest(name=NAME, version="1"))[0].ready
    said = service("ModelMetadata", pb.ModelMetadataRequest(name=NAME))[0]
    assert (said.name, list(said.versions)) == (NAME, ["1"])
    assert [(t.name, t.datatype, list(t.shape)) for t in said.inputs] == [
        ("temp", "FP64", [-1]),
        ("stops", "INT64", [-1]),
    ]
    assert [(t.name, t.datatype, list(t.shape)) for t in said.outputs] == [("predict", "INT64", [-1])]


def test_typed_contents_are_answered_with_typed_contents(
    service: Service, typed: Callable[..., Any], expected: list[int]
) -> None:
    made, headers = service("ModelInfer", typed(id="frage-7"), {"x-request-id": "r-7"})
    assert (made.model_name, made.model_version, made.id) == (NAME, "1", "frage-7")
    (output,) = made.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("predict", "INT64", [3])
    assert list(output.contents.int64_contents) == expected
    assert not made.raw_output_contents
    assert headers["x-modelyard-revision"] == f"{NAME}-00001"
    assert (headers["x-modelyard-version"], headers["x-request-id"]) == ("1", "r-7")


def test_raw_contents_are_answered_with_raw_contents(
    service: Service, raw: Callable[..., Any], expected: list[int]
) -> None:
    made, _ = service("ModelInfer", raw())
    assert not made.outputs[0].HasField("contents")
    assert np.frombuffer(made.raw_output_contents[0], "<i8").tolist() == expected


@pytest.mark.parametrize("compression", ["Gzip", "Deflate"])
def test_compressed_messages_are_read(
    endpoint: Endpoint, pb: Any, typed: Callable[..., Any], expected: list[int], compression: str
) -> None:
    with Service(endpoint, pb, compression=getattr(grpc.Compression, compression)) as service:
        made, _ = service("ModelInfer", typed())
    assert list(made.outputs[0].contents.int64_contents) == expected


def test_refusals_have_a_code_and_the_sentence_of_rest(
    service: Service, typed: Callable[..., Any], raw: Callable[..., Any], pb: Any
) -> None:
    other = "there is no model 'other'; this endpoint serves 'steady'"
    assert service.refused("ModelInfer", typed(model_name="other")) == ("NOT_FOUND", other)
    assert service.refused("ModelReady", pb.ModelReadyRequest(name="other")) == ("NOT_FOUND", other)
    assert service.refused("ModelInfer", typed(model_version="9")) == (
        "NOT_FOUND",
        "'steady' has version 1 here, and no version 9",
    )
    assert service.refused("ModelInfer", raw(raw_input_contents=[b"123", b"1"])) == (
        "INVALID_ARGUMENT",
        "input 'temp' came with 3 bytes, its shape [3] of FP32 has 12",
    )
    assert service.refused("ModelInfer", typed(outputs=[{"name": "ü"}])) == (
        "INVALID_ARGUMENT",
        "the model has no output 'ü'; it answers 'predict'",
    )
    code, said = service.refused("ModelInfer", b"\xff\xff\xff")
    assert (code, said) == ("INVALID_ARGUMENT", "the message is no ModelInferRequest")
    assert service.refused("ModelStreamInfer", b"")[0] == "UNIMPLEMENTED"


def test_refusals_are_counted_as_such(
    project: Any, service: Service, typed: Callable[..., Any], expected: list[int]
) -> None:
    def counted() -> tuple[int, int]:
        (found,) = project.server.statistics(NAME)
        return found.requests, found.refused

    requests, refused = counted()
    service("ModelInfer", typed())
    service.refused("ModelInfer", typed(model_name="other"))
    assert counted() == (requests + 2, refused + 1)


def test_an_unloaded_model_is_not_found_until_it_is_loaded(
    service: Service, typed: Callable[..., Any], pb: Any
) -> None:
    assert service("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=NAME))[0].isUnloaded
    assert service.refused("ModelInfer", typed())[0] == "NOT_FOUND"
    assert service("ServerReady")[0].ready
    assert service("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=NAME))[0].isLoaded
    assert service("ModelInfer", typed())[0].outputs


def test_a_header_says_who_is_asked_where_the_host_name_does_not(
    endpoint: Endpoint, other: Endpoint, pb: Any, typed: Callable[..., Any]
) -> None:
    with Service(endpoint, pb, host="127.0.0.1") as service:
        for said in (NAME, f"default/{NAME}"):
            assert service("ModelInfer", typed(), {"x-modelyard-endpoint": said})[0].model_name == NAME
        for headers in ({}, {"x-modelyard-endpoint": "nobody"}):
            code, sentence = service.refused("ModelInfer", typed(), headers)
            assert (code, sentence[:29]) == ("NOT_FOUND", "say which endpoint is asked: ")
    with Service(endpoint, pb, host="other-nowhere.example.com") as service:
        assert service.refused("ModelInfer", typed())[0] == "NOT_FOUND"


def test_another_service_is_unimplemented_for_which_clients_can_do_without(endpoint: Endpoint) -> None:
    for host in (f"{NAME}-default.example.com", "127.0.0.1"):
        address, options = urlsplit(endpoint.url or "").netloc, [("grpc.default_authority", host)]
        with grpc.insecure_channel(address, options=options) as channel:
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=30)
            assert caught.value.code().name == "UNIMPLEMENTED"


def test_the_only_endpoint_of_a_project_need_not_be_named_and_wakes_when_it_is_asked(
    new_project: Callable[..., Any], pb: Any, typed: Callable[..., Any], within: Any, expected: list[int]
) -> None:
    project = new_project()
    content = project.file(NAME, V1)
    text = content.read_text().replace('"predictor": {', '"predictor": {"minReplicas": 0, ')
    text = text.replace(
        '"name": "steady"}', '"name": "steady", "annotations": {"autoscaling.knative.dev/window": "6s"}}'
    )
    content.write_text(text)
    made = project.server.apply(content)
    with Service(made, pb, host="localhost") as service:
        assert list(service("ModelInfer", typed())[0].outputs[0].contents.int64_contents) == expected
        assert within(60, lambda: not project.model_servers(NAME)), "it stayed awake"
        assert list(service("ModelInfer", typed())[0].outputs[0].contents.int64_contents) == expected
        assert within(60, lambda: project.model_servers(NAME) != {})  # it is written down a moment later


def test_a_model_that_can_not_be_started_is_unavailable_in_one_sentence(
    new_project: Callable[..., Any], pb: Any, typed: Callable[..., Any], within: Any, runs: Any
) -> None:
    project = new_project()
    made = project.apply(NAME, V1)
    board = project.sockets / "board.json"
    (server,) = project.model_servers(NAME).values()
    project.kill("controller")
    text = board.read_text().replace('"failed": null', '"failed": "its disk is gone"')
    server.kill()
    assert within(60, lambda: not runs(server))
    board.write_text(text)
    with Service(made, pb) as service:
        code, sentence = service.refused("ModelInfer", typed())
    assert (code, sentence) == ("UNAVAILABLE", f"{NAME}-00001 can't be started: its disk is gone")


def test_a_model_that_is_too_slow_is_past_the_deadline_and_not_asked_again(
    new_project: Callable[..., Any], pb: Any, typed: Callable[..., Any], within: Any
) -> None:
    project = new_project()
    file = project.file(NAME, V1)
    file.write_text(file.read_text().replace('"predictor": {', '"predictor": {"timeout": 1, '))
    made = project.server.apply(file)
    (server,) = project.model_servers(NAME).values()
    server.suspend()
    try:
        with Service(made, pb) as service:
            said = service.refused("ModelInfer", typed())
    finally:
        server.resume()
    assert said == ("DEADLINE_EXCEEDED", "the model did not answer in time")


def test_the_prediction_log_gets_what_was_asked_and_answered_as_json(
    project: Any, pb: Any, raw: Callable[..., Any], within: Any, expected: list[int]
) -> None:
    import json

    with EventCollector() as collector:
        file = project.file("logged", V1)
        content = json.loads(file.read_text())
        content["spec"]["predictor"]["logger"] = {"url": collector.url, "mode": "all"}
        file.write_text(json.dumps(content))
        made = project.server.apply(file)
        with Service(made, pb) as service:
            service("ModelInfer", raw(model_name="logged"), {"x-request-id": "frage-1"})
        assert within(60, lambda: len(collector.events) >= 2)
        asked, said = (json.loads(event.body) for event in collector.events)
    assert [tensor["data"] for tensor in asked["inputs"]] == [TEMPS, STOPS]
    assert said["outputs"][0]["data"] == expected
    assert {event.headers["ce-id"] for event in collector.events} == {"frage-1"}
    project.server.delete("logged")


def test_a_message_beyond_the_limit_is_refused_and_a_large_one_answered(
    service: Service, raw: Callable[..., Any]
) -> None:
    def flights(rows: int) -> Any:
        inputs = [
            {"name": "temp", "datatype": "FP64", "shape": [rows]},
            {"name": "stops", "datatype": "INT8", "shape": [rows]},
        ]
        return raw(inputs=inputs, raw_input_contents=[b"\0" * 8 * rows, b"\0" * rows])

    made, _ = service("ModelInfer", flights(1 << 21))
    assert len(made.raw_output_contents[0]) == 8 << 21
    assert service.refused("ModelInfer", flights(1 << 23)) == (
        "RESOURCE_EXHAUSTED",
        "the body is larger than 64 MiB",
    )


def test_a_message_that_grows_beyond_the_limit_is_refused(
    service: Service, endpoint: Endpoint, post: Callable[..., Any]
) -> None:
    packed = gzip.compress(b"\0" * (65 * 1024 * 1024))
    body = b"\1" + len(packed).to_bytes(4, "big") + packed
    status, headers, _ = post(
        (endpoint.url or ""),
        "/inference.GRPCInferenceService/ModelInfer",
        body,
        {"Content-Type": "application/grpc", "grpc-encoding": "gzip"},
    )
    assert (status, headers["grpc-status"]) == (200, "3")
    assert "larger than 64 MiB unpacked" in headers["grpc-message"]
