"""What the kernel knows about the cell that runs, from requests as kernels get them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.jupyter.conftest import Notebook

from modelyard import capture
from modelyard.yard import Yard
from modelyard_jupyter import cells


def request(code: str, *, cell: str | None = "cell-7", kind: str = "execute_request", **content: Any) -> Any:
    metadata = {"cellId": cell} if cell else {}
    return {"header": {"msg_type": kind}, "metadata": metadata, "content": {"code": code, **content}}


@pytest.fixture
def asked(notebook: Notebook) -> Iterator[Any]:
    """Makes the IPython one of a kernel that was asked to run something."""

    def ask(parent: Any, pid: int = os.getpid()) -> None:
        session = SimpleNamespace(pid=pid)
        notebook.shell.kernel = SimpleNamespace(get_parent=lambda: parent, session=session)

    yield ask
    del notebook.shell.kernel


def test_a_cell_has_its_id_number_and_text(notebook: Notebook, asked: Any) -> None:
    asked(request("tell()"))
    notebook.shell.user_ns["tell"] = cells.current
    assert notebook.run("1").result == 1
    assert notebook.run("tell()").result == capture.Cell(id="cell-7", execution_count=2, source="tell()")


@pytest.mark.parametrize("parent", [request("x", kind="comm_msg"), request("x", silent=True), {}])
def test_what_nobody_typed_into_a_cell_is_in_none(notebook: Notebook, asked: Any, parent: Any) -> None:
    asked(parent)
    assert cells.current() is None


def test_outside_a_kernel_there_is_no_cell_and_ipython_is_not_imported() -> None:
    code = "import sys; from modelyard_jupyter import cells; print(cells.current(), 'IPython' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["None", "False"]


def test_two_cells_within_a_second_are_two_places(
    notebook: Notebook, asked: Any, modelyard_project: Yard
) -> None:
    root = modelyard_project.root
    asked(request("a", cell="one"))
    first = capture.run_context(root).code.cell
    asked(request("b", cell="two"))
    assert (first, capture.run_context(root).code.cell) == ("one", "two")


def test_vs_code_tells_the_notebook_in_its_own_way(
    notebook: Notebook, asked: Any, modelyard_project: Yard
) -> None:
    file = modelyard_project.root / "späte.ipynb"
    file.write_text("{}")
    asked(request("a"))
    notebook.shell.user_ns["__vsc_ipynb_file__"] = str(file)
    assert capture.entry_point(modelyard_project.root) == "späte.ipynb"


def test_a_cell_that_holds_data_is_not_kept(notebook: Notebook, asked: Any, modelyard_project: Yard) -> None:
    started = modelyard_project.run("a")
    for source, kept in (("ü" * 50_000, True), ("ü" * 50_001, False)):
        asked(request(source))
        with modelyard_project.run("b") as run:
            cells.modelyard_after_run_start(modelyard_project, run)
        assert (cells.source_of(modelyard_project, run.id) == source) is kept
    assert cells.source_of(modelyard_project, started.id) is None


def test_a_forked_child_of_the_kernel_knows_its_cell_and_shows_nothing(
    notebook: Notebook, asked: Any, modelyard_project: Yard
) -> None:
    notebook.shell.user_ns.update(cells=cells, yard=modelyard_project)
    train = "with yard.run('a') as run:\n    cells.modelyard_after_run_start(yard, run)"
    asked(request(train))
    assert notebook.run(train).outputs[0][cells.MIME_TYPE]["status"] == "running"
    asked(request(train), pid=1)
    assert notebook.run(train).outputs == []
    assert {run.code.cell for run in modelyard_project.runs.list()} == {"cell-7"}
