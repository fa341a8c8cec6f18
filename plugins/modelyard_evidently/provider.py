"""The stage `monitoring` on this machine: a collector of its own, everything else in the project's folder."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from modelyard.errors import EnvironmentFault
from modelyard.records import Alert, Endpoint, Prediction, Promotion, Window
from modelyard.stages import Label, Reference, ResolvedModel, ServiceSpec, StageContext
from modelyard_evidently import profile as profiles
from modelyard_evidently import rules
from modelyard_evidently.config import EvidentlySettings
from modelyard_evidently.folder import MonitorFolder, deployment_marks, promotion_mark, served_of

_SERVICE = "monitor"


class EvidentlyMonitor:
    """See `modelyard.stages.Monitor`; the promises are written there."""

    def __init__(self, context: StageContext) -> None:
        self._context = context
        self._settings: EvidentlySettings = context.settings or EvidentlySettings()
        self._folder = MonitorFolder(context.state, self._settings)

    # -- what models and endpoints tell us ------------------------------------------------------

    def profile(self, reference: Reference) -> Mapping[str, Any]:
        """See `Monitor.profile`."""
        return profiles.build(reference, floor=self._settings.drift_floor)

    def watch(self, endpoint: Endpoint, models: Sequence[ResolvedModel]) -> None:
        """See `Monitor.watch`."""
        self._folder.watch(endpoint.name, map(served_of, models))

    def mark_promotion(self, promotion: Promotion) -> None:
        """Remember a promotion for the exporter."""
        self._folder.mark([promotion_mark(promotion)])

    def mark_deployment(self, endpoint: Endpoint) -> None:
        """Remember what an endpoint serves now for the exporter."""
        self._folder.mark(deployment_marks(endpoint))

    # -- the prediction log ---------------------------------------------------------------------

    def event_sink(self) -> str | None:
        """See `Monitor.event_sink`."""
        service = self._context.services.start(self._spec())
        return f"{service.url}/"

    def find(self, prediction_id: str) -> Prediction:
        """See `Monitor.find`."""
        self._flush()
        return self._folder.find(prediction_id)

    def add_labels(self, endpoint: str, labels: Iterable[Label]) -> int:
        """See `Monitor.add_labels`."""
        return self._folder.add_labels(endpoint, labels)

    # -- windows --------------------------------------------------------------------------------

    def windows(self, endpoint: str, *, until: datetime | None = None, limit: int = 50) -> list[Window]:
        """See `Monitor.windows`."""
        self._flush()
        return self._folder.windows(endpoint, until=until, limit=limit)

    def alerts(self, endpoint: str) -> list[Alert]:
        """See `Monitor.alerts`."""
        counts = self._flush()
        return self._folder.alerts(endpoint, last_loss=None if counts is None else counts["last_loss"])

    def rules(self) -> str:
        """See `Monitor.rules`."""
        return rules.text()

    def metrics(self) -> str:
        """See `Monitor.metrics`."""
        return self._folder.metrics()

    def report(self, endpoint: str, out: Path, *, version: str | None = None) -> Path:
        """See `Monitor.report`."""
        return self._folder.report(endpoint, out, version=version)

    def services(self) -> Sequence[ServiceSpec]:
        """See `Monitor.services`."""
        return [self._spec()]

    # -- the collector --------------------------------------------------------------------------

    def _flush(self) -> dict[str, Any] | None:
        """Have the collector write what it took; its counts. One that does not run has nothing."""
        service = self._context.services.get(_SERVICE)
        if service is None or service.status != "running" or service.port is None:
            return None
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=120)
        try:
            connection.request("POST", "/flush")
            counts: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as fault:
            raise EnvironmentFault(
                "monitor-unreachable", f"the monitor does not answer: {fault}", "modelyard logs monitor"
            ) from None
        finally:
            connection.close()
        return counts

    def _spec(self) -> ServiceSpec:
        argv = [sys.executable, "-m", "modelyard_evidently.collector"]
        argv += ["--state", str(self._context.state), "--port", "{port}"]
        return ServiceSpec(name=_SERVICE, argv=tuple(argv), health="/healthz")
