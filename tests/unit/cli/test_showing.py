"""What people read of an endpoint: short where all is well, else what is stuck, and what to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelyard.cli.showing import ago, print_endpoint, print_explanation, waits
from modelyard.cli.watching import resumable, watched
from modelyard.records import Condition, Endpoint, Event, Explanation, Replica, Revision, now

READY = Revision(
    name="flights-00001", number=1, model="flights", version="1", storage_uri="models:/flights/1",
    traffic=100, ready=True, created=now(), trust="registry",
)  # fmt: skip
LOADS = replace(
    READY, name="flights-00002", number=2, version="2", traffic=0, ready=False, message="loading the model",
    reason="Loading", since=now(), trust="consent",
)  # fmt: skip
FAILED = replace(
    LOADS, failed=True, message="model.pkl can't be loaded: it is torn", reason="ModelLoadFailed"
)


def endpoint(*revisions: Revision, ready: str = "True", **more: Any) -> Endpoint:
    condition = Condition(type="Ready", status=ready, reason="", message="", since=now())  # type: ignore[arg-type]
    given: dict[str, Any] = {
        "name": "flights",
        "url": "http://127.0.0.1:1/serving/default/flights",
        "ready": True,
        "storage_uri": "models:/flights@production",
        "created": now(),
        "conditions": (condition,),
        "revisions": revisions,
    }
    return Endpoint(**{**given, **more})


def printed(capsys: pytest.CaptureFixture[str], found: Explanation) -> str:
    print_endpoint(found.endpoint)
    print_explanation(found)
    return capsys.readouterr().out


def test_a_settled_endpoint_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(capsys, Explanation(endpoint=endpoint(READY)))
    assert len(said.splitlines()) == 3
    assert "trusted" not in said  # the registry's word needs no mention


def test_a_revision_that_loads_is_told_with_its_age(capsys: pytest.CaptureFixture[str]) -> None:
    since = now() - timedelta(hours=2, minutes=5, seconds=30)
    replica = Replica(name="77", revision=LOADS.name, ready=False, waits_for=LOADS.message, since=since)
    stuck = endpoint(LOADS, READY, ready="Unknown")
    said = printed(capsys, Explanation(endpoint=stuck, replicas=(replica,)))
    assert "flights is ready on http://" in said  # the old one answers
    assert "loading the model; trusted by consent" in said
    assert "77       flights-00002  not ready  2h5m" in said
    assert "next: wait, and look again: modelyard endpoints show flights" in said


def test_a_failure_is_told_once_with_its_log_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    failed = replace(
        endpoint(FAILED, READY, ready="False"),
        conditions=(Condition(type="Ready", status="False", message=f"revision failed: {FAILED.message}"),),
    )
    events = tuple(
        Event(time=now(), type="Warning", reason=f"Reason{n}", message=FAILED.message, count=n)
        for n in range(1, 40)
    )
    logs = {FAILED.name: ("first line", f"model server 7: {FAILED.message}")}
    said = printed(capsys, Explanation(endpoint=failed, events=events, logs=logs, unknown="no events"))
    assert said.count(FAILED.message) == 1, "the same sentence stands there again and again"
    assert "the last lines of flights-00002:\n  first line\n  model server 7: (as above)\n" in said
    assert "Reason39" in said
    assert "Reason20" not in said  # --json has them all
    assert "\nno events\n" in said
    assert "next: modelyard endpoints logs flights" in said
    assert "next: nothing is urgent: flights-00001 answers with flights/1" in said


def test_a_refused_pickle_names_the_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    way_out = "if you know who made them: modelyard endpoints apply -f FILE --trust"
    said = printed(capsys, Explanation(endpoint=endpoint(FAILED, ready="False"), advice=way_out))
    assert said.count("next: ") == 2
    assert f"next: {way_out}\n" in said


def test_what_two_revisions_say_stands_there_once(capsys: pytest.CaptureFixture[str]) -> None:
    before = replace(FAILED, name="flights-00001", number=1)
    assert printed(capsys, Explanation(endpoint=endpoint(FAILED, before))).count(FAILED.message) == 1


def test_what_does_not_run_is_started(capsys: pytest.CaptureFixture[str]) -> None:
    down = endpoint(replace(READY, ready=False), url=None, ready=False)
    assert "next: modelyard up\n" in printed(capsys, Explanation(endpoint=down))


def test_a_sleeping_revision_is_asleep(capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(capsys, Explanation(endpoint=endpoint(replace(READY, reason="NoTraffic"))))
    assert "  asleep  " in said


# -- while it is made ------------------------------------------------------------------------


def test_what_is_waited_for_is_a_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    with watched(silent=False) as progress:
        for one in (LOADS, LOADS, FAILED, FAILED, replace(LOADS, ready=True)):
            progress(endpoint(one, READY))
    lines = [line.partition(" ")[2] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "flights-00002 with flights/2: loading the model",
        "flights-00002 with flights/2: model.pkl can't be loaded: it is torn",
    ]


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with watched(silent=True) as progress:
        progress(endpoint(LOADS))
    assert capsys.readouterr() == ("", "")


def test_old_revisions_are_not_waited_for() -> None:
    retired = replace(LOADS, traffic=0, message="")
    assert list(waits(endpoint(READY, retired))) == []
    (waiting,) = waits(endpoint(READY, ready="Unknown"))
    assert waiting[0] == "flights: not ready yet"
    (first,) = waits(endpoint(url=None, ready=False, message="the gateway is gone"))
    assert first == ("flights: the gateway is gone", None)


def test_who_interrupts_learns_how_to_look_again(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(known: bool) -> None:
        with resumable() as progress:
            if known:
                progress(endpoint(LOADS))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted(True)
    assert "look again: modelyard endpoints show flights\n" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        interrupted(False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("seconds", "said"), [(5, "5s"), (90, "1m30s"), (3725, "1h2m"), (200000, "2d7h")])
def test_ages_are_short(seconds: int, said: str) -> None:
    assert ago(now() - timedelta(seconds=seconds)) == said
