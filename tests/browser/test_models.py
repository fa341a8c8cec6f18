"""Models: promoting with the gates in sight, losing a race, undoing, rolling back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import modelyard
from modelyard.records import Promotion

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

MODEL = "late-flights"


def history(demo: Path) -> list[Promotion]:
    return modelyard.open(demo).history()


def holder(demo: Path) -> str:
    """Who is production, as the ledger says."""
    return next(move.to_version for move in history(demo) if move.alias == "production") or ""


def other(demo: Path) -> str:
    return "2" if holder(demo) == "1" else "1"


def version(lab: Any, number: str) -> Any:
    tree = lab.section("Models").get_by_role("tree", name="Models")
    return tree.get_by_role("treeitem", name=re.compile(rf"^version {number}\b"))


def told(lab: Any, number: str) -> Any:
    """A version whose details are shown."""
    item = version(lab, number)
    if item.get_attribute("aria-expanded") != "true":
        item.locator(".modelyard-Tree-row").click()
    return item


def dialog(lab: Any) -> Any:
    return lab.page.get_by_role("dialog")


def promoting(lab: Any, number: str) -> Any:
    """The dialog for a version, with both sides and the gates in it."""
    told(lab, number).get_by_role("button", name="Promote…").click()
    expect(dialog(lab).get_by_role("table", name="Gates")).to_be_visible()
    return dialog(lab)


def filled(form: Any, reason: str) -> Any:
    form.get_by_role("textbox", name=re.compile("^Reason")).fill(reason)
    form.get_by_role("textbox", name=f"Type {MODEL} to confirm").fill(MODEL)
    return form


@pytest.fixture
def strict_gates(demo: Path) -> Iterator[None]:
    """A gate that no model passes."""
    file = demo / "gates.toml"
    before = file.read_text()
    file.write_text(f'{before}\n[[gate]]\ncheck = "metric"\nmetric = "auc"\nmin = 0.999\n')
    yield
    file.write_text(before)


def test_versions_say_their_aliases_and_where_they_serve(lab: Any, demo: Path) -> None:
    item = told(lab, holder(demo))
    expect(item).to_have_accessible_name(re.compile(rf"production, serves {MODEL} 100 %"))
    expect(item).to_contain_text("Promoted by")
    item.get_by_role("button", name="Gates").click()
    gates = item.get_by_role("list", name="Gates").get_by_role("listitem")
    expect(gates.filter(has_text="signature")).to_contain_text("passed")
    lab.must_be_accessible("#modelyard-section-models")
    lab.shot("models-light", lab.panel)


def test_a_promotion_shows_both_sides_moves_once_and_is_undone(lab: Any, demo: Path) -> None:
    before, candidate, lines = holder(demo), other(demo), len(history(demo))
    form = promoting(lab, candidate)
    expect(form).to_contain_text(f"{MODEL} production: {before} → {candidate}")
    sides = form.get_by_role("table", name="Side by side")
    expect(sides.get_by_role("columnheader", name=f"Champion: version {before}")).to_be_visible()
    expect(sides.get_by_role("row", name=re.compile("metric auc"))).to_contain_text("≠")
    expect(sides.get_by_role("rowheader", name="Drifted columns")).to_be_visible()
    expect(form.get_by_role("textbox", name=re.compile("^Reason"))).to_be_focused()
    lab.must_be_accessible(".jp-Dialog")
    lab.shot("promote-light")

    filled(form, "has seen a summer").get_by_role("button", name="Promote", exact=True).dblclick()
    expect(dialog(lab)).to_have_count(0, timeout=60_000)
    moved = f"{MODEL} version {candidate} is production now: ledger entry {history(demo)[0].id}."
    expect(lab.page.get_by_role("alert").filter(has_text=moved)).to_be_visible()
    lab.page.get_by_role("button", name="Undo…").first.click()  # at once: it is offered for a while only
    assert len(history(demo)) == lines + 1
    assert (holder(demo), history(demo)[0].reason) == (candidate, "has seen a summer")
    # Behind the dialog, where roles are not seen.
    behind = f"[role='treeitem'][aria-label^='version {candidate},'][aria-label*='production']"
    expect(lab.panel.locator(behind)).to_have_count(1)

    undo = dialog(lab)
    expect(undo).to_contain_text(f"version {candidate} → version {before}")
    reason = undo.get_by_role("textbox", name=re.compile("^Reason"))
    expect(reason).to_have_value(f"Undo of {history(demo)[0].id}")
    undo.get_by_role("button", name="Roll back").click()
    expect(dialog(lab)).to_have_count(0, timeout=60_000)
    assert (holder(demo), history(demo)[0].action) == (before, "rollback")
    assert len(history(demo)) == lines + 2
    # The button Undo is gone by then.
    expect(lab.section("Models").locator(":focus")).to_have_count(1)


def test_a_promotion_goes_through_by_keys_alone(lab: Any, demo: Path) -> None:
    candidate = other(demo)
    expect(version(lab, candidate)).to_be_visible()
    keys = lab.page.keyboard
    lab.section("Models").get_by_role("treeitem", name=MODEL).first.focus()
    keys.press("ArrowDown")
    while version(lab, candidate).evaluate("item => item !== document.activeElement"):
        keys.press("ArrowDown")
    keys.press("Enter")
    promote = version(lab, candidate).get_by_role("button", name="Promote…")
    expect(promote).to_be_visible()
    while promote.evaluate("button => button !== document.activeElement"):
        keys.press("Tab")
    keys.press("Enter")
    form = dialog(lab)
    expect(form.get_by_role("textbox", name=f"Type {MODEL} to confirm")).to_be_visible()
    expect(form.get_by_role("textbox", name=re.compile("^Reason"))).to_be_focused()
    keys.type("by keys alone")
    keys.press("Tab")
    keys.type(MODEL)
    keys.press("Enter")
    expect(dialog(lab)).to_have_count(0, timeout=60_000)
    assert (holder(demo), history(demo)[0].reason) == (candidate, "by keys alone")
    expect(promote).to_be_focused()


def test_who_is_slower_sees_who_was_faster_and_keeps_the_reason(lab: Any, demo: Path) -> None:
    yard = modelyard.open(demo)
    before, candidate = holder(demo), other(demo)
    lab.refuses("409", f"models/{MODEL}/promote")
    form = filled(promoting(lab, candidate), "mine is better")
    faster = yard.models.register(MODEL, run=yard.models.get(f"{MODEL}/{candidate}").run_id)
    yard.promote(faster, to="production", reason="mine is even better")
    form.get_by_role("button", name="Promote", exact=True).click()
    race = form.get_by_role("alert").filter(has_text="Somebody was faster")
    expect(race).to_contain_text("mine is even better")
    expect(form).to_contain_text(f"{MODEL} production: {faster.version} → {candidate}")
    expect(form.get_by_role("textbox", name=re.compile("^Reason"))).to_have_value("mine is better")
    expect(form.get_by_role("table", name="Gates")).to_be_visible()
    assert holder(demo) == faster.version
    lab.must_be_accessible(".jp-Dialog")
    lab.shot("promote-race-light")

    form.get_by_role("button", name="Promote", exact=True).click()
    expect(dialog(lab)).to_have_count(0, timeout=60_000)
    assert [(move.from_version, move.to_version) for move in history(demo)[:2]] == [
        (faster.version, candidate),
        (before, faster.version),
    ]
    assert history(demo)[0].reason == "mine is better"


def test_what_is_missing_is_said_under_its_field(lab: Any, demo: Path) -> None:
    lines = len(history(demo))
    form = promoting(lab, other(demo))
    form.get_by_role("button", name="Promote", exact=True).click()
    reason = form.get_by_role("textbox", name=re.compile("^Reason"))
    expect(reason).to_have_accessible_description("Say why: the ledger keeps the reason.")
    expect(reason).to_be_focused()
    expect(form).to_contain_text(f"Type {MODEL} to confirm.")
    lab.must_be_accessible(".jp-Dialog")
    lab.page.keyboard.press("Escape")
    expect(dialog(lab)).to_have_count(0)
    assert len(history(demo)) == lines


def test_a_gate_that_refuses_is_seen_before_anything_moves(lab: Any, demo: Path, strict_gates: None) -> None:
    lines = len(history(demo))
    form = promoting(lab, other(demo))
    refused = form.get_by_role("row", name=re.compile("metric auc failed"))
    expect(refused).to_contain_text("is below 0.999")
    filled(form, "please").get_by_role("button", name="Promote", exact=True).click()
    expect(form).to_contain_text("The gates refuse: metric.")
    lab.must_be_accessible(".jp-Dialog")
    lab.page.keyboard.press("Escape")
    assert len(history(demo)) == lines


def test_another_alias_has_no_name_to_type(lab: Any, demo: Path) -> None:
    form = promoting(lab, other(demo))
    form.get_by_role("combobox", name="Alias").fill("staging")
    expect(form.get_by_role("textbox", name=f"Type {MODEL} to confirm")).to_have_count(0)
    expect(form).to_contain_text(re.compile(rf"{MODEL} staging: (nobody|\d+) "))
    form.get_by_role("textbox", name=re.compile("^Reason")).fill("try it")
    form.get_by_role("button", name="Promote", exact=True).click()
    expect(dialog(lab)).to_have_count(0, timeout=60_000)
    assert (history(demo)[0].alias, history(demo)[0].reason) == ("staging", "try it")


def test_a_roll_back_shows_the_last_good_versions(lab: Any, demo: Path) -> None:
    yard = modelyard.open(demo)
    current = yard.registry.alias(MODEL, "production") or ""
    back = yard.rolls_back_to(MODEL)
    told(lab, current).get_by_role("button", name="Roll back…").click()
    form = dialog(lab)
    good = form.get_by_role("table", name="Last good versions")
    expect(good.get_by_role("columnheader", name="Time in service")).to_be_visible()
    expect(good.get_by_role("row").nth(1)).to_contain_text("in service now")
    lab.must_be_accessible(".jp-Dialog")
    lab.shot("rollback-light")
    form.get_by_role("textbox", name=re.compile("^Reason")).fill("the tower says so")
    form.get_by_role("button", name="Roll back").click()
    if back is None:
        expect(form).to_contain_text("nothing to go back to")
        lab.page.keyboard.press("Escape")
        return
    expect(dialog(lab)).to_have_count(0, timeout=60_000)
    assert (history(demo)[0].to_version, history(demo)[0].reason) == (back, "the tower says so")


def test_a_version_is_told_whole_in_a_tab_that_comes_back(lab: Any, demo: Path) -> None:
    told(lab, "1").get_by_role("button", name="Details").click()
    tab = lab.page.locator(".modelyard-Tab")
    expect(tab.get_by_role("heading", name=f"{MODEL} version 1")).to_be_visible()
    lineage = tab.get_by_role("list", name="Lineage")
    expect(lineage).to_contain_text("winter")
    expect(tab.get_by_role("region", name="Ledger")).to_contain_text("better than a coin")
    expect(tab).to_contain_text("mlflow.pyfunc.load_model")
    lab.must_be_accessible(".modelyard-Tab")
    lab.shot("model-light")
    lab.kept("model")
    lab.open(reset=False)
    expect(tab.get_by_role("heading", name=f"{MODEL} version 1")).to_be_visible()


def test_the_palette_asks_for_what_is_missing(lab: Any) -> None:
    expect(version(lab, "1")).to_be_visible()
    # Not awaited: the command ends with its dialog.
    lab.page.evaluate("() => void window.jupyterapp.commands.execute('modelyard:promote')")
    choice = lab.page.locator(".jp-Dialog")
    expect(choice).to_contain_text("Version")
    choice.get_by_role("combobox").select_option(f"{MODEL}/1")
    choice.get_by_role("button", name="Ok").click()
    expect(dialog(lab)).to_contain_text(f"Promote {MODEL} version 1")
    lab.page.keyboard.press("Escape")


def test_the_dark_theme_is_as_readable(lab: Any, demo: Path) -> None:
    told(lab, other(demo))
    lab.dark()
    lab.must_be_accessible("#modelyard-section-models")
    promoting(lab, other(demo))
    lab.must_be_accessible(".jp-Dialog")
    lab.shot("promote-dark")
    lab.page.keyboard.press("Escape")
