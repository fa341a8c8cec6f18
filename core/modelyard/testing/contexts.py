"""What a provider needs around it, without a project's other providers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from modelyard import project
from modelyard.digests import manifest, manifest_digest
from modelyard.errors import NotFoundError
from modelyard.offers import Offer
from modelyard.records import ModelVersion, now
from modelyard.stages import ResolvedModel, Services, StageContext


def make_context(
    root: Path,
    *,
    provider: str = "memory",
    settings: Any = None,
    services: Services | None = None,
    resolve_model: Callable[[str], ResolvedModel] | None = None,
    event_sink: Callable[[], str | None] | None = None,
    run_artifact: Callable[[str, str], Path] | None = None,
) -> StageContext:
    """A `StageContext` as the core would give it; `root` is made a project if it is none.

    Args:
        root: the project's folder.
        provider: the provider's name, which names its state folder.
        settings: the provider's settings (an instance of its pydantic model).
        services: the background processes (default: the real ones, below `root`).
        resolve_model: default: an empty `ModelShelf`.
        event_sink: default: there is no monitor.
        run_artifact: default: no run logged anything.
    """
    project.create(root)
    state = project.prepare_state(root)
    (state / provider).mkdir(exist_ok=True)
    if services is None:
        from modelyard.processes import ProcessServices

        services = ProcessServices(state)
    resolve = resolve_model or ModelShelf().resolve

    def no_artifact(run_id: str, path: str) -> Path:
        raise NotFoundError("run-not-found", f"there is no run {run_id} that logged {path}")

    return StageContext(
        project="conformance",
        root=root,
        state=state / provider,
        settings=settings,
        services=services,
        resolve_model=resolve,
        find_model=lambda uri: resolve(uri).version,
        event_sink=event_sink or (lambda: None),
        address_of=lambda version: version.uri,
        run_artifact=run_artifact or no_artifact,
    )


def settings_of(offer: Offer[Any], values: Mapping[str, Any]) -> Any:
    """The offer's validated settings, or None if it takes none."""
    return None if offer.settings is None else offer.settings().model_validate(dict(values))


class ModelShelf:
    """Stands in for a registry: model folders by name and version, and aliases that can be moved."""

    def __init__(self) -> None:
        self._models: dict[str, dict[str, ResolvedModel]] = {}
        self._aliases: dict[tuple[str, str], str] = {}

    def put(self, name: str, path: Path) -> ResolvedModel:
        """The folder as the next version of `name`."""
        versions = self._models.setdefault(name, {})
        version = ModelVersion(
            name=name,
            version=str(len(versions) + 1),
            uri=path.as_uri(),
            created=now(),
            digest=manifest_digest(manifest(path)),
            signature=True,
        )
        versions[version.version] = ResolvedModel(version=version, path=path)
        return versions[version.version]

    def point(self, name: str, alias: str, version: str) -> None:
        """Move an alias."""
        self._aliases[name, alias] = version

    def resolve(self, uri: str) -> ResolvedModel:
        """What `models:/NAME/VERSION` or `models:/NAME@ALIAS` means now.

        Raises:
            NotFoundError: `version-not-found`.
        """
        rest = uri.removeprefix("models:/")
        name, at, alias = rest.rpartition("@")
        if at:
            version = self._aliases.get((name, alias), "")
        else:
            name, _, version = rest.rpartition("/")
        found = self._models.get(name, {}).get(version)
        if found is None:
            raise NotFoundError("version-not-found", f"there is no model {uri}", "modelyard models list")
        return found


@dataclass(frozen=True)
class Event:
    """A CloudEvent as it arrived; header names are in lower case."""

    headers: Mapping[str, str]
    body: bytes


@dataclass
class EventCollector:
    """An HTTP server in this process that takes CloudEvents and keeps them; use it in a `with` block."""

    events: list[Event] = field(default_factory=list)

    def __enter__(self) -> EventCollector:
        self._server = serve(self._take)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where to POST."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def of(self, prediction_id: str) -> list[Event]:
        """The events with that `ce-id`."""
        return [event for event in list(self.events) if event.headers.get("ce-id") == prediction_id]

    def _take(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.events.append(Event({k.lower(): v for k, v in request.headers.items()}, body))
        answer(request, 200, b"{}")


def serve(handle: Callable[[BaseHTTPRequestHandler, bytes], None], port: int = 0) -> ThreadingHTTPServer:
    """Start an HTTP server on 127.0.0.1 in a thread; `handle` answers every GET and POST."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            handle(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        def do_GET(self) -> None:
            handle(self, b"")

        def log_message(self, format: str, *args: object) -> None:
            pass  # the callers keep their own logs

    server = _Server(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Bursts of a conformance test overflow the default backlog of 5, and connections are reset.
    request_queue_size = 128


def answer(
    request: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> None:
    """Send a JSON answer."""
    request.send_response(status)
    for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
