"""V1, V2 and gRPC for a project's own `kserve.Model` classes, which are used as they are."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import re
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import modelyard
from modelyard_kserve.local import answers, by_name, kserve_requests, upstream, v2
from modelyard_kserve.local.calling import call
from modelyard_kserve.local.grpc_status import SERVICE
from modelyard_kserve.local.messages import Answer, Request, closed
from modelyard_kserve.local.repository import entry, only_ready

_REPOSITORY = ("RepositoryModelLoad", "RepositoryModelUnload")
_METHODS = ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer")
_OF_VERSION = re.compile(r"(/v2/models/[^/]+)/versions/([^/]+)(/infer|/ready|)")
_LOADING = re.compile(r"/v2/repository/models/([^/]+)/(load|unload)")


class KserveApp:
    """Answers for the models that a program handed to KServe's ModelServer.

    Args:
        name: of the endpoint; a single model answers under it, too, whatever it calls itself.
        version: of the model.
        repository: KServe's own, which knows the models by the names that they have; the program may have
            brought one that can load others.
    """

    def __init__(self, name: str, version: str, repository: Any) -> None:
        self._name, self._version, self._repository = name, version, repository
        there = list(repository.get_models())
        self._only = there[0] if len(there) == 1 else name
        # One thread: KServe calls what is not async on its event loop, so never two at a time.
        self._thread = ThreadPoolExecutor(1)

    async def __call__(self, request: Request) -> Answer:
        """Route by path."""
        path = request.path
        if versioned := _OF_VERSION.fullmatch(path):
            if versioned[2] != self._version:
                return Answer.error(404, self._no_version(versioned[2]))
            path = versioned[1] + versioned[3]
        for prefix, suffix, asked in (
            ("/v1/models/", ":predict", self._v1),
            ("/v1/models/", ":explain", functools.partial(self._v1, explain=True)),
            ("/v2/models/", "/infer", self._v2),
        ):
            if request.method == "POST" and path.startswith(prefix) and path.endswith(suffix):
                return await self._guarded(asked(path[len(prefix) : -len(suffix)], request))
        if request.method == "POST" and path.startswith(SERVICE):
            return await self._guarded(self._grpc(path.removeprefix(SERVICE), request))
        if request.method == "POST" and path == "/v2/repository/index":
            return await self._guarded(self._index(request))
        if request.method == "POST" and (loading := _LOADING.fullmatch(path)):
            return await self._guarded(self._loading(*loading.groups()))
        if request.method not in ("GET", "HEAD"):
            if path in ("/", "/v1/models"):
                return Answer(405, {"error": "only GET works here"}, {"allow": "GET, HEAD"})
            return Answer.error(404, f"there is nothing at {path}")
        return await self._guarded(self._got(path))

    async def _got(self, path: str) -> Answer:
        fixed = {
            "/": {"status": "alive"},
            "/v1/models": {"models": self._names()},
            "/v2": self._server(),
            "/v2/health/live": {"live": True},
            "/v2/models": {"models": self._names()},
        }
        if path in fixed:
            return Answer(200, fixed[path])
        if path == "/openapi.json":
            return Answer(200, await self._openapi())
        if path == "/v2/health/ready":
            ready = await self._ready()
            return Answer(200 if ready else 503, {"ready": ready})
        for prefix in ("/v1/models/", "/v2/models/"):
            if path.startswith(prefix):
                name = path.removeprefix(prefix).removesuffix("/ready")
                if prefix == "/v2/models/" and not path.endswith("/ready"):
                    return Answer(200, await self._described(name))
                ready = bool(await self._model(name).healthy())
                return Answer(200 if ready else 503, {"name": name, "ready": ready})
        return Answer.error(404, f"there is nothing at {path}")

    def _server(self) -> dict[str, Any]:
        extensions = ["binary_tensor_data", "model_repository_extension"]
        return {"name": "modelyard", "version": modelyard.__version__, "extensions": extensions}

    async def _ready(self) -> bool:
        return all([await model.healthy() for model in self._repository.get_models().values()])

    async def _described(self, name: str) -> dict[str, Any]:
        model = self._model(name)
        types = [given() for given in (model.get_input_types, model.get_output_types)]
        inputs, outputs = [await one if inspect.isawaitable(one) else one for one in types]
        return {
            "name": name,
            "versions": [self._version],
            "platform": type(model).__name__,
            "inputs": inputs,
            "outputs": outputs,
        }

    async def _openapi(self) -> dict[str, Any]:
        from modelyard_kserve.local import openapi

        several = len(self._repository.get_models()) != 1
        told = {} if several else await self._described(self._only)
        inputs, outputs = told.get("inputs", ()), told.get("outputs", ())
        return openapi.of_classes(self._name, self._version, self._names(), inputs, outputs)

    def _model(self, name: str) -> Any:
        if (found := self._repository.get_model(self._own_name(name))) is None:
            raise _Unknown(f"there is no model '{name}'; there are: {', '.join(self._names()) or 'none'}")
        return found

    def _own_name(self, name: str) -> str:
        """What a model calls itself; a single one answers under the endpoint's name, too."""
        return self._only if name == self._name else name

    def _names(self) -> list[str]:
        there = list(self._repository.get_models())
        return [*there, self._name] if self._only in there and self._name not in there else there

    def _no_version(self, version: str) -> str:
        return f"'{self._name}' has version {self._version} here, and no version {version:.60}"

    def _require_version(self, version: str) -> None:
        if version and version != self._version:
            raise _Unknown(self._no_version(version))

    # -- KServe's repository extension ------------------------------------------------------

    async def _index(self, request: Request) -> Answer:
        """What is there, as Triton says it."""
        wanted = _callers(only_ready, request.json() if request.body else {})
        found = []
        for name, model in self._repository.get_models().items():
            ready = bool(await model.healthy())
            if ready or not wanted:
                found.append(entry(name, self._version, "" if ready else "not ready"))
        return Answer(200, found)

    async def _loading(self, name: str, what: str) -> Answer:
        return Answer(200, await self._loaded(name, what))

    async def _loaded(self, name: str, what: str) -> dict[str, Any]:
        """Load or unload it as KServe does: the program's repository says what that means."""
        from kserve.protocol.model_repository_extension import ModelRepositoryExtension

        await getattr(ModelRepositoryExtension(self._repository), what)(self._own_name(name))
        return {"name": name, what: True}

    # -- asking -----------------------------------------------------------------------------

    async def _v1(self, name: str, request: Request, explain: bool = False) -> Answer:
        model, body = self._model(name), _callers(request.json)
        if not isinstance(body, dict):
            raise _CallersFault("the body is not a JSON object")
        try:
            said, headers = await self._said(model, body, request, explain)
        except KeyError as fault:
            if fault.args[:1] in (("instances",), ("inputs",)) and fault.args[0] not in body:
                raise _CallersFault(f"the body needs '{fault.args[0]}'") from None
            raise
        if isinstance(said, AsyncIterator):
            # What fails before there is anything to say is a status yet.
            first = await anext(said, b"")
            return Answer(200, None, headers, pieces=_and_then(first, said))
        key = "explanations" if explain else "predictions"
        value = _plain(said)
        return Answer(200, value if isinstance(value, (dict, bytes)) else {key: value}, headers)

    async def _v2(self, name: str, request: Request) -> Answer:
        model = self._model(name)
        asked, (log_asked, log_said) = _callers(kserve_requests.from_rest, name, request)
        said, headers = await self._said(model, asked, request, False)
        _require_whole(said)
        logged = (log_asked, functools.partial(log_said, said)) if v2.JSON_LENGTH in request.headers else None
        if hasattr(said, "to_rest"):
            body, json_size = said.to_rest()
            if json_size is not None:
                logged = (log_asked, functools.partial(log_said, said))
                headers |= {v2.JSON_LENGTH: str(json_size), "content-type": "application/octet-stream"}
            return Answer(200, body, headers, logged=logged)
        if isinstance(said, (dict, bytes)):
            return Answer(200, _plain(said), headers, logged=None if isinstance(said, bytes) else logged)
        outputs = [(output, False) for output in kserve_requests.outputs(said)]
        made, _ = v2.answered(name, self._version, asked.id, outputs)
        return Answer(200, answers.dumps(made), headers, logged=logged)

    async def _grpc(self, method: str, request: Request) -> Answer:
        from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages

        from modelyard_kserve.local import grpc_wire

        if method not in (*_METHODS, *_REPOSITORY):
            return Answer.error(501, f"classes of one's own are not asked for {method:.60} here")
        encoding = request.headers.get("grpc-encoding", "identity")
        asked = _callers(grpc_wire.message, f"{method}Request", request.body, encoding, messages)
        if method == "ModelInfer":
            return await self._grpc_infer(asked, request)
        made = getattr(messages, f"{method}Response")(**await self._told(method, asked))
        return Answer(200, grpc_wire.framed(made), grpc_wire.HEADERS)

    async def _told(self, method: str, asked: Any) -> dict[str, Any]:
        if method == "ServerLive":
            return {"live": True}
        if method == "ServerReady":
            return {"ready": await self._ready()}
        if method == "ServerMetadata":
            return self._server()
        if method == "ModelReady":
            self._require_version(asked.version)
            return {"ready": bool(await self._model(asked.name).healthy())}
        if method in _REPOSITORY:
            what = method.removeprefix("RepositoryModel").lower()
            await self._loaded(asked.model_name, what)
            return {"model_name": asked.model_name, f"is{what.capitalize()}ed": True}
        self._require_version(asked.version)
        return await self._described(asked.name)

    async def _grpc_infer(self, message: Any, request: Request) -> Answer:
        from modelyard_kserve.local import grpc_wire

        name = message.model_name
        self._require_version(message.model_version)
        model = self._model(name)
        asked, (log_asked, log_said) = _callers(kserve_requests.from_grpc, message)
        said, _ = await self._said(model, asked, request, False)
        _require_whole(said)
        made = kserve_requests.to_grpc(said, asked, name, self._version)
        logged = (log_asked, functools.partial(log_said, said))
        return Answer(200, grpc_wire.framed(made), grpc_wire.HEADERS, logged=logged)

    async def _said(
        self, model: Any, body: Any, request: Request, explain: bool
    ) -> tuple[Any, dict[str, str]]:
        """What the model answers, step by step as KServe goes, and the headers that it sets."""
        if not model.ready:
            raise _NotReady(f"the model '{model.name}' is not ready")
        headers, back = dict(request.headers), {}  # type: ignore[var-annotated]
        given = (headers, back) if getattr(model, "required_response_headers", False) else (headers,)
        if not hasattr(model, "preprocess"):  # an InferenceModel, which does everything itself
            said = await self._call(model, body, headers)
            said = said[0] if isinstance(said, tuple) else said
        else:
            payload = model.validate(await self._call(model.preprocess, body, headers))
            if explain:
                said = await self._call(model.explain, payload, headers)
            else:
                said = await self._predicted(model, payload, *given)
            said = await self._call(model.postprocess, said, *given)
        if inspect.isgenerator(said):
            raise NotImplementedError("the model answers in pieces, which only `async def predict` can do")
        return said, upstream.passed_on(back)

    async def _predicted(self, model: Any, payload: Any, *given: Any) -> Any:
        try:
            return await self._call(model.predict, payload, *given)
        except Exception as fault:
            if wrong := upstream.by_another_protocol(model, payload, fault):
                raise _CallersFault(wrong) from None
            raise

    async def _call(self, function: Any, *given: Any) -> Any:
        """Await it, or run it in the thread: a slow one must not keep others from being asked."""
        called = function if inspect.isroutine(function) else type(function).__call__
        if inspect.iscoroutinefunction(called):
            return await function(*given)
        loop = asyncio.get_running_loop()
        within = contextvars.copy_context()  # in it KServe keeps the predictor's address
        said = await loop.run_in_executor(self._thread, functools.partial(within.run, call, function, *given))
        return await said if inspect.isawaitable(said) else said

    async def _guarded(self, answering: Any) -> Answer:
        """The answer; what KServe's errors mean as a status. Others are the model's fault, and a 500."""
        from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady

        try:
            made: Answer = await answering
        except (_CallersFault, InvalidInput) as fault:
            return Answer.error(400, _sentence(fault))
        except (_Unknown, ModelNotFound) as fault:
            return Answer.error(404, _sentence(fault))
        except (_NotReady, ModelNotReady) as fault:
            return Answer.error(503, _sentence(fault))
        except NotImplementedError as fault:
            return Answer.error(501, _sentence(fault) or "the model does not do that")
        except Exception as fault:
            passed_on = upstream.answer_of(fault)
            if passed_on is not None:
                return passed_on
            status = getattr(fault, "status_code", None)  # an HTTPException of FastAPI or Starlette
            if isinstance(status, int) and 400 <= status < 600:
                detail = getattr(fault, "detail", "") or _sentence(fault)
                return Answer(status, {"detail": detail})  # as FastAPI says it, and so KServe
            raise
        return made


class _CallersFault(Exception):
    pass


class _NotReady(Exception):
    pass


class _Unknown(Exception):
    pass


def _callers(read: Callable[..., Any], *given: Any) -> Any:
    """What is read out of a request; what is wrong there is the caller's fault."""
    try:
        return read(*given)
    except ValueError as fault:
        raise _CallersFault(_sentence(fault)) from None


async def _and_then(first: Any, others: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        yield first
        async for piece in others:
            yield piece
    finally:
        await closed(others)


def _require_whole(said: Any) -> None:
    if isinstance(said, AsyncIterator):
        raise NotImplementedError("the model answers in pieces, which only V1's :predict can say")


def _plain(value: Any) -> Any:
    """JSON out of what models like to answer, however deep arrays and tables lie in it."""
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return value.to_dict("records")
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    return value if isinstance(value, bytes) else by_name.plain(value)


def _sentence(fault: Exception) -> str:
    return " ".join(str(fault).split())[:500]
