"""What a controller sees becomes KServe's conditions, and events when something changes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelyard.records import Event
from modelyard.state import write_json
from modelyard_kserve.local.conditions import (
    EVENTS,
    REACHABLE,
    REFUSES,
    STARTS,
    Journal,
    changes,
    conditions,
    events,
)
from modelyard_kserve.local.desired import Component, Desired, Wanted

READY: dict[str, Any] = {"ready": True, "failed": False, "message": "", "asleep": False, "pid": 7}
LOADS: dict[str, Any] = {**READY, "ready": False, "message": "loading the model"}
FAILED: dict[str, Any] = {**LOADS, "failed": True, "message": "model.pkl can't be loaded: it is torn"}
ENDED: dict[str, Any] = {**LOADS, "message": "the model server ended"}
ASLEEP: dict[str, Any] = {**READY, "asleep": True, "pid": None}


def endpoint(*versions: str, canary: int | None = None, rolled_out: int = 1, **changed: Any) -> Desired:
    revisions = tuple(
        Wanted(
            number=number,
            name=f"flights-0000{number}",
            model="flights",
            version=version,
            path=f"/models/{number}",
            digest="ab" * 32,
            storage_uri=f"models:/flights/{version}",
            spec_digest="s",
            created="2026-03-01T10:00:00+00:00",
            **changed,
        )
        for number, version in enumerate(versions, start=1)
    )
    return Desired(
        name="flights",
        namespace="default",
        generation=1,
        manifest="text",
        storage_uri="models:/flights@production",
        canary=canary,
        rolled_out=rolled_out,
        revisions=revisions,
        created="2026-03-01T10:00:00+00:00",
    )


ONE, TWO = endpoint("1"), endpoint("1", "2")


def test_each_component_has_a_condition_of_its_own() -> None:
    around = {"transformer": Component("python -m ours"), "explainer": Component("python -m why")}
    desired = replace(ONE, revisions=(replace(ONE.newest, components=around),))
    parts = {"predictor": READY, "transformer": FAILED, "explainer": LOADS}
    state = {**READY, "ready": False, "failed": True, "message": "transformer: torn", "parts": parts}
    found = {name: fact[0] for name, fact in conditions(desired, {"1": state}, REACHABLE).items()}
    assert found == {
        "Ready": "False",
        "PredictorReady": "True",
        "PredictorConfigurationReady": "True",
        "PredictorRouteReady": "True",
        "TransformerReady": "False",
        "ExplainerReady": "Unknown",
        "RoutesReady": "False",
        "IngressReady": "True",
    }
    assert "flights-00001, transformer failed: " in conditions(desired, {"1": state}, REACHABLE)["Ready"][2]


@pytest.mark.parametrize(
    ("desired", "revisions", "statuses", "reason"),
    [
        (ONE, {}, ("Unknown", "Unknown", "Unknown"), "Loading"),
        (ONE, {"1": LOADS}, ("Unknown", "Unknown", "Unknown"), "Loading"),
        (ONE, {"1": READY}, ("True", "True", "True"), ""),
        (ONE, {"1": ASLEEP}, ("True", "True", "True"), ""),
        (ONE, {"1": FAILED}, ("False", "False", "False"), "RevisionFailed"),
        (ONE, {"1": ENDED}, ("Unknown", "Unknown", "Unknown"), "CrashLoopBackOff"),
        # The old revision answers while the new one loads or failed: routes are ready, the predictor is not.
        (TWO, {"1": READY, "2": LOADS}, ("Unknown", "Unknown", "True"), "Loading"),
        (TWO, {"1": READY, "2": FAILED}, ("False", "False", "True"), "RevisionFailed"),
        (TWO, {"1": FAILED, "2": READY}, ("True", "True", "True"), ""),
    ],
)
def test_conditions_follow_from_the_revisions(
    desired: Desired, revisions: dict[str, Any], statuses: tuple[str, ...], reason: str
) -> None:
    found = conditions(desired, revisions, REACHABLE)
    assert tuple(found[name][0] for name in ("Ready", "PredictorReady", "RoutesReady")) == statuses
    assert found["Ready"][1] == reason
    assert found["IngressReady"][0] == "True"


def test_a_failed_revision_is_named_with_its_words() -> None:
    status, reason, message = conditions(TWO, {"1": READY, "2": FAILED}, REACHABLE)[
        "PredictorConfigurationReady"
    ]
    assert (status, reason) == ("False", "RevisionFailed")
    assert message == "revision flights-00002 failed: model.pkl can't be loaded: it is torn"


def test_without_a_gateway_nobody_is_ready() -> None:
    found = conditions(ONE, {"1": READY}, STARTS)
    assert (found["PredictorReady"][0], found["Ready"][:2]) == ("True", ("Unknown", "IngressNotReady"))
    found = conditions(ONE, {"1": READY}, REFUSES)
    assert (found["PredictorReady"][0], found["Ready"][:2]) == ("True", ("False", "IngressNotReady"))


# -- over time -------------------------------------------------------------------------------


class Told:
    """A journal with the clock in the hand; what it says is written as the controller does."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._patch, self._minute = folder, monkeypatch, 0
        self._journal = Journal(folder)

    def anew(self) -> None:
        self._journal = Journal(self._folder)

    def sees(self, desired: Desired, **revisions: dict[str, Any]) -> dict[str, Any]:
        import datetime

        self._minute += 1
        at = datetime.datetime(2026, 3, 1, 10, self._minute % 60, tzinfo=datetime.timezone.utc)
        self._patch.setattr("modelyard_kserve.local.conditions.now", lambda: at)
        seen = {"generation": 1, "revisions": {n.removeprefix("r"): dict(s) for n, s in revisions.items()}}
        told = self._journal.told(desired, seen, REACHABLE)
        self._journal.save()
        write_json(self._folder / "observed.json", told)
        return told

    @property
    def reasons(self) -> list[str]:
        return [event.reason for event in events(self._folder)]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(tmp_path, monkeypatch)


def since(seen: dict[str, Any], name: str) -> str:
    return str(next(one["since"] for one in seen["conditions"] if one["type"] == name))[14:16]


def test_a_condition_is_as_old_as_its_status(told: Told) -> None:
    assert since(told.sees(ONE, r1=LOADS), "Ready") == "01"
    assert since(told.sees(ONE, r1=ENDED), "Ready") == "01"  # another reason, the same status
    assert since(told.sees(ONE, r1=READY), "Ready") == "03"
    told.anew()  # another controller
    assert since(told.sees(ONE, r1={**READY, "pid": 8}), "Ready") == "03"
    assert told.sees(ONE, r1=ENDED)["revisions"]["1"]["since"][14:16] == "05"


def test_a_roll_out_is_told_as_events(told: Told) -> None:
    told.sees(ONE, r1=LOADS)
    told.sees(ONE, r1=READY)
    told.sees(TWO, r1=READY, r2=LOADS)
    told.sees(TWO, r1=READY, r2=READY)
    assert told.reasons == [  # ready for the second time is the same event again
        *("RevisionCreated", "RevisionReady", "TrafficChanged", "RevisionCreated", "RevisionReady"),
        *("TrafficChanged", "InferenceServiceReady"),
    ]
    told.sees(replace(TWO, canary=20), r1=READY, r2=READY)
    last = events(told._folder)[-1]
    assert last.message == "traffic goes to flights-00002 20 %, flights-00001 80 %"


def test_the_same_event_again_counts(told: Told) -> None:
    for _ in range(30):
        told.sees(ONE, r1=FAILED)
        told.sees(ONE, r1=LOADS)
    found = {event.reason: event for event in events(told._folder)}
    failed = found["ModelLoadFailed"]
    assert (failed.type, failed.count) == ("Warning", 30)
    assert failed.first is not None
    assert failed.first < failed.time
    assert told.sees(ONE, r1=FAILED)["revisions"]["1"]["restarts"] == 31


def test_events_are_bounded(told: Told) -> None:
    for number in range(200):
        told.sees(ONE, r1={**FAILED, "message": f"fault {number}"})
    found = events(told._folder)
    assert len(found) == 50
    assert "fault 199" in [event for event in found if event.reason == "ModelLoadFailed"][-1].message


def test_a_model_that_sleeps_and_wakes(told: Told) -> None:
    told.sees(ONE, r1=READY)
    assert told.sees(ONE, r1=ASLEEP)["revisions"]["1"]["reason"] == "NoTraffic"
    told.sees(ONE, r1=LOADS)
    told.sees(ONE, r1=READY)
    assert [r for r in told.reasons if r in ("NoTraffic", "Active")] == ["NoTraffic", "Active"]


def test_consent_is_told_with_what_it_is_about(told: Told) -> None:
    told.sees(endpoint("1", trusted_by="consent", trust_pickle=True), r1=LOADS)
    (made,) = [event for event in events(told._folder) if event.reason == "RevisionCreated"]
    assert made.message.endswith(f"trusted by consent to sha256:{'ab' * 32}")
    (one,) = ONE.revisions
    alien = replace(ONE, revisions=(replace(one, number=2, digest="", trusted_by="consent"),), rolled_out=2)
    told.sees(alien, r2=LOADS)
    made = [event for event in events(told._folder) if event.reason == "RevisionCreated"][-1]
    assert made.message.endswith("trusted by consent to its command")


def test_a_controller_that_is_started_anew_tells_nothing_again(told: Told) -> None:
    told.sees(ONE, r1=READY)
    before = events(told._folder)
    told.anew()
    told.sees(ONE, r1=READY)
    assert events(told._folder) == before


@pytest.mark.parametrize("content", ["", "{", '{"a": 1}', "[1]", '[{"time": "yesterday"}]', "null"])
def test_a_damaged_file_of_events_is_begun_anew(told: Told, content: str) -> None:
    (told._folder / EVENTS).write_text(content)
    told.anew()
    told.sees(ONE, r1=READY)
    assert "RevisionReady" in told.reasons
    assert json.loads((told._folder / EVENTS).read_text())


def test_events_survive_json(told: Told) -> None:
    told.sees(ONE, r1=FAILED)
    assert [Event.from_dict(one.to_dict()) for one in events(told._folder)] == events(told._folder)


def test_revisions_that_share_a_process_tell_of_it_once(told: Told) -> None:
    one, two = TWO.revisions
    shared = replace(TWO, revisions=(one, replace(two, path=one.path)))
    told.sees(shared, r1=LOADS, r2=LOADS)
    told.sees(shared, r1=FAILED, r2=FAILED)
    (failed,) = [event for event in events(told._folder) if event.reason == "ModelLoadFailed"]
    assert failed.message.startswith("flights-00002: ")


def test_nothing_new_is_no_event() -> None:
    after = {
        "newest": 1,
        "traffic": "",
        "revisions": {"1": {**READY, "reason": "", "since": "x"}},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    assert list(changes(ONE, after, after)) == []
