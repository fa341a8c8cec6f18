"""Overview and Runs: what a data scientist sees and does beside the notebook."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

RUNS = 12
MAKE_RUNS = f"""
import math, modelyard
yard = modelyard.open()
for number in range({RUNS}):
    with yard.run(f"trial-{{number:02}}", params={{"depth": number % 4, "lr": 0.1 / (number + 1)}}) as run:
        for step in range(20):
            auc = 0.5 + number / 50 + step / 100
            run.log({{"loss": math.exp(-step / (number + 2)), "auc": auc}}, step=step)
"""
LIVE = """
import sys, time, modelyard
yard = modelyard.open()
with yard.run("live-run") as run:
    for step in range(600):
        run.log({"auc": step / 600, "loss": 1.0}, step=step)
        if step == 0:
            print("running", flush=True)
        if sys.stdin.readline().strip() == "end":
            break
"""
#: The page takes note of when it hears of a letter; and how often so late that the search was asked before.
HEARS = """() => {
    window.letters = [];
    document.addEventListener('input', () => window.letters.push(performance.now()), true);
}"""
RESTS = "() => window.letters.filter((at, place, all) => place > 0 && at - all[place - 1] >= 250).length"
NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "id": "first",
            "metadata": {},
            "source": "",
            "outputs": [],
            "execution_count": None,
        },
        {
            "cell_type": "code",
            "id": "trains",
            "metadata": {},
            "source": "learn()\nlog('auc')",
            "outputs": [],
            "execution_count": None,
        },
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory, browser_kit: Any) -> Path:
    """A project with a dozen runs and a notebook."""
    folder = tmp_path_factory.mktemp("runs") / "work" / "trials"
    folder.mkdir(parents=True)
    browser_kit.modelyard("init", str(folder))
    browser_kit.python(MAKE_RUNS, folder)
    (folder / "train.ipynb").write_text(json.dumps(NOTEBOOK))
    return folder


@pytest.fixture(scope="module")
def server(yard: Path, tmp_path_factory: pytest.TempPathFactory, browser_kit: Any) -> Iterator[Any]:
    yield from browser_kit.start_server(yard.parent, tmp_path_factory.mktemp("home"))


@pytest.fixture
def lab(open_lab: Callable[..., Any], server: Any) -> Any:
    return open_lab(server, "trials/train.ipynb")


def grid(lab: Any) -> Any:
    return lab.section("Runs").get_by_role("grid", name="Runs")


def rows(lab: Any) -> Any:
    return grid(lab).locator("[data-run]")


def test_the_overview_says_how_the_project_is(lab: Any) -> None:
    overview = lab.section("Overview")
    expect(overview).to_contain_text("trials")
    expect(overview).to_contain_text("no run is running")
    expect(overview.get_by_role("row", name=re.compile("track mlflow"))).to_be_visible()
    lab.must_be_accessible("#modelyard-section-overview")


def test_the_list_shows_the_newest_runs_first(lab: Any) -> None:
    expect(rows(lab)).to_have_count(RUNS)
    expect(rows(lab).first).to_contain_text("trial-11")
    expect(rows(lab).first.get_by_role("img", name=re.compile("over its steps"))).to_be_visible()
    lab.shot("runs-light")
    lab.must_be_accessible("#modelyard-section-runs")


def test_a_search_waits_for_the_last_key_and_finds(lab: Any) -> None:
    expect(rows(lab)).to_have_count(RUNS)
    asked: list[str] = []
    lab.page.on("request", lambda request: "/runs?" in request.url and asked.append(request.url))
    lab.page.evaluate(HEARS)
    lab.page.get_by_role("searchbox", name="Search runs").press_sequentially("depth=3", delay=30)
    expect(rows(lab)).to_have_count(3)
    rests = lab.page.evaluate(RESTS)  # a busy machine may hand the letters over with pauses
    assert len(asked) <= 2 + rests, asked
    lab.page.get_by_role("searchbox", name="Search runs").fill("nothing like it")
    expect(lab.section("Runs")).to_contain_text("No run fits.")
    lab.page.get_by_role("button", name="Show all runs").click()
    expect(rows(lab)).to_have_count(RUNS)


def test_a_column_sorts_and_columns_are_chosen(lab: Any) -> None:
    lab.page.get_by_role("button", name="Columns").click()
    lab.page.get_by_role("checkbox", name=re.compile("^loss")).check()
    lab.page.keyboard.press("Escape")
    expect(lab.page.get_by_role("button", name="Columns")).to_be_focused()
    lab.page.get_by_role("button", name="loss", exact=True).click()
    header = grid(lab).get_by_role("columnheader", name="loss")
    expect(header).to_have_attribute("aria-sort", "descending")
    expect(rows(lab).first).to_contain_text("trial-11")
    lab.page.get_by_role("button", name=re.compile("^loss")).click()
    expect(rows(lab).first).to_contain_text("trial-00")


def test_a_star_stays_after_a_reload(lab: Any) -> None:
    grid(lab).get_by_role("button", name="Star trial-07").click()
    lab.open("trials/train.ipynb")
    expect(grid(lab).get_by_role("button", name="Star trial-07")).to_have_attribute("aria-pressed", "true")
    lab.page.get_by_role("combobox", name="Which runs").select_option("starred")
    expect(rows(lab)).to_have_count(1)


def test_a_running_run_appears_and_lives(lab: Any, yard: Path) -> None:
    expect(rows(lab)).to_have_count(RUNS)
    command = [sys.executable, "-c", LIVE]
    process = subprocess.Popen(command, cwd=yard, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        row = rows(lab).filter(has_text="live-run")
        expect(row).to_be_visible()
        expect(row).to_contain_text("running")
        expect(lab.section("Overview")).to_contain_text("1 run is running")
        expect(lab.page.get_by_role("button", name=re.compile("live-run")).last).to_be_visible()
        for _ in range(60):
            process.stdin.write("on\n")
        process.stdin.flush()
        expect(row).to_contain_text("0.1")
        process.stdin.write("end\n")
        process.stdin.flush()
        expect(row).to_contain_text("finished")
    finally:
        process.kill()
        process.wait(20)


def test_selected_runs_are_compared_and_the_tab_comes_back(lab: Any) -> None:
    lab.page.get_by_role("searchbox", name="Search runs").fill("trial")
    expect(rows(lab)).to_have_count(RUNS)
    rows(lab).nth(0).get_by_role("checkbox").check()
    rows(lab).nth(2).get_by_role("checkbox").click(modifiers=["Shift"])
    expect(lab.section("Runs")).to_contain_text("3 selected")
    lab.page.get_by_role("button", name="Compare").click()
    tab = lab.page.locator(".modelyard-Tab")
    expect(tab.get_by_role("heading", name="Compare 3 runs")).to_be_visible()
    expect(tab.get_by_role("rowheader", name=re.compile("^lr"))).to_be_visible()
    expect(tab.get_by_role("rowheader", name=re.compile("^code"))).to_have_count(0)
    tab.get_by_role("checkbox", name="Only differences").uncheck()
    expect(tab.get_by_role("rowheader", name=re.compile("^code"))).to_be_visible()
    expect(tab.get_by_role("img", name=re.compile("auc over its steps"))).to_be_visible()
    lab.must_be_accessible(".modelyard-Tab")
    lab.shot("compare-light")
    lab.kept("compare")
    lab.open(reset=False)
    expect(lab.page.locator(".modelyard-Tab").get_by_role("heading", name="Compare 3 runs")).to_be_visible()


def test_a_run_is_inserted_by_key_and_by_drag(lab: Any) -> None:
    cell = lab.page.locator(".jp-Notebook .jp-Cell").first
    cell.locator(".cm-content").click()
    rows(lab).filter(has_text="trial-05").click()
    lab.page.keyboard.press("i")
    expect(cell).to_contain_text("yard.runs.get(")
    other = lab.page.locator(".jp-Notebook .jp-Cell").nth(1)
    rows(lab).filter(has_text="trial-06").drag_to(other.locator(".cm-content"))
    expect(other).to_contain_text("yard.runs.get(")


def test_everything_is_reached_by_keys(lab: Any) -> None:
    lab.page.get_by_role("searchbox", name="Search runs").fill("trial")
    expect(rows(lab)).to_have_count(RUNS)
    rows(lab).first.focus()
    lab.page.keyboard.press("ArrowDown")
    expect(rows(lab).nth(1)).to_be_focused()
    lab.page.keyboard.press("Space")
    lab.page.keyboard.press("Shift+ArrowDown")
    expect(lab.section("Runs")).to_contain_text("2 selected")
    lab.page.keyboard.press("End")
    expect(rows(lab).filter(has_text="trial-00")).to_be_focused()
    lab.page.keyboard.press("Shift+F10")
    expect(lab.page.get_by_role("menu").get_by_role("menuitem", name="Open Run")).to_be_visible()
    lab.page.keyboard.press("Escape")
    expect(rows(lab).filter(has_text="trial-00")).to_be_focused()
    lab.page.keyboard.press("Enter")
    tab = lab.page.locator(".modelyard-Tab")
    expect(tab.get_by_role("heading", name="trial-00")).to_be_visible()
    expect(tab.get_by_role("img", name=re.compile("loss over its steps"))).to_be_visible()
    lab.must_be_accessible(".modelyard-Tab")
    lab.shot("run-light")


def test_the_dark_theme_is_as_readable(lab: Any) -> None:
    expect(rows(lab).first).to_be_visible()
    lab.dark()
    rows(lab).first.get_by_role("checkbox").check()
    lab.shot("runs-dark")
    lab.must_be_accessible("#modelyard-panel")
    rows(lab).nth(1).get_by_role("checkbox").check()
    lab.run("modelyard:compare-runs")
    expect(lab.page.locator(".modelyard-Tab").get_by_role("heading", name="Compare 2 runs")).to_be_visible()
    expect(lab.page.locator(".modelyard-Tab").get_by_role("img", name=re.compile("steps"))).to_be_visible()
    lab.must_be_accessible(".modelyard-Tab")
    lab.shot("compare-dark")


def test_a_server_that_fails_is_said_and_the_old_list_stays(lab: Any) -> None:
    expect(rows(lab).first).to_be_visible()
    problem = {
        "code": "tracker-down",
        "message": "the tracker is down",
        "hint": "modelyard up",
        "plugin": "mlflow",
    }
    body = json.dumps({**problem, "details": {}})
    lab.refuses("502", r"runs\?")

    def until_tried(route: Any) -> None:  # or the list might ask by itself first, and take the button away
        if lab.page.evaluate("() => window.tried === true"):
            route.continue_()
        else:
            route.fulfill(status=502, body=body)

    lab.page.route("**/runs?*", until_tried)
    lab.run("modelyard:refresh")
    section = lab.section("Runs")
    expect(section.get_by_role("alert")).to_contain_text("mlflow: the tracker is down")
    expect(section).to_contain_text("Old data, updated")
    expect(rows(lab).first).to_be_visible()
    lab.must_be_accessible("#modelyard-section-runs")
    lab.page.evaluate("() => document.addEventListener('click', () => { window.tried = true; }, true)")
    section.get_by_role("button", name="Try again").click()
    expect(section.get_by_role("alert")).to_have_count(0)


def test_an_old_server_is_noticed(lab: Any) -> None:
    def older(route: Any) -> None:
        headers = {name: value for name, value in route.request.headers.items() if name != "if-none-match"}
        answer = route.fetch(headers=headers, timeout=60_000)
        route.fulfill(status=200, json={**answer.json(), "version": "0.0.9"})

    lab.page.route("**/api/v1/summary*", older)
    lab.run("modelyard:refresh")
    expect(lab.panel.get_by_role("alert")).to_contain_text("Restart the Jupyter server")


def test_the_doctor_is_one_click_away(lab: Any) -> None:
    lab.section("Overview").get_by_role("button", name="Open doctor").click()
    tab = lab.page.locator(".modelyard-Tab")
    expect(tab.get_by_role("heading", name="Doctor")).to_be_visible()
    expect(tab.get_by_role("row").nth(1)).to_contain_text("ok")
    lab.must_be_accessible(".modelyard-Tab")


def test_a_section_is_hidden_by_a_setting(lab: Any) -> None:
    expect(lab.section("Models")).to_be_visible()
    lab.page.evaluate(
        "() => window.jupyterapp.serviceManager.settings.save("
        "'@modelyard/jupyterlab:panel', JSON.stringify({hidden: ['models']}))"
    )
    try:
        lab.open("trials/train.ipynb")
        expect(rows(lab).first).to_be_visible()
        expect(lab.panel.locator("[data-section='models']")).to_have_count(0)
        expect(lab.panel.locator("[data-section='drift']")).to_have_count(1)
    finally:
        lab.page.evaluate(
            "() => window.jupyterapp.serviceManager.settings.save('@modelyard/jupyterlab:panel', '{}')"
        )


def test_every_command_says_what_it_takes(lab: Any) -> None:
    told = lab.page.evaluate(
        "async () => Promise.all(window.jupyterapp.commands.listCommands()"
        ".filter(id => id.startsWith('modelyard:'))"
        ".map(async id => [id, (await window.jupyterapp.commands.describedBy(id)).args?.type]))"
    )
    assert len(told) >= 12
    assert [id for id, kind in told if kind != "object"] == []


def test_ten_thousand_runs_are_a_few_rows(
    open_lab: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, browser_kit: Any
) -> None:
    from tests.browser.many_runs import make_runs

    folder = tmp_path_factory.mktemp("many") / "many"
    browser_kit.modelyard("init", str(folder))
    make_runs(folder, 10_000)
    start = contextlib.contextmanager(browser_kit.start_server)
    with start(folder, tmp_path_factory.mktemp("home")) as server:
        lab = open_lab(server)
        expect(lab.section("Runs")).to_contain_text(re.compile(r"10.?000 runs"), timeout=120_000)
        assert rows(lab).count() < 60
        rows(lab).first.focus()
        lab.page.keyboard.press("End")
        expect(rows(lab).filter(has_text="trial-0").last).to_be_focused()
        assert rows(lab).count() < 60
        lab.page.get_by_role("searchbox", name="Search runs").fill("trial-5000")
        expect(rows(lab)).to_have_count(1)
        lab.shot("runs-10000")
        lab.page.close()  # before the server goes: its end is no fault of the panel
