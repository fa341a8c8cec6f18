"""The records that travel between stages: frozen, typed, JSON-able.

Providers return records and nothing else; whatever MLflow, DVC or KServe call their own
objects stays inside their plugin. Times are aware `datetime`s in UTC; digests are SHA-256 in
lower-case hex; sizes are bytes.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin

if TYPE_CHECKING:
    from modelyard.client import Answer

T = TypeVar("T", bound="Record")


def now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Base of all records: `to_dict` gives plain JSON values, `from_dict` takes them back.

    Example:
        >>> ref = DataRef(name="flights", scheme="dvc", path="data/flights.parquet",
        ...     version="d41d8cd98f00b204e9800998ecf8427e", digest="0" * 64, size=10, files=1)
        >>> DataRef.from_dict(ref.to_dict()) == ref
        True
    """

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return {f.name: _to_json(getattr(self, f.name)) for f in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
        """The record from plain JSON values; keys of newer versions are ignored.

        Raises:
            TypeError: a field without a default is missing.
        """
        hints = _hints(cls)  # type: ignore[arg-type]  # mypy takes the class for its instances
        known = {name: _from_json(hints[name], values[name]) for name in hints if name in values}
        return cls(**known)

    def _repr_html_(self) -> str:
        """The record as a table, where notebooks show it."""
        from modelyard import html

        return html.record(self)


@cache
def _hints(cls: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _to_json(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    return value


def _from_json(hint: Any, value: Any) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = [a for a in args if a is not type(None)]
        return None if value is None else _from_json(inner[0], value) if len(inner) == 1 else value
    if origin is tuple:
        return tuple(_from_json(args[0], item) for item in value)
    if origin is not None and isinstance(value, Mapping):
        return {key: _from_json(args[1], item) for key, item in value.items()}
    if hint is datetime and isinstance(value, str):
        return datetime.fromisoformat(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if isinstance(hint, type) and issubclass(hint, Record) and isinstance(value, Mapping):
        return hint.from_dict(value)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRef(Record):
    """One version of a file or folder of data.

    Attributes:
        name: what people call it, by default the file name without its ending.
        scheme: the data store that understands `version`, e.g. `dvc`.
        path: where it lies, relative to the project, with `/`.
        version: the store's own version, at most 36 characters (DVC: MD5, `.dir` for folders).
        digest: SHA-256 of the manifest (`modelyard.digests`), equal for equal bytes in every store.
        size: bytes, all files together.
        files: number of files.
        remote: where it was pushed, without credentials; None before the first push.
        published: True once the remote holds all of it.
    """

    name: str
    scheme: str
    path: str
    version: str
    digest: str
    size: int
    files: int
    remote: str | None = None
    published: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DataUse(Record):
    """A data version in the part it played for a run: `train`, `valid`, `test`, or your own word."""

    role: str
    ref: DataRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Code(Record):
    """The code of a run. `commit` is None outside git; `dirty` means uncommitted changes.

    `changed` names the first of the files, `diff_sha256` identifies the changes. `entry_point` is the script,
    notebook or command; `cell` and `execution_count` say where in the notebook.
    """

    commit: str | None = None
    branch: str | None = None
    dirty: bool = False
    repository: str | None = None
    changed: tuple[str, ...] = ()
    diff_sha256: str | None = None
    entry_point: str = ""
    cell: str | None = None
    execution_count: int | None = None

    @property
    def state(self) -> str:
        """The commit for people, with what was not committed.

        Example:
            >>> Code(commit="27b3bbd75cf1", dirty=True, changed=("notes.txt",)).state
            'commit 27b3bbd75c, notes.txt not committed'
        """
        if self.commit is None:
            return "not in git"
        more = " and more" if len(self.changed) > 3 else ""
        files = ", ".join(self.changed[:3]) or "changes"
        return f"commit {self.commit[:10]}" + (f", {files}{more} not committed" if self.dirty else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment(Record):
    """The Python environment of a run; `lock_sha256` identifies the exact installed versions."""

    python: str
    platform: str
    lock_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext(Record):
    """What the core knows about a run before it starts; the tracker stores it with the run.
    `environment` is None for a copied run of which nobody knows it."""

    user: str
    code: Code
    environment: Environment | None


RunStatus = Literal["running", "finished", "failed", "killed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric(Record):
    """One measured value; `step` counts epochs or iterations."""

    name: str
    value: float
    step: int = 0
    time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Record):
    """One tracked piece of work. `metrics` holds the last value of each; `models` their URIs."""

    id: str
    name: str
    status: RunStatus
    started: datetime
    ended: datetime | None = None
    user: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    data: tuple[DataUse, ...] = ()
    code: Code = Code()
    environment: Environment | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModel(Record):
    """A model stored with a run, not (yet) registered under a name.

    `uri` is the registry's source (`models:/m-...` in MLflow); `digest` the manifest's SHA-256.
    """

    uri: str
    run_id: str
    digest: str
    lineage_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion(Record):
    """A registered version of a model. Its reference is `NAME/VERSION`.

    Attributes:
        name, version: the registered model and the version number, as text.
        uri: the source it was registered from.
        run_id: the run that made it, if it is known.
        digest: SHA-256 of the manifest of its files.
        lineage_id: SHA-256 of `lineage.json` inside the model folder.
        signature: True when the model states its inputs and outputs.
        aliases: the aliases that point to it now.
    """

    name: str
    version: str
    uri: str
    run_id: str | None = None
    created: datetime
    user: str = ""
    digest: str | None = None
    lineage_id: str | None = None
    signature: bool = False
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def ref(self) -> str:
        """`NAME/VERSION`, as the command line takes it."""
        return f"{self.name}/{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor(Record):
    """Who did something. `source` is `claimed` (the machine's user) or `authenticated`."""

    user: str
    email: str | None = None
    source: str = "claimed"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult(Record):
    """What one gate said about a promotion."""

    gate: str
    passed: bool
    message: str
    values: Mapping[str, Any] = field(default_factory=dict)


PromotionAction = Literal["promote", "rollback", "external"]
PromotionStatus = Literal["pending", "completed", "abandoned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion(Record):
    """An alias that moved: who, when, from, to, why, with which evidence.

    `id` is `MODEL#SEQ`, the place in the ledger. `deployed` is None until a deployment of it was
    tried, then whether that worked. An `external` promotion was found, not made, by us. `origin` is the
    target where it was made, for one that `modelyard ship` brought here; the versions are those here.
    """

    id: str
    model: str
    alias: str
    action: PromotionAction
    from_version: str | None
    to_version: str | None
    time: datetime
    actor: Actor
    reason: str
    status: PromotionStatus
    gates: tuple[GateResult, ...] = ()
    run_id: str | None = None
    lineage_id: str | None = None
    digest: str | None = None
    deployed: bool | None = None
    origin: str | None = None
    sha256: str = ""


#: Who answers for a model's pickles and code: the project's registry, somebody's consent to exactly these
#: files, or the setting that trusts everything. Empty: nobody, so they are not loaded.
Trust = Literal["", "registry", "consent", "settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision(Record):
    """One state of an endpoint's predictor; `traffic` is its share in percent. `failed`: it is not
    ready and will not be by waiting; `message` says why, `reason` in one word of KServe's or Knative's
    (`Loading`, `ModelLoadFailed`, `NoTraffic`: it sleeps). `since`: when that began."""

    name: str
    number: int
    model: str
    version: str
    storage_uri: str
    traffic: int
    ready: bool
    created: datetime
    failed: bool = False
    message: str = ""
    reason: str = ""
    since: datetime | None = None
    trust: Trust = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition(Record):
    """What KServe says about a part of an InferenceService, in its words.

    Attributes:
        type: `Ready`, `PredictorReady`, `RoutesReady` ...
        status: `Unknown` as long as it may become true by itself.
        reason: one word; empty where nothing is wrong.
        message: the same for people.
        since: when the status changed last (KServe's `lastTransitionTime`).
    """

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str = ""
    message: str = ""
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Record):
    """Something that happened to an endpoint `count` times, `first` and last at `time`."""

    time: datetime
    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    count: int = 1
    first: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica(Record):
    """A process (on a cluster a pod) that answers for a revision, or shall.

    Attributes:
        name: its process id or the pod's name.
        waits_for: what keeps it from being ready; empty: nothing.
        since: when that began.
        restarts: how often it was started again.
    """

    name: str
    revision: str
    ready: bool
    waits_for: str = ""
    since: datetime | None = None
    restarts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStats(Record):
    """What a revision answered since its processes started.

    `refused` are answers with a status from 400 to 499, `errors` those from 500 on. `p50` and `p95` are
    seconds from request to answer, estimated within the buckets of a histogram; None: nothing was answered.
    """

    revision: str
    requests: int
    refused: int
    errors: int
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(Record):
    """Something in a file that is to be applied, with its place.

    Attributes:
        level: `error`s are refused, `warning`s will not do what they seem to, `info` is good to know.
        file, line, field: where; the field as `spec.predictor.model`.
        hint: what to do; empty where the message says it.
    """

    level: Literal["error", "warning", "info"]
    file: str
    line: int
    field: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphStep(Record):
    """A step of an endpoint that is a graph.

    Attributes:
        node: where it stands; every request begins at `root`.
        router: the node's type: `Sequence`, `Switch`, `Ensemble` or `Splitter`.
        name: its own, or its number.
        leads_to: the node that it leads to; empty: it asks `target`.
        target: whom it asks: an endpoint of the project, or a URL.
        when: its condition, weight, or which data it gets.
        ready: whether who it asks answers; None: that is not known, or it leads to a node.
        message: why not.
    """

    node: str
    router: str
    name: str
    leads_to: str = ""
    target: str = ""
    when: str = ""
    ready: bool | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint(Record):
    """An InferenceService or InferenceGraph that answers on `url`. `revisions` are newest first.

    `storage_uri` is what its file asks for (perhaps an alias); each revision names what it got. `ready`: it
    answers, perhaps by an older revision; the condition `Ready` is about the newest one, too. `token_file`
    holds the bearer token that it asks of callers. `graph` are the steps of an InferenceGraph, which asks
    other endpoints; none of others.
    """

    name: str
    url: str | None
    ready: bool
    storage_uri: str
    revisions: tuple[Revision, ...] = ()
    created: datetime
    message: str = ""
    target: str = "local"
    conditions: tuple[Condition, ...] = ()
    token_file: Path | None = None
    graph: tuple[GraphStep, ...] = ()

    @property
    def loads(self) -> bool:
        """Whether it will be ready if one waits."""
        return (
            self.url is not None and not self.ready and not any(r.failed for r in self.revisions if r.traffic)
        )

    @property
    def reason(self) -> str:
        """What its revisions with traffic, and it itself, have to say."""
        said = [*(revision.message for revision in self.revisions if revision.traffic), self.message]
        return "; ".join(dict.fromkeys(filter(None, said))) or "it gave no reason"

    def predict(
        self,
        rows: Any,
        *,
        protocol: Literal["v1", "v2"] = "v1",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Predictions for rows (DataFrame, array, list of dicts or lists); see `client.predict`.

        Raises:
            EnvironmentFault: `endpoint-unreachable`.
            UsageError: `prediction-refused`: the rows do not fit the model.
        """
        from modelyard import client

        given = {**self.authorization, **(headers or {})}
        return client.predict(self.address, self.name, rows, protocol=protocol, headers=given)

    @property
    def authorization(self) -> dict[str, str]:
        """The header with the token that it asks for; empty: it asks for none, or nobody here knows it."""
        try:
            token = self.token_file.read_text(encoding="ascii").strip() if self.token_file else ""
        except FileNotFoundError:
            token = ""
        return {"Authorization": f"Bearer {token}"} if token else {}

    @property
    def address(self) -> str:
        """Its URL.

        Raises:
            EnvironmentFault: `endpoint-unreachable`: it has none now.
        """
        from modelyard.errors import EnvironmentFault

        if self.url is None:
            raise EnvironmentFault("endpoint-unreachable", f"{self.name} is not running", "modelyard up")
        return self.url


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation(Record):
    """Everything about an endpoint that helps to see why it is not as it should be.

    Attributes:
        endpoint: as it is now.
        replicas: the processes behind its revisions.
        events: the last ones, oldest first.
        logs: the last lines of each revision that failed, by its name.
        unknown: what could not be read, and why.
    """

    endpoint: Endpoint
    replicas: tuple[Replica, ...] = ()
    events: tuple[Event, ...] = ()
    logs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unknown: str = ""

    @property
    def settled(self) -> bool:
        """Whether nothing of it waits or failed: it answers, and its newest revision is ready as well."""
        newest = self.endpoint.revisions[:1]
        # The others are part of this one, or, like KServe's `Stopped`, better not true.
        ready = all(one.status == "True" for one in self.endpoint.conditions if one.type == "Ready")
        return self.endpoint.ready and ready and all(revision.ready for revision in newest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(Record):
    """One answered request in the prediction log. `rows` counts its instances; `others` are what other
    endpoints answered under the same id, as the steps of a graph do."""

    id: str
    time: datetime
    endpoint: str
    revision: str
    model: str
    version: str
    rows: int
    others: tuple[Prediction, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnScore(Record):
    """How far one column of a window lies from the reference profile.

    `score` is None, and `error` says why, when the column could not be scored.
    """

    column: str
    method: str
    score: float | None
    threshold: float
    drifted: bool
    missing_ratio: float = 0.0
    unseen_ratio: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window(Record):
    """A closed span of event time of one model version behind an endpoint, scored.

    `quality` and `quality_reference` hold the same metrics (e.g. `auc`, `brier`) over the rows
    whose labels have arrived, and over the reference. `enough` is False below the minimum rows.
    """

    endpoint: str
    model: str
    version: str
    start: datetime
    end: datetime
    rows: int
    labelled: int = 0
    enough: bool = True
    columns: tuple[ColumnScore, ...] = ()
    quality: Mapping[str, float] = field(default_factory=dict)
    quality_reference: Mapping[str, float] = field(default_factory=dict)

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the drifted columns, worst first (by score over threshold)."""
        worst = sorted(
            (c for c in self.columns if c.drifted),
            key=lambda c: -(c.score or 0.0) / (c.threshold or 1.0),
        )
        return tuple(c.column for c in worst)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert(Record):
    """A rule that fires. `evaluator` says who evaluated it: `promtool`, `prometheus` or `modelyard`."""

    name: str
    severity: str
    summary: str
    labels: Mapping[str, str]
    evaluator: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Record):
    """One answer of `modelyard doctor`: `ok`, `warning` or `failed`, and what to do."""

    name: str
    status: Literal["ok", "warning", "failed"]
    message: str
    hint: str = ""


ServiceStatus = Literal["running", "stopped", "died"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service(Record):
    """A background process of the project."""

    name: str
    status: ServiceStatus
    pid: int | None = None
    port: int | None = None
    url: str | None = None
    log: Path
    started: datetime | None = None
    message: str = ""
