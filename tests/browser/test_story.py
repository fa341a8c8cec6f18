"""The whole story on the demo's project, twice: with the mouse in light, and by keys alone in dark.

A notebook trains, its run is seen live, compared and registered; its model is promoted through the dialog,
which deploys it; traffic is replayed, drift seen, the model rolled back, and the history read. In the middle
the process that reads the project is killed.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.browser.test_cells import notebook

import modelyard

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

MODEL = "late-flights"
FOCUSED = "() => document.activeElement?.closest('.jp-Notebook') !== null"
TRAINS = """import time
from pathlib import Path

import pandas as pd
from sklearn.metrics import roc_auc_score
import modelyard
from train import CATEGORIES, NUMBERS, pipeline

yard = modelyard.open()
features = CATEGORIES + NUMBERS
with yard.run("{name}", params={{"trees": 40}}) as run:
    winter = run.use("winter", role="train")
    table = pd.read_parquet(yard.root / winter.path)
    known, new = table[table["time"].dt.day <= 24], table[table["time"].dt.day > 24]
    for trees in (10, 20, 40):
        model = pipeline("boosting", {{"trees": trees, "learning_rate": 0.1}})
        model.fit(known[features], known["late"])
        chance = model.predict_proba(new[features])[:, 1]
        run.log({{"auc": float(roc_auc_score(new["late"], chance))}}, step=trees)
        print("trees", trees)
    while not Path("{seen}").exists():  # somebody looks on
        time.sleep(0.1)
    reference = modelyard.Reference(
        features=new[features], labels=new["late"], predictions=chance, times=new["time"]
    )
    run.log_model(model, example=new[features][:5], reference=reference)
"""
REPLAYS = """%run replay.py --months 7 --rows 600 --hours 12 --name {name} --labels traffic/{name}.csv
%load_ext modelyard_jupyter
%modelyard monitor labels late-flights traffic/{name}.csv
"""


@dataclass
class Mouse:
    """Clicks."""

    lab: Any

    def press(self, target: Any) -> None:
        target.click()

    def write(self, target: Any, text: str) -> None:
        target.fill(text)

    def run_cell(self, cell: Any) -> None:
        self.lab.page.get_by_role("tab", name=re.compile(r"\.ipynb$")).click()
        cell.locator(".cm-content").click()
        self.lab.page.get_by_role("button", name=re.compile("^Run this cell")).click()

    def compare(self, *rows: Any) -> None:
        for row in rows:
            row.get_by_role("checkbox").click()
        self.lab.section("Runs").get_by_role("button", name="Compare").click()

    def open_run(self, row: Any) -> None:
        row.dblclick()

    def open_version(self, number: str) -> None:
        self._version(number).get_by_role("button", name="Details").click()

    def promote(self, number: str) -> None:
        self._version(number).get_by_role("button", name="Promote…").click()

    def roll_back(self, number: str) -> None:
        self._version(number).get_by_role("button", name="Roll back…").click()

    def _version(self, number: str) -> Any:
        item = version(self.lab, number)
        if item.get_attribute("aria-expanded") != "true":
            item.locator(".modelyard-Tree-row").click()
        return item


@dataclass
class Keys:
    """Presses keys, and never touches anything else."""

    lab: Any

    def press(self, target: Any) -> None:
        self._reach(target)
        self.lab.page.keyboard.press("Enter")

    def write(self, target: Any, text: str) -> None:
        self._reach(target)
        self.lab.page.keyboard.press("Control+a")
        self.lab.page.keyboard.type(text)

    def run_cell(self, cell: Any) -> None:
        page, keys = self.lab.page, self.lab.page.keyboard
        while not cell.is_visible() or not page.evaluate(FOCUSED):
            keys.press("Control+Shift+[")  # the tab before
        keys.press("Escape")
        for _ in range(3):
            keys.press("ArrowUp")
        while cell.evaluate("cell => !cell.classList.contains('jp-mod-active')"):
            keys.press("ArrowDown")
        keys.press("Control+Enter")

    def compare(self, *rows: Any) -> None:
        for row in rows:
            self._at(row)
            self.lab.page.keyboard.press("Space")
        self.command("Compare Runs")

    def open_run(self, row: Any) -> None:
        self._at(row)
        self.lab.page.keyboard.press("Enter")

    def open_version(self, number: str) -> None:
        self.command("Open a Model Version…", f"{MODEL}/{number}")

    def promote(self, number: str) -> None:
        self.command("Promote a Version…", f"{MODEL}/{number}")

    def roll_back(self, number: str) -> None:
        self.command("Roll Back a Model…")  # there is one model, so that nothing is asked

    def command(self, label: str, choice: str = "") -> None:
        """A command of the palette by its words; what it asks for is chosen."""
        page = self.lab.page
        page.keyboard.press("Control+Shift+C")
        palette = page.locator(".jp-ModalCommandPalette")
        expect(palette.locator("input")).to_be_focused()
        page.keyboard.type(label.removesuffix("…"))
        expect(palette.locator(".lm-CommandPalette-item.lm-mod-active")).to_contain_text(label)
        page.keyboard.press("Enter")
        if choice:
            expect(page.get_by_role("dialog").get_by_role("combobox")).to_be_focused()
            page.keyboard.type(choice)
            page.keyboard.press("Enter")

    def _at(self, row: Any) -> None:
        """A row of the list, by arrows from wherever the list's keyboard is."""
        self.command("Show Modelyard")
        self._reach(self.lab.section("Runs").locator("[data-run][tabindex='0']").first)
        self.lab.page.keyboard.press("Home")
        while row.evaluate("one => one !== document.activeElement"):
            self.lab.page.keyboard.press("ArrowDown")

    def _reach(self, target: Any) -> None:
        """Tab until the keyboard is there."""
        expect(target).to_be_visible()
        for _ in range(400):
            if target.evaluate("one => one === document.activeElement"):
                return
            self.lab.page.keyboard.press("Tab")
        pytest.fail(f"{target} is not reached by Tab")


def version(lab: Any, number: str) -> Any:
    return lab.section("Models").get_by_role("treeitem", name=re.compile(rf"^version {number}\b"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", [Mouse, Keys])
def test_from_a_cell_to_the_history(
    kind: type[Mouse] | type[Keys], open_lab: Callable[..., Any], demo_server: Any, demo: Path, tmp_path: Path
) -> None:
    name = f"story-{kind.__name__.lower()}"
    seen = tmp_path / "seen"
    cells = {"trains": TRAINS.format(name=name, seen=seen.as_posix()), "replays": REPLAYS.format(name=name)}
    (demo / f"{name}.ipynb").write_text(notebook(**cells))
    me = ("-c", "user.name=story", "-c", "user.email=story@localhost")
    for command in (["add", f"{name}.ipynb"], ["commit", "-qm", name]):  # the gate `code-committed` looks
        subprocess.run(["git", "-C", str(demo), *me, *command], check=True, timeout=60)
    lab = open_lab(demo_server, f"{demo.name}/{name}.ipynb", width=1500, height=1000)
    page, hand = lab.page, kind(lab)
    expect(page.get_by_role("button", name=re.compile("Python 3.*Idle"))).to_be_visible(timeout=60_000)
    if kind is Keys:
        lab.dark()
    runs, serving, drift = (lab.section(part) for part in ("Runs", "Serving", "Drift"))
    inputs = page.locator(".jp-Notebook .jp-Cell")

    # Train: the run appears, lives and ends.
    hand.run_cell(inputs.nth(0))
    row = runs.locator("[data-run]").filter(has_text=name)
    expect(row).to_contain_text("running", timeout=60_000)
    expect(row).to_contain_text(re.compile(r"0\.\d+"))
    lab.shot(f"{name}-1-live")
    seen.touch()
    expect(row).to_contain_text("finished", timeout=120_000)
    run = row.get_attribute("data-run")
    expect(inputs.nth(0).locator(".modelyard-RunChip")).to_contain_text("finished")

    # Compare with the demo's newest run.
    older = runs.locator("[data-run]").filter(has_text="late-flights").first
    hand.compare(row, older)
    tab = page.locator(".modelyard-Tab:visible")
    expect(tab.get_by_role("heading", name="Compare 2 runs")).to_be_visible()
    expect(tab.get_by_role("rowheader", name=re.compile("^auc"))).to_be_visible()
    lab.shot(f"{name}-2-compare")

    # What it printed, and its model becomes a version.
    hand.open_run(row)
    expect(tab.get_by_role("heading", name=name)).to_be_visible()
    expect(tab.locator(".modelyard-Log")).to_contain_text("trees 40")
    hand.press(tab.get_by_role("button", name="Register model…"))
    form = page.get_by_role("dialog")
    hand.write(form.get_by_role("textbox"), MODEL)
    # The form is gone before the version is made; and who kills the worker before it answered is told so.
    with page.expect_response(re.compile(r"/runs/\w+/register$"), timeout=120_000) as registered:
        page.keyboard.press("Enter")
    assert registered.value.ok
    expect(form).to_have_count(0)
    newest = modelyard.open(demo).models.versions(MODEL)[0]
    assert newest.run_id == run

    # The process that reads the project dies; nobody notices more than a moment's delay.
    _kill_worker(demo)
    expect(version(lab, newest.version)).to_be_visible(timeout=60_000)

    # Promote through the dialog: gates, reason, the name typed; the endpoint follows.
    before = modelyard.open(demo).registry.alias(MODEL, "production")
    hand.promote(newest.version)
    expect(form.get_by_role("table", name="Gates")).to_be_visible()
    hand.write(form.get_by_role("textbox", name=re.compile("^Reason")), "learned by the story")
    hand.write(form.get_by_role("textbox", name=f"Type {MODEL} to confirm"), MODEL)
    lab.shot(f"{name}-3-promote")
    hand.press(form.get_by_role("button", name="Promote", exact=True))
    expect(form).to_have_count(0, timeout=60_000)
    card = serving.get_by_role("listitem", name=MODEL, exact=True)
    expect(card).to_contain_text(f"version {newest.version} gets 100 %", timeout=60_000)

    # Traffic, with labels that arrive later; drift is seen.
    hand.run_cell(inputs.nth(1))
    expect(inputs.nth(1)).to_contain_text(f"answered by version {newest.version}", timeout=120_000)
    expect(page.get_by_role("button", name=re.compile("Python 3.*Idle"))).to_be_visible(timeout=60_000)
    lab.run("modelyard:refresh")
    expect(card).to_contain_text(re.compile(r"95 % within .* ms, 0 % errors of \d+"))
    watched = drift.get_by_role("listitem", name=f"{MODEL} version {newest.version}", exact=True)
    expect(watched).to_contain_text(re.compile(r"[1-9]\d* of \d+ columns drifted"), timeout=60_000)
    watched.scroll_into_view_if_needed()
    lab.shot(f"{name}-4-drift")

    # Back, with a reason; and all of it stands in the history.
    hand.roll_back(newest.version)
    expect(form.get_by_role("table", name="Last good versions")).to_be_visible()
    hand.write(form.get_by_role("textbox", name=re.compile("^Reason")), "summer is not like winter")
    hand.press(form.get_by_role("button", name="Roll back"))
    expect(form).to_have_count(0, timeout=60_000)
    expect(card).to_contain_text(f"version {before} gets 100 %", timeout=60_000)
    hand.open_version(newest.version)
    ledger = tab.get_by_role("region", name="Ledger")
    expect(ledger).to_contain_text("learned by the story")
    expect(ledger).to_contain_text("summer is not like winter")
    lab.must_be_accessible(".modelyard-Tab")
    lab.shot(f"{name}-5-history")
    moves = modelyard.open(demo).history(MODEL)[:2]
    assert [(move.action, move.from_version, move.to_version) for move in moves] == [
        ("rollback", newest.version, before),
        ("promote", before, newest.version),
    ]
    saved = json.loads((demo / f"{name}.ipynb").read_text())
    assert [cell["id"] for cell in saved["cells"]] == ["trains", "replays"]


def _kill_worker(project: Path) -> None:
    """End the process that answers for the project, as the kernel's killer would."""
    found = [one for one in psutil.process_iter(["cmdline"]) if _works_for(project, one.info["cmdline"])]
    assert found
    for one in found:
        one.kill()


def _works_for(project: Path, command: list[str] | None) -> bool:
    return command is not None and "modelyard_jupyter.worker" in command and str(project) in command
