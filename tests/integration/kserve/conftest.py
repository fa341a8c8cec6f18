"""A project with the local KServe runtime, and two real models that answer differently."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from modelyard.records import Endpoint
from modelyard.stages import StageContext
from modelyard.state import read_json
from modelyard.testing import ModelShelf, make_context

pytest.importorskip("kserve")
pytest.importorskip("mlflow")

#: Rows with a hole in a column of floats, which gradient boosting takes as it is.
ROWS: list[dict[str, Any]] = [
    {"temp": 20.5, "stops": 0},
    {"temp": -4.0, "stops": 2},
    {"temp": None, "stops": 1},
    {"temp": 31.25, "stops": 1},
]

#: What a command does, in a process of its own that can be killed.
_CHILD = """
import json, sys
from pathlib import Path
from modelyard.errors import ModelyardError
from modelyard.testing import ModelShelf, make_context
from modelyard_kserve.config import KserveSettings
from modelyard_kserve.provider import KserveServer
root, folders, calls = json.loads(sys.argv[1])
shelf = ModelShelf()
for folder in folders:
    shelf.put("late-flights", Path(folder))
context = make_context(Path(root), provider="kserve", settings=KserveSettings(), resolve_model=shelf.resolve)
server = KserveServer(context)
print("begin", flush=True)
try:
    for method, *arguments in calls:
        if method == "up":
            for spec in server.services():
                context.services.start(spec)
        else:
            getattr(server, method)(*[Path(a) if method == "apply" else a for a in arguments])
    print("done")
except ModelyardError as fault:
    print(fault.code, fault.message)
"""


@dataclass
class Sample:
    """A model in this process and the MLflow folder that holds the same."""

    model: Any
    folder: Path


@dataclass
class Project:
    """A project as commands see it: each call opens the provider anew."""

    context: StageContext
    shelf: ModelShelf
    folders: list[Path]
    files: int = 0

    @property
    def server(self) -> Any:
        from modelyard_kserve.provider import KserveServer

        return KserveServer(self.context)

    def file(self, name: str, uri: str, canary: int | None = None, **model: Any) -> Path:
        """Write an InferenceService."""
        name_of = "mlflow" if uri.startswith("models:/") else "sklearn"
        predictor = {"model": {"modelFormat": {"name": name_of}, "storageUri": uri, **model}}
        if canary is not None:
            predictor["canaryTrafficPercent"] = canary  # type: ignore[assignment]
        content = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name},
            "spec": {"predictor": predictor},
        }
        self.files += 1
        file = self.context.root / f"{name}-{self.files}.yaml"
        file.write_text(json.dumps(content), encoding="utf-8")
        return file

    def child(self, *calls: tuple[Any, ...]) -> subprocess.Popen[str]:
        """The calls of a server in another process, which prints `begin`, then `done` or the error."""
        given = json.dumps(
            [str(self.context.root), [str(f) for f in self.folders], [[str(a) for a in c] for c in calls]]
        )
        return subprocess.Popen(
            [sys.executable, "-c", _CHILD, given],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def apply(self, name: str, uri: str, canary: int | None = None, **model: Any) -> Endpoint:
        made: Endpoint = self.server.apply(self.file(name, uri, canary, **model))
        return made

    def up(self) -> None:
        for spec in self.server.services():
            self.context.services.start(spec)

    def down(self) -> None:
        for service in self.context.services.all():  # type: ignore[attr-defined]
            self.context.services.stop(service.name)

    def part(self, name: str) -> psutil.Process:
        """The `controller`, `activator`, `envoy` or `fork_server`; there must be exactly one."""
        (found,) = self.parts(name)
        return psutil.Process(found)

    def kill(self, name: str) -> psutil.Process:
        """KILL a part; it is gone when this returns."""
        killed = self.part(name)
        killed.kill()
        assert within(60, lambda: not runs(killed))
        return killed

    def parts(self, name: str) -> list[int]:
        """The pids of all that are called so."""
        running = self.forkers() if name == "fork_server" else self.everything()
        return [p.pid for p in running if any(name in word for word in words(p)[:3])]

    def model_servers(self, name: str) -> dict[int, psutil.Process]:
        """The first process of each model, by revision."""
        seen = read_json(self.context.state / "endpoints" / name / "observed.json")
        pids = {int(n): r["pids"][0] for n, r in seen["revisions"].items() if r["pids"]}
        return {n: psutil.Process(pid) for n, pid in pids.items() if psutil.pid_exists(pid)}

    def folder(self, name: str) -> Path:
        """Where the endpoint's state files lie."""
        return self.context.state / "endpoints" / name

    def everything(self) -> list[psutil.Process]:
        """All processes behind the endpoints, however they were started."""
        mark, found = str(self.context.state.parent / "services" / "serving.json"), []
        for process in psutil.process_iter(["environ", "status"]):
            marked = (process.info["environ"] or {}).get("MODELYARD_SERVICE") == mark
            if marked and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def family(self, name: str) -> list[psutil.Process]:
        """The model servers of one endpoint."""
        running = self.everything()  # first: what starts meanwhile is written down before it runs
        records = (self.sockets / "replicas").glob(f"{name}.*.json")
        pids = {(read_json(record) or {}).get("pid") for record in records}
        found = [p for p in running if p.pid in pids or ["--name", name] in pairs(words(p))]
        assert all(p.pid in pids or not runs(p) for p in found), "one runs that nobody has written down"
        return found

    def forkers(self) -> list[psutil.Process]:
        """The fork servers."""
        records = self.sockets.glob("forks-*.json")
        pids = {(read_json(record) or {}).get("pid") for record in records}
        return [p for p in self.everything() if p.pid in pids]

    @property
    def sockets(self) -> Path:
        from modelyard_kserve.local import desired

        return desired.run_folder(self.context.state)


def words(process: psutil.Process) -> list[str]:
    """Its command line; none if it has just ended."""
    try:
        found: list[str] = process.cmdline()
        return found
    except psutil.Error:
        return []


def pairs(words: list[str]) -> list[list[str]]:
    return [words[place : place + 2] for place in range(len(words))]


def runs(process: psutil.Process) -> bool:
    """Whether it is that process still, and no zombie."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def within(seconds: float, check: Callable[[], bool]) -> bool:
    """Whether it becomes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.02)
    return check()


def post(
    url: str, path: str, body: bytes, headers: dict[str, str] | None = None, seconds: float = 60
) -> tuple[int, http.client.HTTPMessage, str]:
    """Status, headers and text of the answer to a plain POST."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=seconds)
    try:
        connection.request(
            "POST", parts.path + path, body, {"Content-Type": "application/json", **(headers or {})}
        )
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


@dataclass
class Callers:
    """Four threads that ask an endpoint without a pause; use it in a `with` block.

    `answers` holds the time a request began, its status (0: no answer came) and the version or the fault.
    """

    url: str
    name: str
    rows: Any = field(default_factory=lambda: ROWS)
    answers: list[tuple[float, int, str]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Callers:
        self._threads = [threading.Thread(target=self._ask) for _ in range(4)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self._threads:
            thread.join(90)

    def failed(self) -> list[tuple[float, int, str]]:
        return [answer for answer in self.answers if answer[1] != 200]

    def versions(self, since: float = 0.0) -> set[str]:
        return {said for began, status, said in list(self.answers) if status == 200 and began >= since}

    def _ask(self) -> None:
        body = json.dumps({"instances": self.rows}).encode()
        while not self.ended.is_set():
            began = time.monotonic()
            try:
                status, headers, text = post(self.url, f"/v1/models/{self.name}:predict", body)
                said = headers["X-Modelyard-Version"] if status == 200 else text
            except (OSError, http.client.HTTPException) as fault:
                status, said = 0, repr(fault)
            self.answers.append((began, status, said))
            time.sleep(0.002)


@pytest.fixture(scope="package", name="post")
def _post() -> Callable[..., tuple[int, http.client.HTTPMessage, str]]:
    return post


@pytest.fixture(scope="package")
def callers() -> Callable[..., Callers]:
    return Callers


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 1 MB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root and the right to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="package", name="within")
def _within() -> Callable[[float, Callable[[], bool]], bool]:
    return within


@pytest.fixture(scope="package", name="runs")
def _runs() -> Callable[[psutil.Process], bool]:
    return runs


@pytest.fixture(scope="package")
def rows() -> list[dict[str, Any]]:
    return [dict(row) for row in ROWS]


@pytest.fixture(scope="package")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sample]:
    """Versions 1 and 2: the same data, opposite labels."""
    import mlflow.sklearn
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.ensemble import HistGradientBoostingClassifier

    random = np.random.default_rng(0)
    table = pd.DataFrame({"temp": random.normal(15, 10, 400), "stops": random.integers(0, 4, 400)})
    late = (table["temp"] > 15).to_numpy()
    made = {}
    for version, labels in {"1": late, "2": ~late}.items():
        model = HistGradientBoostingClassifier(max_iter=10, random_state=0).fit(table, labels.astype(int))
        folder = tmp_path_factory.mktemp("modelle") / f"version {version}"
        mlflow.sklearn.save_model(
            model,
            str(folder),
            signature=infer_signature(table, model.predict(table)),
            pip_requirements=["scikit-learn"],
            serialization_format="skops",
            skops_trusted_types=["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"],
        )
        made[version] = Sample(model, folder)
    return made


@pytest.fixture(scope="module")
def new_project(
    samples: dict[str, Sample], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Project]]:
    """Makes a project that knows late-flights/1 and /2; it is ended with the file: idle ones cost, too."""
    made: list[Project] = []

    def make(root: Path | None = None, **settings: Any) -> Project:
        from modelyard_kserve.config import KserveSettings

        shelf = ModelShelf()
        for version in ("1", "2"):
            shelf.put("late-flights", samples[version].folder)
        context = make_context(
            root or tmp_path_factory.mktemp("ein Projekt äö"),
            provider="kserve",
            settings=KserveSettings(**settings),
            resolve_model=shelf.resolve,
        )
        made.append(Project(context, shelf, [samples[version].folder for version in ("1", "2")]))
        return made[-1]

    yield make
    for project in made:
        project.down()
        for endpoint in project.server.endpoints():
            project.server.delete(endpoint.name)


@pytest.fixture(scope="module")
def project(new_project: Callable[[], Project]) -> Project:
    """The project that the tests of a file share."""
    return new_project()
