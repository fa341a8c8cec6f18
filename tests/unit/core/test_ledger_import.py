"""A ledger that is shipped becomes part of another, word for word, and both chains stay verifiable."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.digests import digest_of
from modelyard.errors import ConflictError, CorruptStateError
from modelyard.ledger import Ledger

VERSIONS = {"1": "4", "2": "5"}
RUNS = {"run-1": "run-a"}


def promote(ledger: Ledger, before: str | None, after: str, alias: str = "production", **more: Any) -> int:
    intent = ledger.append(
        "intent",
        {
            "action": "promote",
            "alias": alias,
            "from_version": before,
            "to_version": after,
            "reason": f"to {after}",
            "actor": {"user": "ada"},
            "run_id": f"run-{after}",
            **more,
        },
    )
    ledger.append("outcome", {"intent": intent["seq"], "status": "completed"})
    return int(intent["seq"])


@pytest.fixture
def here(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "here", "späte flüge")
    promote(ledger, None, "1")
    return ledger


@pytest.fixture
def there(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "there", "späte flüge")


@pytest.fixture
def take(here: Ledger, there: Ledger) -> Callable[..., int]:
    def take(**more: Any) -> int:
        given: dict[str, Any] = {"origin": "local", "versions": VERSIONS, "runs": RUNS, **more}
        return there.take_over(here.events(), **given)

    return take


def test_promotions_are_told_as_they_happened_with_the_versions_there(
    here: Ledger, there: Ledger, take: Callable[..., int]
) -> None:
    assert take() == 2
    (original,), (told,) = here.promotions(), there.promotions()
    assert (told.from_version, told.to_version, told.run_id) == (None, "4", "run-a")
    assert (told.time, told.actor, told.reason) == (original.time, original.actor, original.reason)
    assert (told.status, told.origin, told.id) == ("completed", "local", "späte flüge#1")
    assert there.head("production") == told


def test_the_head_of_the_other_chain_is_in_it(here: Ledger, there: Ledger, take: Callable[..., int]) -> None:
    take()
    assert there.events()[-1]["event"] == here.events()[-1]
    assert here.events()[-1]["sha256"] in there.path.read_text()


def test_only_what_is_new_is_taken_over(here: Ledger, there: Ledger, take: Callable[..., int]) -> None:
    take()
    assert take() == 0
    promote(here, "1", "2")
    assert take() == 2
    assert [(p.from_version, p.to_version) for p in there.promotions()] == [(None, "4"), ("4", "5")]


def test_what_comes_later_of_an_event_that_is_there_finds_it(
    here: Ledger, there: Ledger, take: Callable[..., int]
) -> None:
    """A deployment is written long after its promotion."""
    take()
    there.append("note", {})
    here.append("deploy", {"intent": 1, "deployed": False, "endpoints": ["x"], "message": "died"})
    take()
    assert there.promotions()[0].deployed is False


def test_a_deployment_elsewhere_is_none_here(here: Ledger, there: Ledger, take: Callable[..., int]) -> None:
    here.append("deploy", {"intent": 1, "deployed": True, "endpoints": ["x"], "message": ""})
    take()
    assert here.promotions()[0].deployed is True
    assert there.promotions()[0].deployed is None


def test_of_an_alias_that_did_not_follow_it_is_only_told(
    here: Ledger, there: Ledger, take: Callable[..., int]
) -> None:
    promote(there, None, "9")
    promote(here, None, "2", "staging")
    take(kept={"production"})
    told = {(p.alias, p.to_version): p.status for p in there.promotions()}
    assert told["production", "4"] == "abandoned"
    assert told["staging", "5"] == "completed"
    head = there.head("production")
    assert head is not None
    assert head.to_version == "9"


def test_a_version_that_is_not_there_is_never_taken_for_another(
    here: Ledger, there: Ledger, take: Callable[..., int]
) -> None:
    take(versions={})
    assert there.promotions()[0].to_version == "local:1"


def test_a_move_that_was_found_is_told_too(here: Ledger, there: Ledger, take: Callable[..., int]) -> None:
    body = {"action": "external", "alias": "staging", "from_version": None, "to_version": "2"}
    here.append("external", {**body, "reason": "found", "actor": {"user": "unknown"}})
    take()
    head = there.head("staging")
    assert head is not None
    assert (head.action, head.to_version) == ("external", "5")


def test_it_can_be_shipped_on(here: Ledger, there: Ledger, take: Callable[..., int], tmp_path: Path) -> None:
    take()
    promote(there, "4", "6")
    third = Ledger(tmp_path / "third", "späte flüge")
    promote(third, None, "1")
    third.take_over(there.events(), origin="sandbox", versions={"4": "14", "6": "16"}, runs={"run-a": "r"})
    told = [(p.from_version, p.to_version, p.status, p.origin) for p in third.promotions()]
    assert told == [
        (None, "1", "completed", None),
        (None, "14", "completed", "local"),
        ("14", "16", "completed", "sandbox"),
    ]
    assert third.promotions()[1].run_id == "r"


@pytest.mark.parametrize("key", ["reason", "to_version", "previous"])
def test_a_changed_event_inside_is_found(there: Ledger, take: Callable[..., int], key: str) -> None:
    """Also by whoever makes the outer chain fit again."""
    take()
    lines = [json.loads(line) for line in there.path.read_text().splitlines()]
    lines[0]["event"][key] = "forged"
    rewrite(there, lines)
    with pytest.raises(CorruptStateError, match="line 1") as broken:
        there.events()
    assert broken.value.code == "ledger-broken"


def test_a_left_out_event_inside_is_found(here: Ledger, there: Ledger, take: Callable[..., int]) -> None:
    promote(here, "1", "2")
    take()
    lines = [json.loads(line) for line in there.path.read_text().splitlines()]
    rewrite(there, [lines[0], *lines[2:]])
    with pytest.raises(CorruptStateError, match=r"line 2: .* another is missing"):
        there.events()


def test_a_history_that_does_not_go_on_is_refused(
    here: Ledger, there: Ledger, take: Callable[..., int], tmp_path: Path
) -> None:
    promote(here, "1", "2")
    take()
    lines = here.path.read_bytes().splitlines(keepends=True)
    here.path.write_bytes(b"".join(lines[:2]))
    with pytest.raises(ConflictError) as diverged:
        take()
    assert diverged.value.code == "ledger-diverged"
    promote(here, "1", "3")
    with pytest.raises(ConflictError, match="not the one that was shipped before"):
        take()


def test_another_history_of_the_same_name_is_another_chain(
    here: Ledger, there: Ledger, take: Callable[..., int], tmp_path: Path
) -> None:
    """E.g. of a colleague's project on the same target."""
    take()
    other = Ledger(tmp_path / "other", "späte flüge")
    promote(other, None, "2")
    assert there.take_over(other.events(), origin="local", versions=VERSIONS, runs={}) == 2
    assert take() == 0
    assert [p.to_version for p in there.promotions()] == ["4", "5"]


def rewrite(ledger: Ledger, events: list[dict[str, Any]]) -> None:
    """Make the outer chain fit, as a forger would."""
    previous = "0" * 64
    for seq, event in enumerate(events, start=1):
        event.pop("sha256")
        event |= {"seq": seq, "previous": previous}
        previous = event["sha256"] = digest_of(event)
    ledger.path.write_text("".join(json.dumps(event, sort_keys=True) + "\n" for event in events))
