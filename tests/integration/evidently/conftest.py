"""A real monitor: its collector is a process of its own, its models have real profiles."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from modelyard.records import Endpoint, ModelVersion, Revision, now
from modelyard.stages import Reference, ResolvedModel, StageContext
from modelyard.testing import make_context
from modelyard.testing.feed import MODEL, START, Feed, late, probability, rows

pytest.importorskip("evidently")


@dataclass
class Watched:
    """A monitor that watches one endpoint, as commands see it: each call opens the provider anew."""

    context: StageContext
    endpoint: Endpoint

    @property
    def monitor(self) -> Any:
        from modelyard_evidently.provider import EvidentlyMonitor

        return EvidentlyMonitor(self.context)

    @property
    def feed(self) -> Feed:
        return Feed(self.monitor, self.endpoint)

    @property
    def url(self) -> str:
        sink = self.monitor.event_sink()
        assert sink is not None
        return str(sink).rstrip("/")

    def collector(self) -> psutil.Process:
        service = self.context.services.get("monitor")
        assert service is not None
        assert service.pid is not None
        return psutil.Process(service.pid)


@pytest.fixture(scope="session")
def reference() -> Reference:
    import pandas as pd

    sample = rows(2000, seed=1)
    return Reference(
        features=pd.DataFrame(sample),
        labels=[late(row) for row in sample],
        predictions=[probability(row) for row in sample],
        times=[START - timedelta(days=40) + timedelta(minutes=28) * n for n in range(2000)],
    )


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    """Makes a monitor that watches `late-flights` with a profile of the reference; ends its collector."""
    made: list[Watched] = []

    def begin(reference: Reference, root: Path | None = None, **settings: Any) -> Watched:
        from modelyard_evidently.config import EvidentlySettings
        from modelyard_evidently.provider import EvidentlyMonitor

        context = make_context(
            root or tmp_path / "späte Flüge", provider="evidently", settings=EvidentlySettings(**settings)
        )
        monitor = EvidentlyMonitor(context)
        folder = context.root / "model"
        folder.mkdir()
        (folder / "profile.json").write_text(json.dumps(monitor.profile(reference), allow_nan=False))
        version = ModelVersion(name=MODEL, version="1", uri=folder.as_uri(), created=now())
        revision = Revision(
            name=f"{MODEL}-00001", number=1, model=MODEL, version="1",
            storage_uri=f"models:/{MODEL}/1", traffic=100, ready=True, created=now(),
        )  # fmt: skip
        endpoint = Endpoint(
            name=MODEL, url="http://127.0.0.1:1", ready=True, created=now(),
            storage_uri=f"models:/{MODEL}@production", revisions=(revision,),
        )  # fmt: skip
        monitor.watch(endpoint, [ResolvedModel(version=version, path=folder)])
        made.append(Watched(context, endpoint))
        return made[-1]

    yield begin
    for watched in made:
        watched.context.services.stop("monitor")


@pytest.fixture
def watched(watch: Callable[..., Watched], reference: Reference) -> Watched:
    return watch(reference)


@pytest.fixture
def prometheus() -> str:
    found = shutil.which("prometheus")
    if found is None:
        pytest.skip("Prometheus is not installed")
    return found
