"""The ledger: a chain that shows every tampering, and half lines that never happened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.errors import CorruptStateError
from modelyard.ledger import Ledger, ledgers

INTENT = {
    "action": "promote",
    "alias": "production",
    "from_version": None,
    "to_version": "1",
    "reason": "first",
    "actor": {"user": "ada"},
}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path, "späte flüge/v2")
    intent = ledger.append("intent", INTENT)
    ledger.append("outcome", {"intent": intent["seq"], "status": "completed"})
    ledger.append("deploy", {"intent": intent["seq"], "deployed": True})
    return ledger


def test_events_fold_into_promotions(ledger: Ledger) -> None:
    (promotion,) = ledger.promotions()
    assert (promotion.id, promotion.status, promotion.deployed) == (
        "späte flüge/v2#1",
        "completed",
        True,
    )
    assert ledger.head("production") == promotion
    assert ledger.head("staging") is None


def test_any_name_is_a_file_and_comes_back(ledger: Ledger, tmp_path: Path) -> None:
    assert [found.model for found in ledgers(tmp_path)] == ["späte flüge/v2"]
    assert ledger.path.parent == tmp_path


def test_an_intent_alone_is_pending(ledger: Ledger) -> None:
    ledger.append("intent", {**INTENT, "from_version": "1", "to_version": "2"})
    assert [p.to_version for p in ledger.pending()] == ["2"]


def test_half_a_line_never_happened(ledger: Ledger) -> None:
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + b'{"kind": "outc')
    assert len(ledger.events()) == 3
    ledger.append("outcome", {"intent": 1, "status": "completed"})
    assert len(ledger.events()) == 4


def test_a_changed_reason_is_found(ledger: Ledger) -> None:
    ledger.path.write_text(ledger.path.read_text().replace("first", "second"))
    with pytest.raises(CorruptStateError) as caught:
        ledger.events()
    assert caught.value.code == "ledger-broken"
    assert "line 1: it was changed after it was written" in caught.value.message


def test_a_removed_line_is_found(ledger: Ledger) -> None:
    lines = ledger.path.read_text().splitlines(keepends=True)
    ledger.path.write_text(lines[0] + lines[2])
    with pytest.raises(CorruptStateError, match="line 2: a line before it was changed, removed or moved"):
        ledger.events()


def test_nothing_is_appended_to_a_broken_chain(ledger: Ledger) -> None:
    ledger.path.write_text(ledger.path.read_text().replace("first", "second"))
    before = ledger.path.read_bytes()
    with pytest.raises(CorruptStateError):
        ledger.append("intent", INTENT)
    assert ledger.path.read_bytes() == before


@settings(max_examples=60, deadline=None)
@given(place=st.integers(min_value=0), byte=st.integers(min_value=0, max_value=255))
def test_every_changed_byte_is_found(tmp_path_factory: pytest.TempPathFactory, place: int, byte: int) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("ledger"), "m")
    for number in range(3):
        ledger.append("intent", {**INTENT, "to_version": str(number)})
    content = bytearray(ledger.path.read_bytes())
    meant = [json.loads(line) for line in content.splitlines()]
    place %= len(content) - 1  # the last newline alone may go: the last line then never happened
    content[place] = byte
    ledger.path.write_bytes(bytes(content))
    try:
        events = ledger.events()
    except CorruptStateError:
        return
    assert events == meant  # white space between tokens means nothing
