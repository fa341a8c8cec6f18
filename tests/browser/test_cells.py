"""Run and cell: a run that a cell starts is found from the cell, and the cell from the run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

TRAINS = """import modelyard
yard = modelyard.open()
with yard.run("from-a-cell", params={"depth": 3}) as run:
    run.log({"auc": 0.81})
"""


def notebook(**cells: str) -> str:
    """A notebook file with these cells, by id."""
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    code = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    return json.dumps(
        {
            "cells": [{**code, "id": id, "source": source} for id, source in cells.items()],
            "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
    )


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory, browser_kit: Any) -> Path:
    """A project with a notebook that trains."""
    folder = tmp_path_factory.mktemp("cells") / "work" / "trials"
    folder.mkdir(parents=True)
    browser_kit.modelyard("init", str(folder))
    (folder / "train.ipynb").write_text(notebook(first="1 + 1", trains=TRAINS))
    return folder


@pytest.fixture(scope="module")
def server(yard: Path, tmp_path_factory: pytest.TempPathFactory, browser_kit: Any) -> Iterator[Any]:
    yield from browser_kit.start_server(yard.parent, tmp_path_factory.mktemp("home"))


def test_a_run_and_its_cell_find_each_other(open_lab: Callable[..., Any], server: Any, yard: Path) -> None:
    lab = open_lab(server, "trials/train.ipynb")
    page = lab.page
    cells = page.locator(".jp-Notebook .jp-Cell")
    expect(page.get_by_role("button", name=re.compile("Python 3.*Idle"))).to_be_visible(timeout=60_000)
    cells.nth(1).locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    chip = cells.nth(1).locator(".modelyard-RunChip")
    expect(chip).to_contain_text("from-a-cell", timeout=60_000)
    expect(chip).to_contain_text("finished")
    expect(chip).to_contain_text("auc 0.81")
    lab.shot("cell-chip")
    lab.must_be_accessible(".modelyard-RunChip")

    row = lab.section("Runs").locator("[data-run]").filter(has_text="from-a-cell")
    expect(row).to_have_count(1)  # it appeared by itself
    run = row.get_attribute("data-run")
    lab.run("docmanager:save")
    expect(page.locator(".jp-mod-dirty")).to_have_count(0)
    saved = json.loads((yard / "train.ipynb").read_text())["cells"][1]
    assert saved["metadata"]["modelyard"] == {"runs": [run]}

    chip.get_by_role("button", name="Open run from-a-cell").click()
    tab = page.locator(".modelyard-Tab")
    expect(tab.get_by_role("heading", name="from-a-cell")).to_be_visible()
    expect(tab).to_contain_text("yard.run(")  # the cell as it ran
    tab.get_by_role("button", name="Go to cell").click()
    expect(cells.nth(1)).to_have_class(re.compile("jp-mod-active"))

    # A reload changes nothing in the notebook.
    lab.open("trials/train.ipynb")
    expect(cells.nth(1).locator(".modelyard-RunChip")).to_contain_text("from-a-cell")
    assert json.loads((yard / "train.ipynb").read_text())["cells"][1]["metadata"] == saved["metadata"]


def test_a_cell_that_has_gone_is_shown_as_it_was(
    open_lab: Callable[..., Any], server: Any, yard: Path
) -> None:
    (yard / "train.ipynb").write_text(notebook(first="1 + 1", other=TRAINS.replace("0.81", "0.9")))
    lab = open_lab(server)
    row = lab.section("Runs").locator("[data-run]").filter(has_text="from-a-cell")
    row.click()
    lab.page.keyboard.press("g")
    tab = lab.page.locator(".modelyard-Tab")
    expect(tab.get_by_role("status")).to_contain_text("no longer in trials/train.ipynb")
    expect(tab.get_by_role("region", name="Both cells")).to_contain_text('−     run.log({"auc": 0.81})')
    expect(tab.get_by_role("region", name="Both cells")).to_contain_text('+     run.log({"auc": 0.9})')
    lab.must_be_accessible(".modelyard-Tab")
    lab.shot("cell-gone")
    tab.get_by_role("button", name="Go to that cell").click()
    expect(lab.page.locator(".jp-Notebook .jp-Cell").nth(1)).to_have_class(re.compile("jp-mod-active"))
