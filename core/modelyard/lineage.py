"""Lineage: which data, code, run and person stand behind a model version or a prediction.

`describe` is the record that travels inside the model's folder as `lineage.json`; its SHA-256 is
the lineage id. `trace` answers for any id that the project knows, as a tree.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from modelyard.digests import digest_of
from modelyard.errors import MissingRequirementError, NotFoundError
from modelyard.records import (
    DataUse,
    Endpoint,
    ModelVersion,
    Prediction,
    Promotion,
    Record,
    Run,
    now,
)

if TYPE_CHECKING:
    from modelyard.yard import Yard

SCHEMA = "https://modelyard.dev/schema/lineage/v1"
LINEAGE_FILE = "lineage.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node(Record):
    """One thing in a lineage, and what stands behind it.

    `kind` is `prediction`, `revision`, `model`, `promotion`, `run`, `code`, `data` or `endpoint`;
    `title` is one line for people, `record` the whole record.
    """

    kind: str
    id: str
    title: str
    record: Mapping[str, Any] = field(default_factory=dict)
    behind: tuple[Node, ...] = ()

    def walk(self) -> Iterator[Node]:
        """The tree in reading order."""
        yield self
        for node in self.behind:
            yield from node.walk()

    def tree(self) -> str:
        """The titles as a tree, one per line.

        Example:
            >>> code = Node(kind="code", id="1", title="train.py")
            >>> data = Node(kind="data", id="2", title="x.csv")
            >>> print(Node(kind="run", id="3", title="run 3", behind=(data, code)).tree())
            run 3
            ├─ x.csv
            └─ train.py
        """
        return "\n".join([self.title, *_branches(self.behind)])


def _branches(nodes: Sequence[Node]) -> Iterator[str]:
    for place, node in enumerate(nodes, start=1):
        first, further = ("└─ ", "   ") if place == len(nodes) else ("├─ ", "│  ")
        yield first + node.title
        yield from (further + line for line in _branches(node.behind))


def describe(run: Run) -> dict[str, Any]:
    """The lineage record of a model that the run is about to store.

    Source: the fields follow in-toto/SLSA provenance (parameters, resolved dependencies).
    """
    import modelyard

    return {
        "schema": SCHEMA,
        "created_at": now().isoformat(),
        "tool": {"name": "modelyard", "version": modelyard.__version__},
        "run": {"id": run.id, "name": run.name, "user": run.user},
        "data": [{"role": use.role, **use.ref.to_dict()} for use in run.data],
        "code": run.code.to_dict(),
        "environment": run.environment.to_dict()
        if run.environment
        else {"python": platform.python_version()},
        "params": dict(run.params),
        "params_sha256": digest_of(dict(run.params)),
        "metrics": {name: repr(value) for name, value in run.metrics.items()},
    }


def trace(yard: Yard, anything: str) -> Node:
    """What stands behind an id: of a prediction, endpoint, promotion, model version, run or data set.

    Raises:
        NotFoundError: `id-not-found`, saying what was looked through.
    """
    lookups: list[tuple[str, Callable[[], Node]]] = [
        ("promotions", lambda: _promotion(yard, _find_promotion(yard, anything))),
        ("model versions", lambda: _version(yard, yard.models.get(anything))),
        ("endpoints", lambda: _endpoint(yard, yard.endpoints.get(anything))),
        ("predictions", lambda: _prediction(yard, yard.monitor.find(anything))),
        ("runs", lambda: _run(yard.runs.get(anything))),
        ("data", lambda: _data(yard.data.get(anything))),
    ]
    if "/" not in anything and "@" not in anything:
        lookups.pop(1)
    if "#" not in anything:
        lookups.pop(0)
    tried = []
    for what, look in lookups:
        try:
            return look()
        except NotFoundError:
            tried.append(what)
        except MissingRequirementError:
            tried.append(f"{what} (extra not installed)")
    raise NotFoundError(
        "id-not-found",
        f"nothing here is called '{anything}' (looked through {', '.join(tried)})",
        "give a prediction id, ENDPOINT, MODEL/VERSION, MODEL@ALIAS, RUN-ID or data name",
    )


def _prediction(yard: Yard, prediction: Prediction) -> Node:
    revisions = [
        Node(
            kind="revision",
            id=one.revision,
            title=f"revision {one.revision} of endpoint {one.endpoint}",
            behind=(_version_of(yard, one.model, one.version),),
        )
        for one in (prediction, *prediction.others)
    ]
    rows = f"{prediction.rows} row{'s' if prediction.rows != 1 else ''}"
    title = f"prediction {prediction.id}, {prediction.time:%Y-%m-%d %H:%M} UTC, {rows}"
    return _node("prediction", prediction.id, title, prediction, *revisions)


def _endpoint(yard: Yard, endpoint: Endpoint, through: tuple[str, ...] = ()) -> Node:
    if endpoint.graph:
        through = (*through, endpoint.name)
        targets = dict.fromkeys(step.target for step in endpoint.graph if step.target)
        asked = [_asked(yard, one, through) for one in targets if one not in through]
        return _node("endpoint", endpoint.name, f"endpoint {endpoint.name}, a graph", endpoint, *asked)
    behind = []
    for revision in endpoint.revisions:
        if revision.traffic and revision.version:
            version = _version_of(yard, revision.model, revision.version)
            title = f"revision {revision.name}, {revision.traffic} % of traffic"
            behind.append(_node("revision", revision.name, title, revision, version))
    return _node("endpoint", endpoint.name, f"endpoint {endpoint.name}", endpoint, *behind)


def _asked(yard: Yard, target: str, through: tuple[str, ...]) -> Node:
    """What a step of a graph asks: an endpoint of the project, or somebody else."""
    try:
        return _endpoint(yard, yard.endpoints.get(target), through)
    except NotFoundError:
        return Node(kind="endpoint", id=target, title=f"{target} (no endpoint of this project)")


def _version_of(yard: Yard, model: str, version: str) -> Node:
    """The version, also when somebody deleted it: what it answered does not go away with it."""
    try:
        return _version(yard, yard.models.get(f"{model}/{version}"))
    except NotFoundError:
        moved = [_promotion_alone(p) for p in yard.promotions_of(model) if p.to_version == version]
        title = f"model {model}, version {version} (not in the registry)"
        return Node(kind="model", id=f"{model}/{version}", title=title, behind=tuple(moved))


def _version(yard: Yard, version: ModelVersion) -> Node:
    behind = [
        _promotion_alone(p)
        for p in yard.promotions_of(version.name)
        if p.to_version == version.version and p.status == "completed"
    ]
    if version.run_id:
        try:
            behind.append(_run(yard.runs.get(version.run_id)))
        except NotFoundError:
            behind.append(Node(kind="run", id=version.run_id, title=f"run {version.run_id} (deleted)"))
    digest = f", files sha256 {version.digest[:12]}" if version.digest else ""
    return _node(
        "model",
        version.ref,
        f"model {version.name}, version {version.version}{digest}",
        version,
        *behind,
    )


def _find_promotion(yard: Yard, anything: str) -> Promotion:
    model = anything.rpartition("#")[0]
    found = [p for p in yard.promotions_of(model) if p.id == anything]
    if not found:
        raise NotFoundError("promotion-not-found", f"no promotion '{anything}'")
    return found[0]


def _promotion(yard: Yard, promotion: Promotion) -> Node:
    alone = _promotion_alone(promotion)
    if promotion.to_version is None:
        return alone
    model = _version_of(yard, promotion.model, promotion.to_version)
    model = replace(model, behind=tuple(node for node in model.behind if node.kind != "promotion"))
    return replace(alone, behind=(model,))


def _promotion_alone(promotion: Promotion) -> Node:
    who = promotion.actor.user + (f" <{promotion.actor.email}>" if promotion.actor.email else "")
    verb = {"promote": "promoted", "rollback": "rolled back", "external": "moved"}[promotion.action]
    where = f" (on {promotion.origin})" if promotion.origin else ""
    when = f"{promotion.time:%Y-%m-%d %H:%M} UTC"
    title = f"{verb} to {promotion.alias} by {who}, {when}{where}: {promotion.reason}"
    return _node("promotion", promotion.id, title, promotion)


def _run(run: Run) -> Node:
    behind = [_data_use(use) for use in run.data]
    code = run.code
    if code.commit or code.entry_point:
        title = f"code {code.entry_point or ''}, {code.state}".replace(" ,", ",")
        behind.append(_node("code", code.commit or "", title, code))
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in sorted(run.metrics.items())[:4])
    title = f"run {run.id} '{run.name}' by {run.user}, {run.started:%Y-%m-%d %H:%M} UTC"
    return _node("run", run.id, title + (f": {metrics}" if metrics else ""), run, *behind)


def _data_use(use: DataUse) -> Node:
    node = _data(use.ref)
    return Node(kind="data", id=node.id, title=f"{node.title} ({use.role})", record=node.record)


def _data(ref: Any) -> Node:
    title = f"data {ref.path}, {ref.scheme} {ref.version}, sha256 {ref.digest[:12]}"
    return _node("data", ref.version, title, ref)


def _node(kind: str, id: str, title: str, record: Record, *behind: Node) -> Node:
    return Node(kind=kind, id=id, title=title, record=record.to_dict(), behind=behind)
