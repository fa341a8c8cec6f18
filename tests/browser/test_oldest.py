"""The same panel in the oldest JupyterLab that it supports, which `.ci/oldest-lab` makes."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.browser.test_cells import TRAINS, notebook

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

PYTHON = Path(__file__).parents[2] / ".cache" / "oldest-lab" / "bin" / "python"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="needs .ci/oldest-lab")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, browser_kit: Any) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("oldest") / "work" / "trials"
    folder.mkdir(parents=True)
    browser_kit.modelyard("init", str(folder))
    (folder / "train.ipynb").write_text(notebook(trains=TRAINS))
    home = tmp_path_factory.mktemp("home")
    yield from browser_kit.start_server(folder.parent, home, python=PYTHON)


def test_it_is_the_oldest() -> None:
    said = subprocess.run(
        [PYTHON, "-m", "jupyterlab", "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout.startswith("4.4.")


def test_a_cell_its_run_and_the_tab(open_lab: Callable[..., Any], server: Any) -> None:
    lab = open_lab(server, "trials/train.ipynb")
    page = lab.page
    cell = page.locator(".jp-Notebook .jp-Cell").first
    expect(page.locator("#jp-main-statusbar")).to_contain_text(re.compile("Python 3.*Idle"), timeout=60_000)
    cell.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    expect(cell.locator(".modelyard-RunChip")).to_contain_text("finished", timeout=60_000)
    row = lab.section("Runs").locator("[data-run]").filter(has_text="from-a-cell")
    expect(row).to_contain_text("0.81")
    row.dblclick()
    tab = page.locator(".modelyard-Tab")
    expect(tab.get_by_role("heading", name="from-a-cell")).to_be_visible()
    for part, sentence in (("Models", "No model is registered yet"), ("Drift", "Nothing is watched yet")):
        expect(lab.section(part)).to_contain_text(sentence)
    lab.run("modelyard:doctor")
    expect(page.locator(".modelyard-Tab:visible").get_by_role("heading", name="Doctor")).to_be_visible()
    lab.must_be_accessible("#modelyard-panel")
    lab.shot("oldest-jupyterlab")
