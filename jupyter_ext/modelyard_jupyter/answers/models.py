"""Models: the tree of versions, what stands behind one, and the two dialogs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from modelyard.errors import ModelyardError
from modelyard.lineage import Node
from modelyard.records import Actor, Endpoint, ModelVersion, Promotion, Run, now
from modelyard.yard import Yard
from modelyard_jupyter.answers.moves import move_of
from modelyard_jupyter.answers.runs import data_of, finite
from modelyard_jupyter.api import (
    Gate,
    GoodVersion,
    LineageNode,
    ModelList,
    ModelRow,
    Move,
    PromoteWish,
    PromotionPlan,
    RegisterWish,
    RollbackPlan,
    RollbackWish,
    Side,
    VersionDetails,
    VersionRow,
)

#: Aliases for which the model's name has to be typed.
_TYPED = frozenset({"production"})
_GOOD = 5


def tree(yard: Yard, _: Mapping[str, Any]) -> ModelList:
    """Every model with its versions."""
    endpoints = _endpoints(yard)
    found = []
    for name in yard.models.names():
        moves = yard.promotions_of(name)
        rows = [_row(version, moves, endpoints) for version in yard.models.versions(name)]
        found.append(ModelRow(name=name, versions=tuple(rows)))
    return ModelList(rows=tuple(found))


def details(yard: Yard, query: Mapping[str, Any]) -> VersionDetails:
    """Everything about one version."""
    version = yard.models.get(f"{query['model']}/{query['version']}")
    moves = yard.promotions_of(version.name)
    concerned = [move for move in moves if version.version in (move.from_version, move.to_version)]
    try:
        lineage = _node(yard.lineage(version.ref))
    except ModelyardError:
        lineage = None
    return VersionDetails(
        model=version.name,
        row=_row(version, moves, _endpoints(yard)),
        tags={key: value for key, value in version.tags.items() if not key.startswith("mlflow.")},
        digest=version.digest,
        inputs=inputs_of(yard, version),
        lineage=lineage,
        history=tuple(move_of(move) for move in reversed(concerned)),
        load_code=f"import mlflow\nimport modelyard\n\nyard = modelyard.open()\n"
        f'model = mlflow.pyfunc.load_model(str(yard.models.path("{version.ref}")))\n',
    )


def register(yard: Yard, query: Mapping[str, Any]) -> VersionRow:
    """Make the model that a run logged a version."""
    wish = RegisterWish.model_validate(query["wish"])
    return _row(yard.models.register(wish.name, run=query["run"]), [], [])


def history(yard: Yard, query: Mapping[str, Any]) -> dict[str, Any]:
    """The ledger's lines, newest first."""
    moves = yard.history(query.get("model") or None)
    return {"moves": [move_of(move).model_dump(mode="json") for move in moves]}


# -- promote --------------------------------------------------------------------------------


def promotion(yard: Yard, query: Mapping[str, Any]) -> PromotionPlan:
    """What the promote dialog shows."""
    model, alias = query["model"], query.get("alias") or "production"
    candidate = yard.models.get(f"{model}/{query['version']}")
    holder = yard.registry.alias(model, alias)
    champion = yard.models.get(f"{model}/{holder}") if holder else None
    results = yard.check_gates(candidate, to=alias)
    return PromotionPlan(
        model=model,
        alias=alias,
        candidate=_side(yard, candidate),
        champion=_side(yard, champion) if champion else None,
        gates=tuple(
            Gate(gate=r.gate, passed=r.passed, message=r.message, values=_plain(r.values)) for r in results
        ),
        allowed=all(result.passed for result in results),
        must_type=model if alias in _TYPED else None,
    )


def promote(yard: Yard, query: Mapping[str, Any]) -> Move:
    """Give the alias to a version, if its gates pass and nobody was faster."""
    wish = PromoteWish.model_validate(query["wish"])
    moved = yard.promote(
        f"{query['model']}/{wish.version}",
        to=wish.alias,
        reason=wish.reason,
        expect=wish.expect,
        by=_actor(query),
    )
    return move_of(moved)


# -- roll back ------------------------------------------------------------------------------


def rollback_plan(yard: Yard, query: Mapping[str, Any]) -> RollbackPlan:
    """What the rollback dialog shows."""
    model, alias = query["model"], query.get("alias") or "production"
    moves = [m for m in yard.promotions_of(model) if m.alias == alias and m.status == "completed"]
    return RollbackPlan(
        model=model,
        alias=alias,
        current=yard.registry.alias(model, alias),
        to=yard.rolls_back_to(model, alias=alias),
        good=tuple(_in_service(moves))[:_GOOD],
    )


def rollback(yard: Yard, query: Mapping[str, Any]) -> Move:
    """Give the alias back."""
    wish = RollbackWish.model_validate(query["wish"])
    moved = yard.rollback(
        query["model"], alias=wish.alias, reason=wish.reason, expect=wish.expect, by=_actor(query)
    )
    return move_of(moved)


def _in_service(moves: list[Promotion]) -> list[GoodVersion]:
    """Versions with their times in service, the last first."""
    found = []
    ends: list[datetime] = [*(move.time for move in moves[1:]), now()]
    for move, end in zip(moves, ends):
        if move.to_version is not None and move.deployed is not False:
            seconds = (end - move.time).total_seconds()
            found.append(
                GoodVersion(version=move.to_version, since=move.time, seconds=seconds, reason=move.reason)
            )
    return found[::-1]


# -- helpers --------------------------------------------------------------------------------


def inputs_of(yard: Yard, version: ModelVersion) -> tuple[tuple[str, str], ...]:
    """The columns of a version's signature, name and type; empty where it has none of that kind."""
    import yaml

    try:
        described = yaml.safe_load((yard.models.path(version) / "MLmodel").read_text(encoding="utf-8"))
    except (OSError, ModelyardError):
        return ()
    inputs = json.loads((described.get("signature") or {}).get("inputs") or "[]")
    return tuple((item["name"], item["type"]) for item in inputs if "name" in item and "type" in item)


def _endpoints(yard: Yard) -> list[Endpoint]:
    """Where models serve; nothing where that can't be known: the section Serving says why."""
    try:
        return yard.endpoints.list()
    except ModelyardError:
        return []


def _row(version: ModelVersion, moves: list[Promotion], endpoints: list[Endpoint]) -> VersionRow:
    serving = [
        f"{endpoint.name} {revision.traffic} %"
        for endpoint in endpoints
        for revision in endpoint.revisions
        if revision.traffic and (revision.model, revision.version) == (version.name, version.version)
    ]
    last = next(
        (m for m in reversed(moves) if m.to_version == version.version and m.alias in version.aliases), None
    )
    return VersionRow(
        version=version.version,
        created=version.created,
        user=version.user,
        run_id=version.run_id,
        aliases=version.aliases,
        signature=version.signature,
        serving=tuple(serving),
        promoted_by=last.actor.user if last else None,
    )


def _side(yard: Yard, version: ModelVersion) -> Side:
    run = _run_of(yard, version)
    return Side(
        version=version.version,
        metrics=finite(run.metrics) if run else {},
        params=dict(run.params) if run else {},
        data=tuple(f"{use.role} {data_of(use)}" for use in run.data) if run else (),
        signature=version.signature,
        drifted=_drifted(yard, version),
        created=version.created,
        user=version.user,
    )


def _run_of(yard: Yard, version: ModelVersion) -> Run | None:
    try:
        return yard.runs.get(version.run_id) if version.run_id else None
    except ModelyardError:
        return None


def _drifted(yard: Yard, version: ModelVersion) -> tuple[str, ...] | None:
    """The drifted columns of the version's newest window, behind whichever endpoint serves it."""
    for endpoint in _endpoints(yard):
        try:
            windows = yard.monitor.windows(endpoint.name)
        except ModelyardError:
            continue
        for window in windows:
            if (window.model, window.version) == (version.name, version.version) and window.enough:
                return window.drifted
    return None


def _node(node: Node) -> LineageNode:
    return LineageNode(
        kind=node.kind, title=node.title, parents=tuple(_node(behind) for behind in node.behind)
    )


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(dict(values), default=str))
    return found


def _actor(query: Mapping[str, Any]) -> Actor | None:
    """Who is logged in to Jupyter; None: the machine's user, as everywhere else."""
    return Actor(user=query["user"], source="authenticated") if query.get("user") else None
