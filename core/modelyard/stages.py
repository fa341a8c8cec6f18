"""What each stage means: five small protocols that a provider implements.

A project names one provider per stage. The core calls these methods and nothing else, so a team
can replace one tool without touching the rest. `modelyard.testing` proves that a provider keeps
these promises. All failures are `ModelyardError`s; everything returned is a record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from modelyard.records import (
        Alert,
        DataRef,
        DataUse,
        Endpoint,
        Explanation,
        Finding,
        LoggedModel,
        Metric,
        ModelVersion,
        Prediction,
        RequestStats,
        Run,
        RunContext,
        RunStatus,
        Service,
        Window,
    )
    from modelyard.targets import Target

#: The stages, in the order in which a model passes them.
StageName = Literal["track", "data", "registry", "serving", "monitoring"]
STAGES: tuple[StageName, ...] = ("track", "data", "registry", "serving", "monitoring")


#: Is told how something goes.
Progress = Callable[["Endpoint"], None]


def unseen(_: Endpoint) -> None:
    """Nobody looks at the progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """A background process that a provider wants.

    Attributes:
        name: unique in the project, lower case, e.g. `monitor` or `serving`.
        argv: the command; `{port}` in an item becomes the port that was chosen and remembered.
        env: added to the environment (telemetry of children is already switched off).
        health: path of a GET that answers 200 when it is ready, e.g. `/healthz`; None: running is ready.
        port: False for a process that listens on no port.
        ready_timeout: seconds to wait for readiness.
        adopts: True for a process whose children answer on when it dies: the next one is started beside
            them and on the same port, instead of after their end.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    health: str | None = None
    port: bool = True
    ready_timeout: float = 60.0
    adopts: bool = False


class Services(Protocol):
    """The project's background processes, as a provider sees them.

    They outlive the command that started them, listen on 127.0.0.1, and log to a file.
    """

    def start(self, spec: ServiceSpec) -> Service:
        """Start it and wait until it is ready; a process that runs with the same spec is left alone,
        one with another spec, or of another version of Modelyard, is replaced.

        Raises:
            EnvironmentFault: it died or was not ready in time (its last log lines are in the message).
        """

    def stop(self, name: str) -> None:
        """End the process and its children (TERM, then KILL); nothing happens if it does not run."""

    def forget(self, name: str) -> None:
        """End it, and be as if it had never been started; its log stays."""

    def get(self, name: str) -> Service | None:
        """The service as it is now, or None if it was never started."""

    def logs(self, name: str, *, lines: int = 100) -> Iterator[str]:
        """The last lines of its log, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedModel:
    """A model version with its files on this machine. `path` must not be written to."""

    version: ModelVersion
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class StageContext:
    """What a provider gets when it is opened.

    Attributes:
        project: the project's name.
        root: the project's folder.
        state: a folder of this provider alone under `.modelyard/`; it exists.
        settings: the provider's validated `[providers.NAME]` table (its pydantic model), or None.
        services: the project's background processes.
        resolve_model: turns `models:/NAME/VERSION` or `models:/NAME@ALIAS` into local files.
        find_model: the record of `models:/NAME/VERSION` or `models:/NAME@ALIAS`; no file is fetched.
        event_sink: URL that takes KServe CloudEvents for the prediction log, starting the monitor
            if it has to; None if the project's monitor takes none.
        address_of: the URI under which a version's files lie where pods reach them, e.g. `s3://mlflow/1/...`;
            see `Registry.address`.
        run_artifact: see `Tracker.artifact`.
        target: the cluster on which the stage runs; None: processes on this machine.
    """

    project: str
    root: Path
    state: Path
    settings: Any
    services: Services
    resolve_model: Callable[[str], ResolvedModel]
    find_model: Callable[[str], ModelVersion]
    event_sink: Callable[[], str | None]
    address_of: Callable[[ModelVersion], str]
    run_artifact: Callable[[str, str], Path]
    target: Target | None = None


@runtime_checkable
class Tracker(Protocol):
    """Stage `track`: the log of training runs."""

    def start(
        self,
        name: str,
        context: RunContext,
        *,
        parent: str | None = None,
        tags: Mapping[str, str] | None = None,
        at: datetime | None = None,
    ) -> Run:
        """A new run with status `running`; its context and tags are stored at once, with the run itself.
        `at` is when it really began, for one that is copied from elsewhere (default: now)."""

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, object] | None = None,
        metrics: Sequence[Metric] = (),
        tags: Mapping[str, str] | None = None,
        data: Sequence[DataUse] = (),
    ) -> None:
        """Everything in one call. A parameter logged twice with another value is a ConflictError
        (`param-changed`); metrics with rising steps make a history; NaN and infinity are kept.

        Raises:
            NotFoundError: `run-not-found`.
        """

    def metrics(self, run_id: str) -> list[Metric]:
        """Every value that the run logged, with its step and time; `Run.metrics` has the last ones only.

        Raises:
            NotFoundError: `run-not-found`.
        """

    def log_file(self, run_id: str, path: Path, *, folder: str = "") -> None:
        """Store a copy of one file with the run."""

    def files(self, run_id: str) -> Path:
        """The files that `log_file` stored, in a folder of this machine, below the folders that were named;
        empty if there are none. It must not be written to.

        Raises:
            NotFoundError: `run-not-found`.
        """

    def artifact(self, run_id: str, path: str) -> Path:
        """A model or file that the run logged, on this machine. It must not be written to.

        Args:
            run_id: the run.
            path: the name under which a model was logged, or a path below the run's files.

        Raises:
            NotFoundError: `run-not-found`; `model-files-missing`: the run logged nothing of that name.
        """

    def log_model(
        self,
        run_id: str,
        model: object,
        *,
        example: object | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> LoggedModel:
        """Store a fitted model with its signature (from `example`: up to a few rows of input) and
        pinned requirements. `files` are put beside it in the model folder (e.g. `lineage.json`).

        Raises:
            UsageError: `model-not-serialisable`, naming the type.
        """

    def add_model(self, run_id: str | None, folder: Path) -> LoggedModel:
        """Store a model folder as it is, as if the run had logged it: the same bytes, so the same digest
        (`modelyard.digests.model_digest`), each checked where it arrived. None: no run is known.

        Raises:
            NotFoundError: `run-not-found`.
        """

    def logged_model(self, uri: str) -> LoggedModel:
        """What `log_model` returned for that URI (one of `Run.models`).

        Raises:
            NotFoundError: `logged-model-not-found`.
        """

    def finish(self, run_id: str, status: RunStatus = "finished", *, at: datetime | None = None) -> None:
        """End the run; ending an ended run again with the same status changes nothing. `at` is when it
        really ended (default: now)."""

    def get(self, run_id: str) -> Run:
        """One run.

        Raises:
            NotFoundError: `run-not-found`.
        """

    def runs(self, *, name: str | None = None, limit: int = 50) -> list[Run]:
        """The newest runs first, all or those of one name."""


@runtime_checkable
class DataStore(Protocol):
    """Stage `data`: content-addressed versions of files and folders.

    On a target it is the same project with the same data sets, but the remote is the target's storage:
    `target.address("s3")`.
    """

    def add(self, path: Path, *, name: str | None = None) -> DataRef:
        """Take the file or folder (inside the project) as a version; unchanged bytes give the same one.

        Raises:
            NotFoundError: `data-not-found`.
            UsageError: `data-outside-project`.
        """

    def status(self) -> list[DataStatus]:
        """Every data set of the project, compared with the working tree and the remote."""

    def refs(self) -> list[DataRef]:
        """The current version of every data set, without reading their bytes again."""

    def get(self, name: str) -> DataRef:
        """The current version of one data set by name or path.

        Raises:
            NotFoundError: `data-not-found`, with the names that exist.
        """

    def push(self, names: Sequence[str] = ()) -> list[DataRef]:
        """Copy to the remote what it lacks (all data sets, or the named); returns them as published.

        Raises:
            ConfigError: `no-remote`.
            EnvironmentFault: `remote-unreachable`.
        """

    def lacking(self, refs: Sequence[DataRef]) -> list[int | None]:
        """The bytes of each version (a current or an earlier one) that `publish` would copy. 0: the remote,
        which is asked, holds all of it. None: neither side has it, or it is another store's version.

        Raises:
            ConfigError: `no-remote`.
            EnvironmentFault: `remote-unreachable`.
        """

    def publish(
        self, refs: Sequence[DataRef], *, progress: Callable[[int], None] = lambda _: None
    ) -> list[DataRef]:
        """Copy versions, current or earlier ones, to the remote, and see that they arrived. Returns them with
        `published` as it is now: False for what neither side has, and for other stores' versions.

        Args:
            refs: what is copied.
            progress: may be told of bytes as they go (negative: they have to go again).

        Raises:
            ConfigError: `no-remote`.
            EnvironmentFault: `remote-unreachable`.
            CorruptStateError: `data-corrupt`: this machine holds other bytes.
        """

    def pull(self, names: Sequence[str] = ()) -> list[DataRef]:
        """Bring the current versions into the working tree, each byte checked against its hash.

        Raises:
            CorruptStateError: `data-corrupt`: remote or cache hold other bytes; nothing is handed out.
            NotFoundError: `data-not-in-remote`.
        """

    def set_remote(self, url: str) -> None:
        """Name the remote: a folder or a URL that the store understands."""

    def remote(self) -> str | None:
        """The remote's URL without credentials, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataStatus:
    """One data set now: `unchanged`, `modified` or `missing` in the working tree."""

    ref: DataRef
    state: Literal["unchanged", "modified", "missing"]


@runtime_checkable
class Registry(Protocol):
    """Stage `registry`: named models, their versions, and aliases. History is the core's ledger."""

    def register(
        self, name: str, model: LoggedModel, *, tags: Mapping[str, str] | None = None
    ) -> ModelVersion:
        """A new version of `name` (created on first use); versions count 1, 2, 3; never reused."""

    def models(self) -> list[str]:
        """The registered names, sorted."""

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions, newest first, with their aliases.

        Raises:
            NotFoundError: `model-not-found`.
        """

    def get(self, name: str, version: str) -> ModelVersion:
        """One version.

        Raises:
            NotFoundError: `model-not-found` or `version-not-found`.
        """

    def alias(self, name: str, alias: str) -> str | None:
        """The version that the alias points to now, or None."""

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        """Move the alias, or remove it with None. The core alone calls this, through the ledger.

        Raises:
            NotFoundError: `model-not-found` or `version-not-found`.
        """

    def fetch(self, version: ModelVersion) -> Path:
        """The version's files on this machine; the folder must not be written to.

        Raises:
            NotFoundError: `model-files-missing`.
        """

    def address(self, version: ModelVersion) -> str:
        """The URI under which other machines fetch the version's files, e.g. `s3://bucket/path`.

        Raises:
            EnvironmentFault: `model-not-reachable`: its files lie on this machine, or where only the
                registry's own server reads them.
        """


@runtime_checkable
class Server(Protocol):
    """Stage `serving`: endpoints that are described by InferenceService files."""

    def apply(
        self,
        manifest: Path,
        *,
        text: str | None = None,
        wait: bool = True,
        trust: bool = False,
        progress: Progress = unseen,
    ) -> Endpoint:
        """Make the endpoint as the file says: a new revision when the model or spec changed, a new
        traffic split when only that changed, nothing when nothing did. Waits until it is ready.

        Args:
            manifest: the file.
            text: what stands in it, where that is known: one document of several, or standard input. KServe's
                ServingRuntimes that were applied with it stand below it.
            wait: False: return as soon as it is being made.
            trust: somebody consents that pickles and code of the model's files, as they are now, are loaded,
                though the registry does not answer for them. It holds for these files for good, and for no
                others.
            progress: is told the endpoint as it is, every now and then while it is waited for.

        Raises:
            ConfigError: `manifest-invalid`, with the field's path and the nearest known name.
            EnvironmentFault: `revision-failed`: the new revision did not become ready; the old one still
                answers.
        """

    def lint(self, text: str, where: str, *, mode: str | None = None) -> list[Finding]:
        """What is wrong in a file, and what it says that will not be so; nothing is changed or asked for.

        Args:
            text: the file's text; it may hold more than one document.
            where: names the file.
            mode: how it would be deployed, a word of the provider's; None: as `apply` would.

        Raises:
            UsageError: `mode-unknown`.
        """

    def reconcile(self, name: str, *, wait: bool = True) -> Endpoint:
        """Look again at what the applied file means (an alias may have moved) and make it so."""

    def traffic(self, name: str, canary: int) -> Endpoint:
        """Set the newest revision's share in percent (100 promotes it, 0 sends all to the previous)."""

    def endpoints(self) -> list[Endpoint]:
        """All endpoints, sorted by name."""

    def get(self, name: str) -> Endpoint:
        """One endpoint.

        Raises:
            NotFoundError: `endpoint-not-found`.
        """

    def delete(self, name: str) -> None:
        """End its processes and forget it.

        Raises:
            NotFoundError: `endpoint-not-found`.
        """

    def logs(self, name: str, *, lines: int = 100) -> Iterator[str]:
        """The last lines that the endpoint and its models wrote, oldest first."""

    def access_log(self, name: str, *, lines: int = 100) -> Iterator[str]:
        """The last requests that the endpoint got, oldest first: one JSON object a line, with at least
        `time`, `method`, `path` (without query), `status` and `request_id`. No line holds a secret.

        Raises:
            NotFoundError: `endpoint-not-found`.
            UsageError: `no-access-log`: requests are not logged.
        """

    def explain(self, name: str) -> Explanation:
        """The endpoint with everything that helps to see why it is not as it should be: processes, the last
        events, and the last log lines of revisions that failed. All of it is bounded.

        Raises:
            NotFoundError: `endpoint-not-found`.
        """

    def token(self, name: str, *, anew: bool = False) -> str:
        """The bearer token that the endpoint asks of callers; `Endpoint.predict` sends it by itself.

        Args:
            name: the endpoint's.
            anew: make another one; the old one is refused from then on.

        Raises:
            NotFoundError: `endpoint-not-found`.
            UsageError: `no-token`: it asks for none.
        """

    def statistics(self, name: str) -> list[RequestStats]:
        """What the revisions answered, by their names, since their processes started; those that answered
        nothing may be left out.

        Raises:
            NotFoundError: `endpoint-not-found`.
            EnvironmentFault: `endpoint-unreachable`: a process that counts does not answer.
        """

    def services(self) -> Sequence[ServiceSpec]:
        """The background processes that `modelyard up` starts (those of the applied endpoints)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Labelled data that a model is judged against, usually its validation set.

    Attributes:
        features: the model's inputs, a pandas DataFrame of n rows.
        labels: n true outcomes, or None.
        predictions: n predictions (for classifiers the probability of the positive class), or None.
        times: n event times; with them thresholds are calibrated on blocks of time.
        classes: the model's classes in the order of its probabilities; `run.log_model` takes them from
            the model (`classes_`).
    """

    features: Any
    labels: Any | None = None
    predictions: Any | None = None
    times: Any | None = None
    classes: Any | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A true outcome that arrived later. `row` counts the instances of the request `prediction_id`."""

    prediction_id: str
    row: int
    value: float | int | str | bool
    time: datetime | None = None


@runtime_checkable
class Monitor(Protocol):
    """Stage `monitoring`: the prediction log, windows of it, and what they say."""

    def profile(self, reference: Reference) -> Mapping[str, Any]:
        """A frozen profile of the reference as JSON values; the core stores it with the model
        (`profile.json` in its folder) and windows are scored from it alone."""

    def watch(self, endpoint: Endpoint, models: Sequence[ResolvedModel]) -> None:
        """Take note of an endpoint and the model versions behind it (called after every deployment)."""

    def event_sink(self) -> str | None:
        """URL that takes KServe CloudEvents (starts the collector if it has to), or None."""

    def find(self, prediction_id: str) -> Prediction:
        """One prediction in the log; of several endpoints' under one id, the first, with its `others`.

        Raises:
            NotFoundError: `prediction-not-found`.
        """

    def add_labels(self, endpoint: str, labels: Iterable[Label]) -> int:
        """Store true outcomes; the last one of a row wins. Returns how many were stored."""

    def windows(self, endpoint: str, *, until: datetime | None = None, limit: int = 50) -> list[Window]:
        """Score what is not yet scored (closed windows only; those whose labels changed again), and
        return the newest first. `until` is the time now for the purpose of closing (default: the clock).
        """

    def alerts(self, endpoint: str) -> list[Alert]:
        """The rules that fire on the newest windows."""

    def rules(self) -> str:
        """The Prometheus rule file (YAML)."""

    def metrics(self) -> str:
        """The finished windows in Prometheus' text format, as the exporter serves them."""

    def report(self, endpoint: str, out: Path, *, version: str | None = None) -> Path:
        """Write the human report of the newest window with enough rows (the newest at all, if none has) as
        HTML; returns the file."""

    def services(self) -> Sequence[ServiceSpec]:
        """The background processes that `modelyard up` starts (collector and exporter)."""
