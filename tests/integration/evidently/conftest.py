"""A real monitor: its collector is a process of its own, its models have real profiles."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from modelyard.records import Endpoint, ModelVersion, Revision, Window, now
from modelyard.stages import Reference, ResolvedModel, StageContext
from modelyard.targets import Address, Target
from modelyard.testing import make_context
from modelyard.testing.base import eventually
from modelyard.testing.feed import MODEL, START, Feed, late, probability, rows

pytest.importorskip("evidently")

#: What replayed traffic of the tests never reaches.
END = START + timedelta(days=3)
TOKEN = "geheim-0123456789"


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


@pytest.fixture(scope="package")
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


@dataclass
class Pod:
    """The monitor as a pod runs it; `start` after `kill` is what Kubernetes does."""

    state: Path
    every: float = 3600
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        token = self.state.parent / "token"
        token.write_text(f"{TOKEN}\n")
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "modelyard_evidently.server", "--state", str(self.state)]
        command += ["--port", str(self.port), "--token-file", str(token), "--every", str(self.every)]
        self.process = subprocess.Popen(command)
        eventually("an answer of the monitor", lambda: self.ask("GET", "/healthz")[0] == 200 or None)

    def kill(self) -> None:
        """kill -9, workers and all, as of a container."""
        assert self.process is not None
        family = [
            *psutil.Process(self.process.pid).children(recursive=True),
            psutil.Process(self.process.pid),
        ]
        for process in family:
            process.kill()
        psutil.wait_procs(family, timeout=10)
        self.process.wait(10)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()


@dataclass
class Project:
    """A project on the cluster, as its commands see it: each opens the provider anew."""

    pod: Pod
    root: Path
    name: str = "flüge/2013"
    namespace: str = "default"
    token: str = TOKEN
    min_rows: int = 300

    @property
    def monitor(self) -> Any:
        from modelyard_evidently.config import EvidentlySettings
        from modelyard_evidently.remote import RemoteMonitor

        address = Address(url=self.pod.url, inside=self.pod.url, password=self.token)
        target = Target("cluster", namespace=self.namespace, find=lambda _: address)
        settings = EvidentlySettings(min_rows=self.min_rows)
        context = make_context(self.root, provider="evidently", settings=settings)
        return RemoteMonitor(replace(context, project=self.name), target)

    @property
    def endpoint(self) -> Endpoint:
        revision = Revision(
            name=f"{MODEL}-00001", number=1, model=MODEL, version="1",
            storage_uri=f"models:/{MODEL}/1", traffic=100, ready=True, created=now(),
        )  # fmt: skip
        return Endpoint(
            name=MODEL, url=None, ready=True, created=now(), storage_uri="s3://m", revisions=(revision,)
        )

    @property
    def feed(self) -> Feed:
        return Feed(self.monitor, self.endpoint)

    def watch(self, reference: Reference) -> None:
        monitor = self.monitor
        folder = self.root / "model"
        folder.mkdir()
        (folder / "profile.json").write_text(json.dumps(monitor.profile(reference), allow_nan=False))
        version = ModelVersion(name=MODEL, version="1", uri=folder.as_uri(), created=now())
        monitor.watch(self.endpoint, [ResolvedModel(version=version, path=folder)])

    def windows(self) -> list[Window]:
        return list(self.monitor.windows(MODEL, until=END))


@pytest.fixture
def new_pod() -> Iterator[Callable[..., Pod]]:
    """Starts monitors of clusters; ends them."""
    made: list[Pod] = []

    def begin(state: Path, **more: Any) -> Pod:
        state.parent.mkdir(parents=True, exist_ok=True)
        made.append(Pod(state, **more))
        made[-1].start()
        return made[-1]

    yield begin
    for pod in made:
        pod.end()


@pytest.fixture
def pod(new_pod: Callable[..., Pod], tmp_path: Path) -> Pod:
    return new_pod(tmp_path / "pod" / "data äö")


@pytest.fixture
def new_project(tmp_path: Path, reference: Reference) -> Callable[..., Project]:
    """Makes projects that watch `late-flights` on a cluster."""

    def begin(pod: Pod, folder: str = "späte Flüge", **more: Any) -> Project:
        made = Project(pod, tmp_path / folder, **more)
        made.watch(reference)
        return made

    return begin


@pytest.fixture
def project(pod: Pod, new_project: Callable[..., Project]) -> Project:
    return new_project(pod)
