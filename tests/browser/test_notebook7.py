"""The same panel beside a notebook in Notebook 7."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("notebook", reason="Notebook 7 is not installed")
expect = sync_api.expect


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, browser_kit: Any) -> Iterator[Any]:
    """Notebook 7 above a project with one run and one notebook."""
    folder = tmp_path_factory.mktemp("notebook7") / "work" / "trials"
    folder.mkdir(parents=True)
    browser_kit.modelyard("init", str(folder))
    browser_kit.python(
        "import modelyard\nwith modelyard.open().run('only') as run: run.log({'auc': 0.7})", folder
    )
    _write_notebook(folder / "train.ipynb")
    yield from browser_kit.start_server(folder.parent, tmp_path_factory.mktemp("home"), app="notebook")


def _write_notebook(file: Path) -> None:
    import nbformat.v4 as v4

    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook = v4.new_notebook(cells=[v4.new_code_cell("")], metadata={"kernelspec": kernel})
    file.write_text(v4.writes(notebook))


def test_the_panel_stands_beside_the_notebook(chromium: Any, server: Any, browser_kit: Any) -> None:
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(browser_kit.PATIENCE)
    page = context.new_page()
    lab = browser_kit.Lab(page, server)
    page.on("console", lab.hear)
    page.goto(f"{server.url}notebooks/trials/train.ipynb?token={server.token}")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=60_000)
    page.get_by_role("menuitem", name="View").click()
    page.get_by_role("menuitem", name="Show Modelyard").click()
    run = lab.section("Runs").locator("[data-run]")
    expect(run).to_contain_text("only")
    page.locator(".jp-Notebook .cm-content").first.click()
    run.focus()
    expect(run).to_be_focused()
    page.keyboard.press("i")
    expect(page.locator(".jp-Notebook .jp-Cell").first).to_contain_text("yard.runs.get(")
    run.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".modelyard-Tab").get_by_role("heading", name="only")).to_be_visible()
    expect(page.locator(".modelyard-Tab")).to_contain_text(re.compile("auc.*0.7"))
    lab.shot("notebook7")
    ours = [error for error in lab.errors if "modelyard" in error.lower()]
    context.close()
    assert not ours, ours
