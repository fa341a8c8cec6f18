"""What the panel and its server say to each other: one model per question and answer.

The TypeScript types of the front end are generated from this module. Times are ISO 8601 in UTC, sizes
bytes, shares of traffic percent. Only the worker imports this module: the Jupyter server itself passes
bytes on, so that its start stays light.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

#: What a section's light shows, always beside a word.
Light = Literal["ok", "warning", "failed", "unknown"]


class Message(BaseModel):
    """Base of all: unknown keys are errors, and nothing changes after it was made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Problem(Message):
    """Why something can't be shown or done; as `ModelyardError` says it."""

    code: str
    message: str
    hint: str = ""
    plugin: str | None = Field(None, description="The provider that failed, e.g. `mlflow`.")
    details: dict[str, Any] = {}


# -- where am I -----------------------------------------------------------------------------


class Project(Message):
    """A project that the Jupyter server can see; `id` names it in every other question."""

    id: str
    name: str
    folder: str = Field(description="Relative to the Jupyter server's root, with `/`.")


class Summary(Message):
    """The answer to the only question that is asked all the time.

    A section whose stamp is the one that the front end knows has not changed.
    """

    version: str
    projects: tuple[Project, ...]
    project: str | None = Field(None, description="The id of the project that the stamps are about.")
    target: str = "local"
    stamps: dict[str, str] = {}


# -- overview -------------------------------------------------------------------------------


class PluginLight(Message):
    """How one stage's provider is, as `modelyard doctor` sees it."""

    stage: str
    provider: str
    light: Light
    message: str
    hint: str = ""


class Move(Message):
    """An alias that moved: one line of the ledger."""

    id: str
    model: str
    alias: str
    action: Literal["promote", "rollback", "external"]
    from_version: str | None
    to_version: str | None
    time: datetime
    user: str
    reason: str
    status: Literal["pending", "completed", "abandoned"]
    deployed: bool | None = None
    origin: str | None = None


class AlertLine(Message):
    """A rule that fires."""

    name: str
    severity: str
    summary: str
    endpoint: str = ""


class Overview(Message):
    """The project at a glance."""

    name: str
    target: str
    targets: tuple[str, ...]
    lights: tuple[PluginLight, ...]
    running: int
    alerts: tuple[AlertLine, ...]
    last_move: Move | None


# -- runs -----------------------------------------------------------------------------------


class RunRow(Message):
    """A run in the list."""

    id: str
    name: str
    status: Literal["running", "finished", "failed", "killed"]
    started: datetime
    ended: datetime | None
    user: str
    params: dict[str, str]
    metrics: dict[str, float | None]
    data: tuple[str, ...] = Field(description="`ROLE NAME@VERSION`.")
    models: tuple[str, ...] = ()
    notebook: str | None = None
    cell: str | None = None


class RunPage(Message):
    """Some of the runs, in the order asked for; `total` counts all that fit the search.

    `more`: older runs are still being read, so that the total will grow: ask again soon.
    """

    total: int
    more: bool = False
    offset: int
    rows: tuple[RunRow, ...]
    metric_names: tuple[str, ...]
    param_names: tuple[str, ...]


class RunQuery(Message):
    """Which runs. `sort` is `started`, `name`, `status`, `user`, `metric:NAME` or `param:NAME`."""

    offset: int = Field(0, ge=0)
    limit: int = Field(100, ge=1, le=1000)
    search: str = Field("", max_length=200)
    status: Literal["", "running", "finished", "failed", "killed"] = ""
    sort: str = Field("started", max_length=300)
    descending: bool = True


class Curve(Message):
    """A metric over its steps, at most 200 points."""

    run: str
    name: str
    steps: tuple[int, ...]
    values: tuple[float | None, ...]


class CodeState(Message):
    """Where the code of a run was."""

    commit: str | None
    branch: str | None
    dirty: bool
    changed: tuple[str, ...]
    entry_point: str
    cell: str | None
    source: str | None = Field(None, description="The cell's text when it ran, if it is known.")


class RunDetails(Message):
    """Everything about one run."""

    row: RunRow
    tags: dict[str, str]
    code: CodeState
    python: str | None
    versions: tuple[str, ...] = Field(description="Registered versions that it made, `NAME/VERSION`.")
    load_code: str


class Difference(Message):
    """One line of a comparison; `values` in the order of the runs, None where a run has none."""

    kind: Literal["param", "metric", "data", "code"]
    name: str
    values: tuple[str | float | None, ...]
    differs: bool


class Comparison(Message):
    """Runs side by side."""

    runs: tuple[RunRow, ...]
    lines: tuple[Difference, ...]


# -- data -----------------------------------------------------------------------------------


class DataRow(Message):
    """The current version of a data set."""

    name: str
    path: str
    version: str
    size: int
    files: int
    state: Literal["unchanged", "modified", "missing"]
    published: bool
    remote: str | None
    used_by: tuple[str, ...] = Field(description="Ids of runs that used this version, newest first.")


class DataList(Message):
    """All data sets."""

    rows: tuple[DataRow, ...]
    remote: str | None


class DataWish(Message):
    """Which data sets to push or pull; none named means all."""

    names: tuple[str, ...] = Field((), max_length=1000)


# -- models ---------------------------------------------------------------------------------


class Gate(Message):
    """What one gate says."""

    gate: str
    passed: bool
    message: str
    values: dict[str, Any] = {}


class VersionRow(Message):
    """A version of a model."""

    version: str
    created: datetime
    user: str
    run_id: str | None
    aliases: tuple[str, ...]
    signature: bool
    serving: tuple[str, ...] = Field(description="Endpoints that give it traffic, `NAME 80 %`.")
    promoted_by: str | None = Field(None, description="Who gave it the alias that it holds now.")


class ModelRow(Message):
    """A registered model; versions newest first."""

    name: str
    versions: tuple[VersionRow, ...]


class ModelList(Message):
    """All registered models."""

    rows: tuple[ModelRow, ...]


class Side(Message):
    """Champion or candidate in the promote dialog."""

    version: str
    metrics: dict[str, float | None]
    params: dict[str, str]
    data: tuple[str, ...]
    signature: bool
    drifted: tuple[str, ...] | None = Field(None, description="Columns; None: nobody watches it.")
    created: datetime
    user: str


class PromotionPlan(Message):
    """What the promote dialog shows before anything moves."""

    model: str
    alias: str
    candidate: Side
    champion: Side | None
    gates: tuple[Gate, ...]
    allowed: bool
    must_type: str | None = Field(None, description="What has to be typed for this alias.")


class RegisterWish(Message):
    """Make the model that a run logged a version of `name`."""

    name: str = Field(min_length=1, max_length=250)


class PromoteWish(Message):
    """Give `alias` to a version; `expect` is who holds it as far as the asker knows (empty: nobody)."""

    version: str = Field(max_length=100)
    alias: str = Field(max_length=255)
    reason: str = Field(min_length=1, max_length=2000)
    expect: str = Field(max_length=100)


class RollbackWish(Message):
    """Give `alias` back to the last version that was deployed well; `expect` as in `PromoteWish`."""

    alias: str = Field("production", max_length=255)
    reason: str = Field(min_length=1, max_length=2000)
    expect: str = Field(max_length=100)


class GoodVersion(Message):
    """A version that held the alias and was deployed well; `seconds` it was in service."""

    version: str
    since: datetime
    seconds: float
    reason: str


class RollbackPlan(Message):
    """What the rollback dialog shows. `to` is where it would go; None: there is nothing to go back to."""

    model: str
    alias: str
    current: str | None
    to: str | None
    good: tuple[GoodVersion, ...]


class LineageNode(Message):
    """A node of what stands behind a version or prediction."""

    kind: str
    title: str
    details: tuple[str, ...] = ()
    parents: tuple[LineageNode, ...] = ()


class VersionDetails(Message):
    """Everything about one version."""

    model: str
    row: VersionRow
    tags: dict[str, str]
    digest: str | None
    inputs: tuple[tuple[str, str], ...] = Field(description="Columns of its signature: name and type.")
    lineage: LineageNode | None
    history: tuple[Move, ...]
    load_code: str


# -- serving --------------------------------------------------------------------------------


class RevisionRow(Message):
    """One state of an endpoint; `requests` were answered since its processes started, 95 % of them within
    `p95_ms`. None: not known."""

    name: str
    model: str
    version: str
    traffic: int
    ready: bool
    failed: bool
    message: str
    requests: int | None = None
    errors: int | None = None
    p95_ms: float | None = None


class EndpointRow(Message):
    """An endpoint."""

    name: str
    ready: bool
    reason: str
    target: str
    storage_uri: str
    revisions: tuple[RevisionRow, ...]
    canary: int | None = Field(
        None, description="The newest revision's share, where another could have some."
    )


class EndpointList(Message):
    """All endpoints."""

    rows: tuple[EndpointRow, ...]


class TrafficWish(Message):
    """The newest revision's share in percent."""

    canary: int = Field(ge=0, le=100)


class TryWish(Message):
    """Rows to ask an endpoint about, as V1 instances."""

    instances: tuple[Any, ...] = Field(min_length=1, max_length=1000)


class TryAnswer(Message):
    """What it answered."""

    id: str
    predictions: tuple[Any, ...]
    model: str
    version: str
    revision: str
    milliseconds: float


class ConditionRow(Message):
    """What KServe says about a part of an endpoint."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    since: datetime | None


class EventRow(Message):
    """Something that happened to an endpoint, `count` times."""

    time: datetime
    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    count: int


class EndpointDetails(Message):
    """An endpoint with what its editor is filled from, and what helps to see why it is not ready."""

    row: EndpointRow
    conditions: tuple[ConditionRow, ...]
    events: tuple[EventRow, ...] = Field(description="The last ones, newest first.")
    advice: str = Field(description="What to do about it; empty: nobody knows, or nothing is wrong.")
    inputs: tuple[tuple[str, str], ...]
    example: tuple[Any, ...] = Field(description="A request to begin with.")
    history: tuple[Move, ...]


# -- drift ----------------------------------------------------------------------------------


class DriftCell(Message):
    """One column in one window; `score` None: it could not be scored, and `error` says why."""

    score: float | None
    threshold: float
    drifted: bool
    missing_ratio: float
    error: str | None = None


class DriftWindow(Message):
    """A closed span of event time. `cells` in the order of the columns; None: it has no such column."""

    start: datetime
    end: datetime
    rows: int
    labelled: int
    enough: bool
    share: float = Field(description="Drifted columns by scored columns, 0 to 1.")
    cells: tuple[DriftCell | None, ...]
    quality: dict[str, float]
    quality_reference: dict[str, float]


class DriftRow(Message):
    """One model version behind an endpoint; windows oldest first."""

    endpoint: str
    model: str
    version: str
    columns: tuple[str, ...]
    windows: tuple[DriftWindow, ...]
    alerts: tuple[AlertLine, ...]


class DriftList(Message):
    """Everything that is watched."""

    rows: tuple[DriftRow, ...]


# -- what is under way ----------------------------------------------------------------------


class Job(Message):
    """Something that takes long: pushing, pulling. `done` and `total` count bytes or files."""

    id: str
    what: str
    state: Literal["running", "finished", "failed"]
    doing: str = ""
    done: int = 0
    total: int | None = None
    problem: Problem | None = None


class LogLines(Message):
    """The end of a log, oldest first."""

    lines: tuple[str, ...]


#: Everything that the front end needs types for.
MESSAGES: tuple[type[Message], ...] = (
    Problem,
    Summary,
    Overview,
    RunPage,
    RunQuery,
    RunDetails,
    Curve,
    Comparison,
    DataList,
    DataWish,
    ModelList,
    RegisterWish,
    PromotionPlan,
    PromoteWish,
    RollbackPlan,
    RollbackWish,
    VersionDetails,
    EndpointList,
    EndpointDetails,
    TrafficWish,
    TryWish,
    TryAnswer,
    DriftList,
    Job,
    LogLines,
)
