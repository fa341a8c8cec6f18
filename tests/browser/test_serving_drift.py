"""Serving, Drift and Data: who answers, what left its reference, and where the data stand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import modelyard
from modelyard.records import Endpoint

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

NAME = "late-flights"


def card(lab: Any, section: str, name: str) -> Any:
    return lab.section(section).get_by_role("listitem", name=name, exact=True)


def tab(lab: Any) -> Any:
    return lab.page.locator(".modelyard-Tab:visible")


@pytest.fixture
def split(demo: Path) -> Iterator[Endpoint]:
    """The endpoint with a fifth of its traffic on version 2."""
    yard = modelyard.open(demo)
    if yard.registry.alias(NAME, "production") != "1":
        yard.promote(f"{NAME}/1", to="production", reason="before the canary")
    yield yard.endpoints.apply(demo / "late-flights-canary.yaml")
    yard.endpoints.apply(demo / "late-flights.yaml")


def test_an_endpoint_says_whether_it_answers_and_who(lab: Any) -> None:
    endpoint = card(lab, "Serving", NAME)
    expect(endpoint).to_contain_text("ready")
    expect(endpoint).to_contain_text(re.compile(r"version \d gets 100 %"))
    expect(endpoint.get_by_role("spinbutton")).to_have_value("100")  # there is a revision before
    lab.must_be_accessible("#modelyard-section-serving")
    lab.shot("serving-light", lab.panel)


def test_a_request_is_tried_and_says_who_answered(lab: Any) -> None:
    card(lab, "Serving", NAME).get_by_role("button", name="Try a request").click()
    editor = tab(lab).get_by_role("textbox", name="Rows as JSON")
    expect(editor).to_be_focused()
    example = json.loads(editor.input_value())
    assert len(example) == 1
    editor.fill("[{")
    tab(lab).get_by_role("button", name="Send").click()
    expect(editor).to_have_accessible_description(re.compile("^This is no JSON: "))
    lab.must_be_accessible(".modelyard-Tab")
    tab(lab).get_by_role("button", name="Back to the example").click()
    tab(lab).get_by_role("button", name="Send").click()
    answer = tab(lab).locator(".modelyard-Answered")
    expect(answer).to_contain_text(re.compile(rf"{NAME} version \d"))
    expect(answer).to_contain_text(re.compile(r"[\d.]+ ms"))
    expect(answer).to_contain_text(f"{NAME}-")
    expect(tab(lab).get_by_role("region", name="Ledger")).to_be_visible()
    conditions = tab(lab).get_by_role("table", name="Conditions")
    expect(conditions.get_by_role("row", name=re.compile("^Ready"))).to_contain_text("True")
    events = tab(lab).get_by_role("table", name="Events")
    expect(events.get_by_role("row", name=re.compile("RevisionReady")).first).to_contain_text("is ready")
    lab.run("modelyard:refresh")
    speed = re.compile(r"95 % within [\d.]+ ms, 0 % errors of \d+")
    expect(card(lab, "Serving", NAME)).to_contain_text(speed)
    lab.must_be_accessible(".modelyard-Tab")
    lab.shot("endpoint-light")


def test_a_request_that_the_model_refuses_is_said_below_the_editor(lab: Any) -> None:
    lab.refuses("4..", f"endpoints/{NAME}/try")
    lab.run("modelyard:open-endpoint", {"endpoint": NAME})
    tab(lab).get_by_role("textbox", name="Rows as JSON").fill('[{"nonsense": 1}]')
    tab(lab).get_by_role("button", name="Send").click()
    expect(tab(lab).locator(".modelyard-Try").get_by_role("alert")).to_be_visible()


def test_the_canary_gets_another_share(lab: Any, split: Endpoint, demo: Path) -> None:
    endpoint = card(lab, "Serving", NAME)
    share = endpoint.get_by_role("spinbutton", name=re.compile("^Canary: version 2"))
    expect(share).to_have_value("20")
    expect(endpoint).to_contain_text("version 1 gets 80 %, version 2 gets 20 %")
    lab.must_be_accessible("#modelyard-section-serving")
    lab.shot("canary-light", lab.panel)
    share.fill("140")
    endpoint.get_by_role("button", name=re.compile("^Apply")).click()
    expect(share).to_have_accessible_description("A whole number from 0 to 100.")
    share.fill("40")
    share.press("Enter")
    expect(endpoint).to_contain_text("version 1 gets 60 %, version 2 gets 40 %", timeout=60_000)
    revisions = modelyard.open(demo).endpoints.get(NAME).revisions
    assert sorted(one.traffic for one in revisions if one.traffic) == [40, 60]


def test_drift_is_a_table_of_columns_and_windows(lab: Any) -> None:
    watched = card(lab, "Drift", f"{NAME} version 1")
    expect(watched).to_contain_text(re.compile(r"\d+ of \d+ columns drifted in the last window"))
    table = watched.get_by_role("table", name=re.compile("by column and window"))
    assert table.get_by_role("columnheader").count() <= 13
    expect(table.get_by_role("cell", name=re.compile("drifted, above the limit")).first).to_contain_text("▲")
    expect(watched.get_by_role("img", name=re.compile("Drifted columns, window by window"))).to_be_visible()
    quality = watched.get_by_role("table", name=re.compile("^Quality"))
    expect(quality.get_by_role("row", name=re.compile("^auc"))).to_be_visible()
    expect(watched).to_contain_text(re.compile("Labels are missing|have their labels"))
    lab.must_be_accessible("#modelyard-section-drift")
    lab.shot("drift-light", lab.panel)


def test_many_windows_are_shown_a_dozen_at_a_time(lab: Any) -> None:
    lab.page.route("**/drift", many_windows)
    lab.run("modelyard:refresh")
    watched = card(lab, "Drift", f"{NAME} version 1")
    expect(watched.get_by_role("columnheader")).to_have_count(13 + 3)  # and the three of the quality
    expect(watched).to_contain_text("windows 19 to 30 of 30")
    watched.get_by_role("button", name=re.compile("^Older")).click()
    expect(watched).to_contain_text("windows 7 to 18 of 30")
    watched.get_by_role("button", name=re.compile("^Older")).click()
    expect(watched).to_contain_text("windows 1 to 12 of 30")
    older = watched.get_by_role("button", name=re.compile("^Older"))
    expect(older).to_have_attribute("aria-disabled", "true")
    expect(older).to_be_focused()
    lab.must_be_accessible("#modelyard-section-drift")


def many_windows(route: Any) -> None:
    """The answer with one of its windows thirty times over."""
    said = route.fetch(timeout=60_000).json()
    row = next(row for row in said["rows"] if row["version"] == "1")
    window = next(window for window in reversed(row["windows"]) if window["quality"])
    days = [{**window, "start": f"2026-01-{day:02}T00:00:00Z"} for day in range(1, 31)]
    route.fulfill(status=200, json={"rows": [{**row, "windows": days}]})


def test_the_report_is_shut_into_a_frame(lab: Any) -> None:
    watched = card(lab, "Drift", f"{NAME} version 1")
    making = lab.page.get_by_role("status").filter(has_text="can take a minute")
    said: list[bool] = []

    def once_said(route: Any) -> None:  # or a report that is made quickly takes the sentence away unseen
        expect(making).to_be_visible()
        said.append(True)
        route.continue_()

    lab.page.route("**/reports/*", once_said)
    watched.get_by_role("button", name="Open the report").click()
    frame = lab.page.locator("iframe[title^='Drift report']")
    expect(frame).to_be_visible(timeout=120_000)
    assert said
    expect(making).to_have_count(0)
    assert frame.get_attribute("sandbox") == "allow-scripts"
    inside = lab.page.frame_locator("iframe[title^='Drift report']")
    expect(inside.locator("body")).to_contain_text(re.compile("drift", re.IGNORECASE), timeout=60_000)
    expect(lab.page.get_by_role("link", name=re.compile("report of"))).to_have_attribute(
        "rel", "noopener noreferrer"
    )
    lab.shot("report-light")
    lab.page.close()
    lab.errors.clear()  # what the page inside says is its own


def test_a_report_that_fails_says_why(lab: Any) -> None:
    problem = {
        "code": "x",
        "message": "there is no window yet",
        "hint": "",
        "plugin": "evidently",
        "details": {},
    }
    lab.refuses("404", f"reports/{NAME}")
    lab.page.route("**/reports/*", lambda route: route.fulfill(status=404, body=json.dumps(problem)))
    lab.run("modelyard:open-report", {"endpoint": NAME})
    expect(tab(lab).get_by_role("alert")).to_contain_text("evidently: there is no window yet")
    expect(tab(lab).locator("iframe")).to_have_count(0)
    lab.must_be_accessible(".modelyard-Tab")


def test_data_that_are_ahead_are_pushed(lab: Any, demo: Path) -> None:
    extra = demo / "data" / "extra.csv"
    extra.write_text("a,b\n1,2\n")
    modelyard.open(demo).data.add(extra)
    lab.run("modelyard:refresh")
    row = card(lab, "Data", "extra")
    expect(row).to_contain_text("unchanged")
    expect(row).to_contain_text("ahead of the remote")
    winter = card(lab, "Data", "winter")
    expect(winter.get_by_role("button", name=re.compile("^Open run")).first).to_be_visible()
    lab.must_be_accessible("#modelyard-section-data")
    lab.shot("data-light", lab.panel)
    row.get_by_role("button", name="Push extra").click()
    expect(lab.section("Data").get_by_role("status")).to_contain_text("Push: done", timeout=60_000)
    expect(row).to_contain_text("published")
    assert next(ref for ref in modelyard.open(demo).data.list() if ref.name == "extra").published


def test_data_that_are_missing_are_pulled(lab: Any, demo: Path) -> None:
    (demo / "data" / "extra.csv").unlink()
    lab.run("modelyard:refresh")
    row = card(lab, "Data", "extra")
    expect(row).to_contain_text("missing here")
    row.get_by_role("button", name="Pull extra").click()
    expect(row).to_contain_text("unchanged", timeout=60_000)
    assert (demo / "data" / "extra.csv").read_text() == "a,b\n1,2\n"


def test_a_push_that_fails_says_why(lab: Any) -> None:
    problem: dict[str, Any] = {
        "code": "x",
        "message": "the remote is full",
        "hint": "make room",
        "plugin": None,
        "details": {},
    }
    job = {"id": "j1", "what": "push", "doing": "winter", "done": 1, "total": 3}
    running = {**job, "state": "running", "problem": None}
    failed = {**job, "state": "failed", "problem": problem}
    lab.page.route("**/data/push", lambda route: route.fulfill(status=200, json=running))
    section = lab.section("Data")
    now = [running]  # until it was seen
    lab.page.route("**/jobs/j1", lambda route: route.fulfill(status=200, json=now[-1]))
    section.get_by_role("button", name="Push all").click()
    expect(section.get_by_role("progressbar", name="Push: winter, 1 of 3")).to_be_visible()
    now.append(failed)
    expect(section.get_by_role("alert")).to_contain_text("the remote is full")
    lab.must_be_accessible("#modelyard-section-data")


def test_a_section_that_fails_keeps_what_it_knew(lab: Any) -> None:
    expect(card(lab, "Serving", NAME)).to_be_visible()
    problem = {"code": "x", "message": "the cluster is gone", "hint": "modelyard up", "plugin": "kserve"}
    body = json.dumps({**problem, "details": {}})
    lab.refuses("502", "endpoints$")
    lab.page.route("**/endpoints", lambda route: route.fulfill(status=502, body=body))
    lab.run("modelyard:refresh")
    section = lab.section("Serving")
    expect(section.get_by_role("alert")).to_contain_text("kserve: the cluster is gone")
    expect(section).to_contain_text("Old data, updated")
    expect(card(lab, "Serving", NAME)).to_be_visible()
    expect(card(lab, "Data", "winter")).to_be_visible()
    lab.must_be_accessible("#modelyard-section-serving")


def test_the_dark_theme_is_as_readable(lab: Any) -> None:
    expect(card(lab, "Drift", f"{NAME} version 1")).to_be_visible()
    expect(card(lab, "Serving", NAME)).to_be_visible()
    lab.dark()
    for name in ("serving", "drift", "data"):
        lab.must_be_accessible(f"#modelyard-section-{name}")
    lab.shot("drift-dark", lab.panel)
    lab.run("modelyard:open-endpoint", {"endpoint": NAME})
    expect(tab(lab).get_by_role("heading", name="Revisions")).to_be_visible()
    lab.must_be_accessible(".modelyard-Tab")
    lab.shot("endpoint-dark")


@pytest.fixture
def bare_server(tmp_path: Path, browser_kit: Any) -> Iterator[Any]:
    """A server on a project in which nothing has happened."""
    folder = tmp_path / "work" / "bare"
    folder.mkdir(parents=True)
    browser_kit.modelyard("init", str(folder))
    home = tmp_path / "home"
    home.mkdir()
    yield from browser_kit.start_server(folder.parent, home)


def test_empty_sections_say_what_to_do_next(bare_server: Any, open_lab: Callable[..., Any]) -> None:
    lab = open_lab(bare_server)
    sentences = {
        "Data": "No data set has a version yet.",
        "Models": "No model is registered yet",
        "Serving": "No endpoint serves a model yet.",
        "Drift": "Nothing is watched yet",
    }
    for name, sentence in sentences.items():
        section = lab.section(name)
        expect(section).to_contain_text(sentence)
        expect(section.get_by_role("button", name="Copy the code")).to_be_visible()
        lab.must_be_accessible(f"#modelyard-section-{name.lower()}")
    lab.shot("empty-light", lab.panel)
