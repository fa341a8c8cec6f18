"""Runs of a real kernel on real MLflow: the cell knows the run, and the run knows the cell."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("mlflow")

if "jupyter" not in {point.name for point in importlib.metadata.entry_points(group="modelyard")}:
    pytest.skip("the plugin 'jupyter' is not installed: make venv", allow_module_level=True)

import nbformat
from nbclient import NotebookClient

import modelyard
from modelyard.records import Run
from modelyard.yard import Yard
from modelyard_jupyter import cells, projects
from modelyard_jupyter.folders import Folders

EVIL = "späte <script>alert(1)</script>"
OPEN = "import modelyard\nyard = modelyard.open()"
TRAIN = f"""with yard.run("{EVIL}") as run:  # ünverändert
    for step, auc in enumerate([0.5, 0.71]):
        run.log({{"auc": auc}}, step=step)
"""
TWO = """for depth in (1, 2):
    with yard.run("sweep", params={"depth": depth}):
        pass
"""
FAILS = """%%modelyard run broken
run.log({"loss": float("nan")})
1 / 0
"""
LIVE = """import time
from IPython.display import display
from modelyard_jupyter.widgets import LiveMetrics, RunTable

with yard.run("live") as run:
    live = LiveMetrics(run)
    display(live)
    for step in range(12):
        run.log({"loss": 1 / (step + 1)}, step=step)
        while step in (3, 7) and not (live.curves and len(live.curves[0]["points"]) > step):
            time.sleep(0.1)  # until it was drawn
RunTable(yard)
"""


class Lab(NotebookClient):
    """Runs a notebook as JupyterLab does: every request says which cell it is for."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, on_cell_execute=self._names_the_cell, **options)
        self.drawn: list[list[str]] = []

    def _names_the_cell(self, cell: Any, cell_index: int) -> None:
        self.kc.session.metadata = {"cellId": cell.id}

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        state = msg["content"].get("data", {}).get("state", {}) if msg["msg_type"] == "comm_msg" else {}
        if curves := state.get("curves"):
            self.drawn.append([len(curve["points"]) for curve in curves])
        return super().process_message(msg, cell, cell_index)


class Executed:
    """A notebook after it ran."""

    def __init__(self, yard: Yard, file: Path, *sources: str, allow_errors: bool = False) -> None:
        self.yard, self.file = yard, file
        self.book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        self.lab = Lab(
            self.book,
            timeout=120,
            startup_timeout=120,
            iopub_timeout=60,  # outputs that come later than that are lost
            allow_errors=allow_errors,
            store_widget_state=False,  # JupyterLab does not either, unless it is told to
            resources={"metadata": {"path": str(file.parent)}},
        )
        self.lab.execute(env={**os.environ, "JPY_SESSION_NAME": str(file)})

    def shown(self, place: int) -> list[Any]:
        """The MIME bundles about runs below a cell."""
        outputs = [output.get("data", {}) for output in self.book.cells[place].outputs]
        return [data for data in outputs if cells.MIME_TYPE in data]

    def run(self, name: str) -> Run:
        (found,) = self.yard.runs.list(name=name)
        return found


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Yard:
    return modelyard.init(tmp_path_factory.mktemp("heft") / "späte Flüge")


@pytest.fixture(scope="module")
def executed(yard: Yard) -> Executed:
    file = yard.root / "hefte" / "erkunden.ipynb"
    file.parent.mkdir()
    file.write_text("{}")
    sources = (OPEN, TRAIN, TWO, "%load_ext modelyard_jupyter", FAILS, LIVE)
    return Executed(yard, file, *sources, allow_errors=True)


def test_a_run_carries_the_cell_its_number_its_text_and_the_notebook(executed: Executed, yard: Yard) -> None:
    run = executed.run(EVIL)
    cell = executed.book.cells[1]
    assert (run.code.cell, run.code.execution_count) == (cell.id, cell.execution_count)
    assert run.code.entry_point == "hefte/erkunden.ipynb"
    assert cells.source_of(yard, run.id) == TRAIN


def test_the_cell_shows_the_run_once_and_how_it_ended(executed: Executed, yard: Yard) -> None:
    (shown,) = executed.shown(1)
    run = executed.run(EVIL)
    (served,) = projects.find(yard.root.parent, Folders())
    assert shown[cells.MIME_TYPE] == {
        "project": served.id,
        "run": run.id,
        "name": EVIL,
        "status": "finished",
        "metrics": {"auc": 0.71},
    }
    assert shown["text/plain"] == f"run {EVIL} {run.id[:8]}: finished, auc 0.71"


def test_nothing_else_is_printed(executed: Executed) -> None:
    assert executed.book.cells[0].outputs == []
    assert len(executed.book.cells[1].outputs) == 1
    assert executed.book.cells[3].outputs == []


def test_every_run_of_a_cell_is_shown(executed: Executed) -> None:
    shown = executed.shown(2)
    assert len({data[cells.MIME_TYPE]["run"] for data in shown}) == 2
    assert {data[cells.MIME_TYPE]["status"] for data in shown} == {"finished"}


def test_the_cell_magic_links_its_run_and_a_failure_shows(executed: Executed, yard: Yard) -> None:
    (shown,) = executed.shown(4)
    assert (shown[cells.MIME_TYPE]["status"], shown[cells.MIME_TYPE]["metrics"]) == ("failed", {"loss": None})
    assert [output.ename for output in executed.book.cells[4].outputs if output.output_type == "error"] == [
        "ZeroDivisionError"
    ]
    assert cells.source_of(yard, executed.run("broken").id) == FAILS


def test_metrics_are_drawn_while_the_cell_runs_and_the_notebook_keeps_the_last(executed: Executed) -> None:
    pytest.importorskip("anywidget")
    lengths = [drawn[0] for drawn in executed.lab.drawn]
    assert len(set(lengths)) > 2, lengths
    assert lengths[-1] == 12
    chip, live, table = (output.data for output in executed.book.cells[5].outputs)
    assert chip[cells.MIME_TYPE]["name"] == "live"
    assert "✓ finished" in live["text/html"]
    assert "0.08333" in live["text/html"]
    assert "sweep" in table["text/html"]


def test_an_export_can_be_read_without_javascript(executed: Executed) -> None:
    pytest.importorskip("anywidget")
    nbconvert = pytest.importorskip("nbconvert")
    page, _ = nbconvert.HTMLExporter().from_notebook_node(executed.book)
    assert "metrics of run live" in page
    assert "<caption>runs</caption>" in page
    assert "finished, auc 0.71" in page
    assert "<script>alert(1)</script>" not in page
