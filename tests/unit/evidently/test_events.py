"""CloudEvents as KServe sends them: paired in any order, exploded into rows, refused when they are none."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest

from modelyard_evidently import events
from modelyard_evidently.events import Event, Pairing, Row, event_of, rows_of

KIND = "org.kubeflow.serving.inference."
AT = datetime(2013, 4, 1, 12, tzinfo=timezone.utc)


def event(kind: str, body: Any = None, *, name: str = "p", endpoint: str = "e", **more: str) -> Event:
    headers = {
        "ce-id": name,
        "ce-type": KIND + kind,
        "ce-time": AT.isoformat(),
        "ce-inferenceservicename": endpoint,
        "ce-annotations": json.dumps({"modelyard.dev/model": "m", "modelyard.dev/version": "3"}),
        **more,
    }
    return event_of(headers, body if isinstance(body, bytes) else json.dumps(body).encode())


def called(asked: Any, answered: Any, names: tuple[str, ...] = ()) -> list[Row]:
    """The rows of a call with these bodies, of a model with these columns."""
    return list(rows_of(event("request", asked), event("response", answered), lambda *_: names))


def tensor(name: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": "FP64", "data": data}


# -- pairing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("request", "response"), ("response", "request")], ids="-".join)
def test_halves_find_each_other_in_either_order(order: tuple[str, str]) -> None:
    pairing = Pairing()
    assert pairing.add(event(order[0])) is None
    pair = pairing.add(event(order[1]))
    assert pair is not None
    assert [half.kind for half in pair] == [KIND + "request", KIND + "response"]
    assert pairing.waiting == 0


def test_what_comes_again_counts_once_before_and_after_its_other_half() -> None:
    pairing = Pairing()
    for kind in ("request", "request"):
        assert pairing.add(event(kind)) is None
    assert pairing.add(event("response")) is not None
    for kind in ("request", "response"):
        assert pairing.add(event(kind)) is None
    assert (pairing.duplicates, pairing.unpaired, pairing.waiting) == (3, 0, 0)


def test_one_id_at_two_endpoints_is_two_calls() -> None:
    """A caller that asks champion and challenger gives both the same id."""
    pairing = Pairing()
    for endpoint in ("champion", "challenger"):
        assert pairing.add(event("request", endpoint=endpoint)) is None
    for endpoint in ("challenger", "champion"):
        pair = pairing.add(event("response", endpoint=endpoint))
        assert pair is not None
        assert {half.endpoint for half in pair} == {endpoint}
    assert pairing.duplicates == 0


def test_a_half_whose_other_never_comes_is_forgotten_and_counted() -> None:
    now = 0.0
    pairing = Pairing(lambda: now)
    pairing.add(event("request", name="old"))
    now = 299.0
    pairing.add(event("request", name="young"))
    now = 301.0
    pairing.add(event("request", name="other"))
    assert (pairing.unpaired, pairing.waiting) == (1, 2)
    assert pairing.add(event("response", name="young")) is not None
    assert pairing.add(event("response", name="old")) is None, "it is a first half again"


def test_waiting_halves_take_no_more_memory_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where KServe logs requests alone, none of them is ever answered."""
    monkeypatch.setattr(events, "_MOST_BYTES", 10_000)
    pairing = Pairing()
    for number in range(50):
        pairing.add(event("request", b"x" * 1000, name=str(number)))
    assert pairing.waiting <= 11
    assert pairing.waiting + pairing.unpaired == 50
    assert pairing.add(event("response", name="49")) is not None, "the newest are kept"
    for number in range(100, 150):  # what was paired takes no room
        pairing.add(event("request", b"x" * 1000, name=str(number)))
        assert pairing.add(event("response", name=str(number))) is not None


# -- bodies -------------------------------------------------------------------------------------

ASKED = [{"temp": 1.5, "carrier": "UA"}, {"temp": None, "carrier": "ÄÖ"}]
BODIES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "v1 objects": ({"instances": ASKED}, ()),
    "v1 lists": ({"instances": [list(row.values()) for row in ASKED]}, ("temp", "carrier")),
    "v2 columns": (
        {"inputs": [tensor("temp", [2, 1], [1.5, None]), tensor("carrier", [2], ["UA", "ÄÖ"])]},
        (),
    ),
    "v2 table": ({"inputs": [tensor("x", [2, 2], [1.5, "UA", None, "ÄÖ"])]}, ("temp", "carrier")),
    "v2 nested": ({"inputs": [tensor("x", [2, 2], [[1.5, "UA"], [None, "ÄÖ"]])]}, ("temp", "carrier")),
}


@pytest.mark.parametrize("shape", BODIES)
def test_every_spelling_of_a_request_gives_the_same_rows(shape: str) -> None:
    asked, names = BODIES[shape]
    rows = called(asked, {"predictions": [0, 1]}, names)
    assert [row.features for row in rows] == ASKED
    assert [(row.row, row.prediction, row.score) for row in rows] == [(0, 0, None), (1, 1, None)]
    assert {(row.time, row.model, row.version, row.endpoint) for row in rows} == {(AT, "m", "3", "e")}


@pytest.mark.parametrize(
    ("answered", "expected"),
    [
        ({"predictions": [[0.9, 0.1], [0.2, 0.8]]}, [(0, 0.1), (1, 0.8)]),
        ({"predictions": [[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]]}, [(1, None), (0, None)]),
        ({"predictions": [[3.5], [[4]]]}, [(3.5, None), (4, None)]),
        ({"predictions": ["late", None]}, [("late", None), (None, None)]),
        ({"outputs": [tensor("y", [2], [7, 8])]}, [(7, None), (8, None)]),
        ({"outputs": [tensor("y", [2, 2], [0.9, 0.1, 0.2, 0.8])]}, [(0, 0.1), (1, 0.8)]),
    ],
    ids=["probabilities", "three classes", "boxed", "words", "v2", "v2 probabilities"],
)
def test_every_spelling_of_an_answer_is_understood(answered: Any, expected: list[Any]) -> None:
    rows = called({"instances": ASKED}, answered)
    assert [(row.prediction, row.score) for row in rows] == expected


def test_columns_that_do_not_fit_the_signature_are_counted() -> None:
    (row,) = called({"instances": [[1, 2, 3]]}, {"predictions": [0]}, ("temp", "carrier"))
    assert row.features == {"0": 1, "1": 2, "2": 3}


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (b"{", {"predictions": [1]}),
        (b"\xff\xfe", {"predictions": [1]}),
        ([1], {"predictions": [1]}),
        ({}, {"predictions": [1]}),
        ({"instances": "word"}, {"predictions": [1]}),
        ({"instances": [1, 2]}, {"predictions": [1]}),
        ({"instances": [1]}, {"predictions": "1"}),
        ({"instances": [1]}, {}),
        ({"instances": [1]}, {"outputs": []}),
        ({"inputs": []}, {"predictions": [1]}),
        ({"inputs": [tensor("a", [2], [1, 2]), tensor("b", [1], [1])]}, {"predictions": [1, 2]}),
    ],
)
def test_a_malformed_body_is_a_sentence(asked: Any, answered: Any) -> None:
    with pytest.raises(ValueError, match=r"[a-z ]{10}"):
        called(asked, answered)


def test_an_answer_nested_a_thousand_deep_is_an_answer() -> None:
    deep: Any = 7
    for _ in range(5000):
        deep = [deep]
    assert events.decision_of(deep) == (7, None)


# -- headers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"ce-type": "something.else"},
        {"ce-id": ""},
        {"ce-inferenceservicename": ""},
        {"ce-inferenceservicename": "n" * 300},
        {"ce-annotations": json.dumps({"modelyard.dev/model": "\ud800"})},
    ],
    ids=["type", "no id", "no name", "long name", "no text"],
)
def test_what_is_no_inference_event_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        event("request", **headers)


@pytest.mark.parametrize("said", ["", "no json", "[1]", '"text"', "null"])
def test_metadata_that_can_not_be_read_leaves_the_event_its_own_time(said: str) -> None:
    found = event("request", **{"ce-metadata": said, "ce-annotations": said})
    assert (found.time, found.model, found.version) == (AT, "unknown", "0")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("2014-01-02T03:04:05Z", datetime(2014, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
        (["2014-01-02T03:04:05.123456789Z"], datetime(2014, 1, 2, 3, 4, 5, 123456, tzinfo=timezone.utc)),
        ("2014-01-02T03:04:05.5+02:00", datetime(2014, 1, 2, 1, 4, 5, 500000, tzinfo=timezone.utc)),
        ("2014-01-02T03:04:05", datetime(2014, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
        ("yesterday", AT),
        ("0001-01-01T00:00:00+01:00", AT),
        ("9999-12-31T23:59:59-01:00", AT),
        ([], AT),
        (7, AT),
    ],
    ids=str,
)
def test_the_time_of_a_replay_is_its_own_if_it_can_be_read(said: Any, expected: datetime) -> None:
    for name in ("X-Event-Time", "x-event-time"):
        assert event("request", **{"ce-metadata": json.dumps({name: said})}).time == expected


def test_columns_of_lists_are_rows_where_as_many_were_answered() -> None:
    asked = {"inputs": [{"temp": [20.5, -4], "stops": [0, 2]}]}
    found = called(asked, {"predictions": [1, 0]})
    assert [row.features for row in found] == [{"temp": 20.5, "stops": 0}, {"temp": -4, "stops": 2}]
    (alone,) = called({"instances": [{"x": [1, 2]}]}, {"predictions": [1]})
    assert alone.features == {"x": [1, 2]}
    (one,) = called({"inputs": [[20.5, 0]]}, {"predictions": [1]})
    assert list(one.features.values()) == [20.5, 0]
