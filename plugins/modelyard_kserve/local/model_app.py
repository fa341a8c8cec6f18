"""Every route of V1, V2 and gRPC for one model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import modelyard
from modelyard_kserve.local import answers, protocol, v2
from modelyard_kserve.local.batching import Batched, Batches, Batching, Together, joinable, new_id, size_of
from modelyard_kserve.local.calling import Caller, call
from modelyard_kserve.local.grpc_status import SERVICE
from modelyard_kserve.local.messages import Answer, Request, parsed
from modelyard_kserve.local.repository import Repository
from modelyard_kserve.local.runtimes import LoadedModel, Spec
from modelyard_kserve.local.signature import Signature

_EXTENSIONS = ["binary_tensor_data", "model_repository_extension"]
#: MLflow's codes for rows that do not fit a signature.
_CALLERS_FAULT = {"BAD_REQUEST", "INVALID_PARAMETER_VALUE"}
_NOTHING_STATED = Signature()
#: Paths that go on with a model's name.
_MODELS = ("/v1/models/", "/v2/models/", "/v2/repository/models/")


@dataclass
class Refusal(Exception):
    """An answer without a prediction: a status of HTTP, and a sentence.

    Attributes:
        allow: the methods that work there, where it was another one.
    """

    status: int
    sentence: str
    allow: str = ""


class ModelApp:
    """Answers for one model under one name; the identity headers are Envoy's.

    Args:
        name, version: of the model.
        model: in memory.
        probabilities: it answers with those.
        signature: what it says about itself.
        unloaded: see `Repository`.
        batching: requests are gathered so; None: each is one call of the model.
        alias: another name that is answered to; answers say the first.
    """

    def __init__(
        self,
        name: str,
        version: str,
        model: LoadedModel,
        probabilities: bool,
        signature: Signature = _NOTHING_STATED,
        unloaded: Path | None = None,
        batching: Batching | None = None,
        alias: str = "",
    ) -> None:
        self._name, self._version, self._model = name, version, model
        self._alias = alias
        self._signature = signature
        self._outputs = answers.stated_outputs(signature, probabilities)
        self._repository = Repository(name, version, unloaded)
        self._call = Caller(self._asked)
        self._together = Together(self._call, self._call.most) if model.row_by_row else None
        self._batches = self._gathering(batching) if batching is not None else None
        self._infer_path, self._predict_path = f"/v2/models/{name}/infer", f"/v1/models/{name}:predict"
        self._get = self._routes()

    async def __call__(self, request: Request) -> Answer:
        """Route by path; what can't be answered is a status and a sentence."""
        try:
            if self._alias:
                request = self._by_name(request)
            if request.method == "POST":
                return await self._posted(request)
            return self._got(request)
        except Refusal as refusal:
            made = Answer.error(refusal.status, refusal.sentence)
            return made._replace(headers={"allow": refusal.allow}) if refusal.allow else made
        except RecursionError:
            return Answer.error(400, "the body is nested too deeply")

    def _by_name(self, request: Request) -> Request:
        """The request with the model's name in its path instead of its alias."""
        for api in _MODELS:
            rest = request.path.removeprefix(api + self._alias)
            if rest[:1] in ("", "/", ":") and len(rest) < len(request.path):
                return request._replace(path=f"{api}{self._name}{rest}")
        return request

    async def _posted(self, request: Request) -> Answer:
        path = request.path
        if path == self._infer_path:
            return await self._infer(request)
        if path == self._predict_path:
            return await self._predict(request)
        if path.startswith(SERVICE):
            return await self._grpc(request, path.removeprefix(SERVICE))
        if path == "/v2/repository/index":
            with _callers_fault():
                return Answer(200, self._repository.index(parsed(request.body or b"{}")))
        if path.startswith("/v2/repository/models/"):
            name, _, what = path.removeprefix("/v2/repository/models/").rpartition("/")
            if what in ("load", "unload"):
                self._require_name(name)
                return Answer(200, getattr(self._repository, what)())
        if path == f"/v1/models/{self._name}:explain":
            raise Refusal(501, f"'{self._name}' has no explainer")
        if (version := self._versioned(path, "/infer")) is not None:
            self._require(self._name, version)
            return await self._infer(request)
        if path in self._get:
            raise Refusal(405, "only GET works here", "GET, HEAD")
        raise self._nothing_at(path)

    # -- what can be looked at --------------------------------------------------------------

    def _routes(self) -> dict[str, Callable[[], Any]]:
        name = self._name
        return {
            "/": lambda: {"status": "alive"},
            "/v1/models": lambda: {"models": self._names()},
            f"/v1/models/{name}": self._ready,
            "/v2": self._server,
            "/v2/health/live": lambda: {"live": True},
            "/v2/health/ready": lambda: {"ready": True},
            "/v2/models": lambda: {"models": self._names()},
            f"/v2/models/{name}": self._metadata,
            f"/v2/models/{name}/ready": self._ready,
            "/openapi.json": self._openapi,
        }

    def _got(self, request: Request) -> Answer:
        path = request.path
        route = self._get.get(path)
        if route is None:
            for suffix, versioned in (("/ready", self._ready), ("", self._metadata)):
                version = self._versioned(path, suffix)
                if version is not None and "/" not in version:
                    self._require(self._name, version)
                    route = versioned
                    break
        if route is None:
            posts = path.endswith((":predict", ":explain", "/infer")) or path.startswith("/v2/repository/")
            raise Refusal(405, "only POST works here", "POST") if posts else self._nothing_at(path)
        if request.method not in ("GET", "HEAD"):
            raise Refusal(405, "only GET works here", "GET, HEAD")
        return Answer(200, route())

    def _names(self) -> list[str]:
        return [self._name] if self._repository.loaded else []

    def _server(self) -> dict[str, Any]:
        return {"name": "modelyard", "version": modelyard.__version__, "extensions": _EXTENSIONS}

    def _ready(self) -> dict[str, Any]:
        self._require(self._name)
        return {"name": self._name, "ready": True}

    def _metadata(self) -> dict[str, Any]:
        """V2 model metadata, from the model's signature."""
        self._require(self._name)
        inputs = [Spec(spec.name or "input-0", spec.datatype, spec.shape) for spec in self._signature.inputs]
        return {
            "name": self._name,
            "versions": [self._version],
            "platform": self._model.platform,
            "inputs": [_stated(spec) for spec in inputs],
            "outputs": [_stated(spec) for spec in self._outputs],
        }

    def _openapi(self) -> dict[str, Any]:
        from modelyard_kserve.local import openapi

        batched = self._batches is not None
        return openapi.of_model(
            self._name, self._version, self._model, self._signature, self._outputs, batched=batched
        )

    def _versioned(self, path: str, suffix: str) -> str | None:
        """The version in a path that names one."""
        prefix = f"/v2/models/{self._name}/versions/"
        if path.startswith(prefix) and path.endswith(suffix):
            return path[len(prefix) : len(path) - len(suffix)]
        return None

    def _require_name(self, name: str) -> None:
        if name not in (self._name, self._alias or self._name):
            raise Refusal(404, f"there is no model '{name}'; this endpoint serves '{self._name}'")

    def _require(self, name: str, version: str = "") -> None:
        """That the model is this one, and answers."""
        self._require_name(name)
        if version and version != self._version:
            raise Refusal(404, f"'{name}' has version {self._version} here, and no version {version}")
        if not self._repository.loaded:
            raise Refusal(
                404, f"'{name}' was unloaded; POST /v2/repository/models/{name}/load lets it answer again"
            )

    def _nothing_at(self, path: str) -> Refusal:
        if "/models/" in path:
            return Refusal(404, f"no model answers on {path}; this endpoint serves '{self._name}'")
        return Refusal(404, f"there is nothing at {path}")

    # -- predictions ------------------------------------------------------------------------

    async def _predict(self, request: Request) -> Answer:
        self._require(self._name)
        with _callers_fault():
            body = request.json()
            rows = protocol.v1_rows(self._model, body, self._signature)
            params = protocol.v1_params(self._model, body)
        given = await self._answers(rows, params)
        said: dict[str, Any] = {"predictions": answers.predictions(given.answers)}
        if self._batches is not None:  # what KServe's agent adds, which stands between model and caller
            said = {"message": "", "batchId": given.id, **said}
        return Answer(200, answers.dumps(said), rows=size_of(rows), batch=given.rows)

    async def _infer(self, request: Request) -> Answer:
        self._require(self._name)
        with _callers_fault():
            asked = v2.asked(request.body, request.headers.get(v2.JSON_LENGTH), parsed)
        outputs, counted = await self._inferred(asked)
        request_id = asked.id or request.headers.get("x-request-id", "")
        said, raw = v2.answered(self._name, self._version, request_id, outputs)
        body = answers.dumps(said)
        if not raw and v2.JSON_LENGTH not in request.headers:
            return Answer(200, body, {}, *counted)
        headers = {}
        if raw:
            headers = {"content-type": "application/octet-stream", v2.JSON_LENGTH: str(len(body))}
        logged = self._logged(asked, request_id, outputs)
        return Answer(200, b"".join((body, *raw)), headers, *counted, logged)

    def _logged(
        self, asked: v2.Asked, request_id: str, outputs: list[tuple[answers.Output, bool]]
    ) -> tuple[Callable[[], bytes], Callable[[], bytes]]:
        plain = [(output, False) for output, _ in outputs]
        made = partial(v2.answered, self._name, self._version, request_id, plain)
        return v2.as_json(answers.dumps, asked, lambda: made()[0])

    async def _inferred(
        self, asked: v2.Asked
    ) -> tuple[list[tuple[answers.Output, bool]], tuple[int, int | None]]:
        """The outputs, and how many rows there were; see `Answer.rows` and `Answer.batch`."""
        with _callers_fault():
            rows = protocol.v2_rows(self._model, asked.tensors, self._signature)
        given = await self._answers(rows, protocol.v2_params(self._model, asked.parameters))
        made = answers.outputs(given.answers, self._outputs)
        with _callers_fault():
            return asked.chosen(made), (size_of(rows), given.rows)

    def _gathering(self, batching: Batching) -> Batches:
        inputs = [*self._model.inputs, *self._signature.inputs]
        return Batches(self._call, batching if joinable(inputs) else replace(batching, rows=1))

    async def _answers(self, rows: Any, params: Mapping[str, Any]) -> Batched:
        try:
            if params:  # others say other things beside their rows
                return Batched(await self._call(rows, params), new_id(), size_of(rows))
            if self._batches is not None:
                return await self._batches(rows)
            if self._together is not None:
                return await self._together(rows)
            return Batched(await self._call(rows), "", None)
        except ValueError as fault:  # what models say about rows that do not fit them
            raise Refusal(400, _sentence(fault)) from fault
        except Exception as fault:
            if getattr(fault, "error_code", None) in _CALLERS_FAULT:
                raise Refusal(400, _sentence(fault)) from fault
            raise

    def _asked(self, *given: Any) -> Any:
        try:
            return call(self._model.answer, *given)
        except SystemExit as fault:
            raise RuntimeError(f"the model wanted to exit with {fault.code!r:.60}") from None
        except RecursionError as fault:  # which of a body is the caller's fault
            raise RuntimeError("the model called itself too often") from fault

    # -- gRPC -------------------------------------------------------------------------------

    async def _grpc(self, request: Request, method: str) -> Answer:
        from modelyard_kserve.local import grpc_wire

        known = {
            "ServerLive": lambda _: {"live": True},
            "ServerReady": lambda _: {"ready": True},
            "ServerMetadata": lambda _: self._server(),
            "ModelReady": self._grpc_ready,
            "ModelMetadata": self._grpc_metadata,
            "RepositoryModelLoad": self._grpc_load,
            "RepositoryModelUnload": self._grpc_unload,
        }
        if method not in known and method != "ModelInfer":
            raise Refusal(501, f"KServe's service has no method {method:.60}")
        with _callers_fault():
            encoding = request.headers.get("grpc-encoding", "identity")
            asked = grpc_wire.message(f"{method}Request", request.body, encoding)
        if method == "ModelInfer":
            return await self._grpc_infer(request, asked)
        made = getattr(grpc_wire.MESSAGES, f"{method}Response")(**known[method](asked))
        return Answer(200, grpc_wire.framed(made), grpc_wire.HEADERS)

    async def _grpc_infer(self, request: Request, message: Any) -> Answer:
        from modelyard_kserve.local import grpc_wire

        self._require(message.model_name, message.model_version)
        with _callers_fault():
            asked = grpc_wire.asked(message)
        outputs, counted = await self._inferred(asked)
        request_id = asked.id or request.headers.get("x-request-id", "")
        made = grpc_wire.answered(self._name, self._version, request_id, outputs)
        logged = self._logged(asked, request_id, outputs)
        return Answer(200, grpc_wire.framed(made), grpc_wire.HEADERS, *counted, logged)

    def _grpc_ready(self, asked: Any) -> dict[str, Any]:
        self._require_name(asked.name)
        self._require(asked.name, asked.version)
        return {"ready": True}

    def _grpc_metadata(self, asked: Any) -> dict[str, Any]:
        self._require(asked.name, asked.version)
        return self._metadata()

    def _grpc_load(self, asked: Any) -> dict[str, Any]:
        self._require_name(asked.model_name)
        self._repository.load()
        return {"model_name": self._name, "isLoaded": True}

    def _grpc_unload(self, asked: Any) -> dict[str, Any]:
        self._require_name(asked.model_name)
        self._repository.unload()
        return {"model_name": self._name, "isUnloaded": True}


class _callers_fault:
    """What is wrong in the block is the caller's fault: a `ValueError` becomes a 400 with its sentence."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, fault: BaseException | None, trace: Any) -> None:
        if isinstance(fault, ValueError):
            raise Refusal(400, _sentence(fault)) from fault


def _sentence(fault: BaseException) -> str:
    return " ".join(str(fault).split())[:500]


def _stated(spec: Spec) -> dict[str, Any]:
    # What a model does not say is taken as FP32 of any size.
    return {"name": spec.name, "datatype": spec.datatype or "FP32", "shape": list(spec.shape or (-1,))}
