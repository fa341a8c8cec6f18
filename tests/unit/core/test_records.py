"""Records go to JSON and back unchanged."""

from __future__ import annotations

import json
import pickle
from datetime import datetime, timezone

import pytest

from modelyard import records as r
from modelyard.errors import GateError, ModelyardError

WHEN = datetime(2013, 7, 4, 12, 30, tzinfo=timezone.utc)
REF = r.DataRef(
    name="flüge", scheme="dvc", path="data/a b.csv", version="ab", digest="0" * 64, size=3, files=1
)
EVERY = [
    REF,
    r.Run(
        id="1",
        name="x",
        status="finished",
        started=WHEN,
        ended=None,
        params={"depth": "6"},
        metrics={"auc": 0.7},
        data=(r.DataUse(role="train", ref=REF),),
        code=r.Code(commit="abc", dirty=True),
        environment=r.Environment(python="3.11", platform="Linux", lock_sha256="1"),
    ),
    r.Promotion(
        id="m#1",
        model="m",
        alias="production",
        action="promote",
        from_version=None,
        to_version="1",
        time=WHEN,
        actor=r.Actor(user="ada", email="ada@example.org"),
        reason="why not",
        status="completed",
        gates=(r.GateResult(gate="auc", passed=True, message="fine", values={"value": 0.7}),),
    ),
    r.Endpoint(
        name="e",
        url="http://127.0.0.1:1",
        ready=True,
        storage_uri="models:/m@production",
        created=WHEN,
        revisions=(
            r.Revision(
                name="e-1",
                number=1,
                model="m",
                version="1",
                storage_uri="u",
                traffic=100,
                ready=True,
                created=WHEN,
            ),
        ),
    ),
    r.Window(
        endpoint="e",
        model="m",
        version="1",
        start=WHEN,
        end=WHEN,
        rows=10,
        columns=(
            r.ColumnScore(column="temp", method="w", score=None, threshold=0.1, drifted=False, error="empty"),
        ),
        quality={"auc": 0.7},
    ),
]


@pytest.mark.parametrize("record", EVERY, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_from_json(record: r.Record) -> None:
    assert type(record).from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_keys_of_a_newer_version_are_ignored() -> None:
    assert r.DataRef.from_dict({**REF.to_dict(), "invented_later": 1}) == REF


def test_the_worst_column_comes_first() -> None:
    def score(name: str, value: float) -> r.ColumnScore:
        return r.ColumnScore(column=name, method="w", score=value, threshold=0.1, drifted=True)

    window = r.Window(
        endpoint="e",
        model="m",
        version="1",
        start=WHEN,
        end=WHEN,
        rows=1,
        columns=(score("a", 0.2), score("b", 3)),
    )
    assert window.drifted == ("b", "a")


def test_errors_survive_worker_processes() -> None:
    error = GateError("gate-refused", "no", "do this", details={"x": 1})
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, ModelyardError)
    assert again.to_dict() == error.to_dict()
    assert again.exit_status == 6
