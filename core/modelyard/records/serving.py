"""Endpoints: what answers, and why it does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modelyard.records.base import Record

if TYPE_CHECKING:
    from modelyard.client import Answer


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
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Predictions for rows (DataFrame, array, list of dicts or lists); see `client.predict`.

        Raises:
            EnvironmentFault: `endpoint-unreachable`.
            UsageError: `prediction-refused`: the rows do not fit the model.
        """
        from modelyard import client

        given = {**self.authorization, **(headers or {})}
        return client.predict(self.address, self.name, rows, protocol=protocol, params=params, headers=given)

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
        advice: what to do about the newest revision, where its provider knows; as a refused `apply` says it.
    """

    endpoint: Endpoint
    replicas: tuple[Replica, ...] = ()
    events: tuple[Event, ...] = ()
    logs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unknown: str = ""
    advice: str = ""

    @property
    def settled(self) -> bool:
        """Whether nothing of it waits or failed: it answers, and its newest revision is ready as well."""
        newest = self.endpoint.revisions[:1]
        # The others are part of this one, or, like KServe's `Stopped`, better not true.
        ready = all(one.status == "True" for one in self.endpoint.conditions if one.type == "Ready")
        return self.endpoint.ready and ready and all(revision.ready for revision in newest)
