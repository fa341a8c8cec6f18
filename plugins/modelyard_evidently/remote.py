"""The stage `monitoring` on a cluster: the monitor runs there, and this asks it."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from modelyard.errors import EnvironmentFault, NotFoundError
from modelyard.records import Alert, Endpoint, Prediction, Promotion, Window
from modelyard.stages import Label, Reference, ResolvedModel, ServiceSpec, StageContext
from modelyard.state import write_bytes
from modelyard.targets import Address, Target
from modelyard_evidently import profile as profiles
from modelyard_evidently import rules
from modelyard_evidently.config import EvidentlySettings
from modelyard_evidently.folder import deployment_marks, promotion_mark, served_of
from modelyard_evidently.wire import error_of, path_of, pieces_of

#: Seconds for an answer: scoring a month of rows, or drawing Evidently's page, takes minutes.
_PATIENCE, _LONG = 60.0, 900.0


class RemoteMonitor:
    """See `modelyard.stages.Monitor`; the promises are written there.

    A target may have no monitor (the small sandbox has none): then endpoints are not watched, and what asks
    for predictions says so.
    """

    def __init__(self, context: StageContext, target: Target) -> None:
        self._settings: EvidentlySettings = context.settings or EvidentlySettings()
        self._target = target
        self._area = path_of(target.namespace, context.project)

    # -- what models and endpoints tell us ------------------------------------------------------

    def profile(self, reference: Reference) -> Mapping[str, Any]:
        """See `Monitor.profile`."""
        return profiles.build(reference, floor=self._settings.drift_floor)

    def watch(self, endpoint: Endpoint, models: Sequence[ResolvedModel]) -> None:
        """See `Monitor.watch`."""
        if self._is_there:
            served = [asdict(served_of(model)) for model in models]
            self._ask("PUT", path_of("endpoints", endpoint.name), body=_json(served))

    def mark_promotion(self, promotion: Promotion) -> None:
        """Have the exporter show a promotion."""
        self._mark([promotion_mark(promotion)])

    def mark_deployment(self, endpoint: Endpoint) -> None:
        """Have the exporter show what an endpoint serves now."""
        self._mark(deployment_marks(endpoint))

    # -- the prediction log ---------------------------------------------------------------------

    def event_sink(self) -> str | None:
        """See `Monitor.event_sink`: the address inside the cluster."""
        if not self._is_there:
            return None
        return f"{self._monitor.inside.rstrip('/')}/events{self._area}"

    def find(self, prediction_id: str) -> Prediction:
        """See `Monitor.find`."""
        return Prediction.from_dict(self._ask("GET", path_of("predictions", prediction_id)))

    def add_labels(self, endpoint: str, labels: Iterable[Label]) -> int:
        """See `Monitor.add_labels`; all of them are stored, or none."""
        path = path_of("endpoints", endpoint, "labels")
        return int(self._ask("PUT", path, body=pieces_of(labels), patience=_LONG))

    # -- windows --------------------------------------------------------------------------------

    def windows(self, endpoint: str, *, until: datetime | None = None, limit: int = 50) -> list[Window]:
        """See `Monitor.windows`."""
        asked = {"limit": str(limit), **({"until": until.isoformat()} if until else {})}
        path = f"{path_of('endpoints', endpoint, 'windows')}?{urlencode(asked)}"
        return [Window.from_dict(each) for each in self._ask("GET", path, patience=_LONG)]

    def alerts(self, endpoint: str) -> list[Alert]:
        """See `Monitor.alerts`."""
        return [Alert.from_dict(each) for each in self._ask("GET", path_of("endpoints", endpoint, "alerts"))]

    def rules(self) -> str:
        """See `Monitor.rules`."""
        return rules.text()

    def metrics(self) -> str:
        """See `Monitor.metrics`."""
        return str(self._ask("GET", path_of("metrics")))

    def report(self, endpoint: str, out: Path, *, version: str | None = None) -> Path:
        """See `Monitor.report`."""
        asked = f"?{urlencode({'version': version})}" if version else ""
        page = self._ask("GET", path_of("endpoints", endpoint, "report") + asked, patience=_LONG, page=True)
        write_bytes(out, page)
        return out

    def services(self) -> Sequence[ServiceSpec]:
        """See `Monitor.services`: none on this machine."""
        return ()

    # -- asking ---------------------------------------------------------------------------------

    @cached_property
    def _monitor(self) -> Address:
        """Where the monitor is, once it knows this project and its settings."""
        address = self._target.address("monitor")
        settings = self._settings.model_dump_json().encode()
        _request(address, "PUT", f"/api{self._area}", settings, _PATIENCE)
        return address

    @cached_property
    def _is_there(self) -> bool:
        try:
            return bool(self._monitor)
        except NotFoundError as fault:
            if fault.code == "target-service-unknown":
                return False
            raise

    def _ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | Iterator[bytes] = b"",
        patience: float = _PATIENCE,
        page: bool = False,
    ) -> Any:
        said = _request(self._monitor, method, f"/api{self._area}{path}", body, patience)
        return said if page else json.loads(said)["value"]

    def _mark(self, marks: Sequence[Mapping[str, Any]]) -> None:
        if marks and self._is_there:
            self._ask("POST", path_of("marks"), body=_json(marks))


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _request(
    address: Address, method: str, path: str, body: bytes | Iterator[bytes], patience: float
) -> bytes:
    """The body of a good answer.

    Raises:
        EnvironmentFault: `monitor-unreachable`, `monitor-refused`.
        ModelyardError: what the monitor says.
    """
    parts = urlsplit(address.url)
    connection = _connection(parts.scheme, parts.hostname or "", parts.port, patience)
    headers = {"Authorization": f"Bearer {address.password}"}
    try:
        connection.connect()
        with contextlib.suppress(ConnectionError):  # who refuses a body does not read it, but says why
            connection.request(method, f"{parts.path.rstrip('/')}{path}", body, headers)
        answer = connection.getresponse()
        said = answer.read()
    except (OSError, http.client.HTTPException) as fault:
        raise _unreachable(address, str(fault) or type(fault).__name__) from None
    finally:
        connection.close()
    if answer.status == 200:
        return said
    if answer.status == 401:
        raise EnvironmentFault(
            "monitor-refused",
            f"the monitor at {address.url} refuses the token",
            "the target's secret names another one; a sandbox knows its own: modelyard sandbox up",
        )
    try:
        refusal = error_of(json.loads(said)["error"])
    except (ValueError, KeyError, TypeError):
        raise _unreachable(address, f"what is there answers {answer.status}, as no monitor does") from None
    raise refusal


def _connection(scheme: str, host: str, port: int | None, patience: float) -> http.client.HTTPConnection:
    if scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=patience, context=context)
    return http.client.HTTPConnection(host, port, timeout=patience)


def _unreachable(address: Address, said: str) -> EnvironmentFault:
    return EnvironmentFault(
        "monitor-unreachable",
        f"the monitor at {address.url} does not answer: {said}",
        "see whether it runs: modelyard sandbox status",
    )
