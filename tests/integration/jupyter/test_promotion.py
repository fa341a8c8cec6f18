"""Promoting and rolling back through the panel's server: the ledger is the record."""

from __future__ import annotations

import uuid
from typing import Any

from tests.integration.jupyter.conftest import Jupyter

MODEL = "models/late-flights"


def _holder(jupyter: Jupyter, alias: str) -> str:
    (model,) = jupyter.ask(f"{jupyter.project}/models").json["rows"]
    return next((row["version"] for row in model["versions"] if alias in row["aliases"]), "")


def _history(jupyter: Jupyter) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = jupyter.ask(f"{jupyter.project}/history").json["moves"]
    return found


def test_the_dialog_shows_both_sides_and_the_gates(jupyter: Jupyter) -> None:
    plan = jupyter.ask(f"{jupyter.project}/{MODEL}/promotion?version=2&alias=production").json
    assert plan["candidate"]["version"] == "2"
    assert plan["champion"]["version"] == "1"
    assert set(plan["candidate"]["metrics"]) == set(plan["champion"]["metrics"])
    assert plan["gates"]
    assert all(gate["message"] for gate in plan["gates"])
    assert plan["must_type"] == "late-flights"


def test_a_promotion_moves_once_and_is_taken_back(jupyter: Jupyter) -> None:
    before = len(_history(jupyter))
    current, key = _holder(jupyter, "production"), uuid.uuid4().hex
    other = "2" if current == "1" else "1"
    wish = {"version": other, "alias": "production", "reason": "seen side by side", "expect": current}
    moved = jupyter.ask(f"{jupyter.project}/{MODEL}/promote", wish, key=key)
    assert moved.status == 200, moved.body
    assert jupyter.ask(f"{jupyter.project}/{MODEL}/promote", wish, key=key).json == moved.json
    assert _holder(jupyter, "production") == other
    assert len(_history(jupyter)) == before + 1
    plan = jupyter.ask(f"{jupyter.project}/{MODEL}/rollback?alias=production").json
    assert (plan["current"], plan["to"]) == (other, current)
    assert plan["good"][0]["version"] == other
    undo = {"alias": "production", "reason": "look first", "expect": other}
    slower = jupyter.ask(f"{jupyter.project}/{MODEL}/rollback", {**undo, "expect": "7"})
    assert (slower.status, slower.json["code"]) == (409, "alias-moved")
    back = jupyter.ask(f"{jupyter.project}/{MODEL}/rollback", undo)
    assert back.json["to_version"] == current
    assert _holder(jupyter, "production") == current
    assert [move["reason"] for move in _history(jupyter)[:2]] == ["look first", "seen side by side"]


def test_who_is_slower_sees_who_was_faster(jupyter: Jupyter) -> None:
    wish = {"version": "2", "alias": "production", "reason": "too late", "expect": "7"}
    said = jupyter.ask(f"{jupyter.project}/{MODEL}/promote", wish)
    assert (said.status, said.json["code"]) == (409, "alias-moved")
    assert said.json["details"]["current"] == _holder(jupyter, "production")
    nobody = {**wish, "expect": ""}
    assert jupyter.ask(f"{jupyter.project}/{MODEL}/promote", nobody).status == 409
