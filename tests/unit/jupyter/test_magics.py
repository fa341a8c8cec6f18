"""`%modelyard` and `%%modelyard run` in a project's notebook."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.unit.jupyter.conftest import Notebook

from modelyard.yard import Yard
from modelyard_jupyter import magics


@pytest.fixture
def project(notebook: Notebook, modelyard_project: Yard, monkeypatch: pytest.MonkeyPatch) -> Yard:
    monkeypatch.chdir(modelyard_project.root)
    magics.load_ipython_extension(notebook.shell)
    return modelyard_project


def test_runs_are_shown_as_a_table_and_as_text(notebook: Notebook, project: Yard) -> None:
    with project.run("<b>spät</b>", params={"depth": 6}) as run:
        run.log({"auc": 0.71})
    done = notebook.run("%modelyard runs list")
    (shown,) = done.outputs
    assert done.success
    assert "&lt;b&gt;spät" in shown["text/html"]
    assert run.id in shown["text/plain"]
    assert (done.out, done.err) == ("", "")


def test_status_and_empty_lists_are_said_in_words(notebook: Notebook, project: Yard) -> None:
    assert "no background processes yet" in notebook.run("%modelyard status").out
    assert "no models yet" in notebook.run("%modelyard models list").out


def test_json_stays_json(notebook: Notebook, project: Yard) -> None:
    assert json.loads(notebook.run("%modelyard runs list --json").out) == []


def test_the_cell_is_a_run_and_its_last_value_is_shown(notebook: Notebook, project: Yard) -> None:
    done = notebook.run("%%modelyard run flights -p depth=6\nrun.log({'auc': 0.71})\nx = 20\nx + 1")
    (shown,) = done.outputs
    assert done.success
    assert shown["text/plain"] == "21"
    (found,) = project.runs.list()
    assert (found.name, found.status, found.params, found.metrics) == (
        "flights",
        "finished",
        {"depth": "6"},
        {"auc": 0.71},
    )
    assert notebook.run("(run.id, x)").result == (found.id, 20)


def test_a_cell_that_fails_is_a_failed_run_with_an_ordinary_traceback(
    notebook: Notebook, project: Yard
) -> None:
    done = notebook.run("%%modelyard run flights\nrun.log({'auc': 0.7})\n1 / 0")
    assert isinstance(done.error_in_exec, ZeroDivisionError)
    assert "1 / 0" in done.out
    assert "magics.py" not in done.out
    assert project.runs.list()[0].status == "failed"


def test_what_is_no_python_starts_no_run(notebook: Notebook, project: Yard) -> None:
    done = notebook.run("%%modelyard run flights\nif")
    assert isinstance(done.error_in_exec, SyntaxError)
    assert project.runs.list() == []


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("%modelyard rns list", "No such command 'rns'. Did you mean 'runs'? [usage]"),
        ("%modelyard runs show zzz", "zzz"),
        ("%modelyard runs 'show", "the line can't be read"),
        ("%%modelyard run a -p depth\n1", "'depth' is not KEY=VALUE [param-invalid]"),
        ("%%modelyard runs list\n1", "No such command 'runs'."),
        ("%modelyard run missing.py", "there is no file missing.py [script-not-found]"),
        ("%modelyard run -- false", "modelyard run -- false ended with status 1 [command-failed]"),
    ],
)
def test_errors_are_a_sentence_without_a_traceback(
    notebook: Notebook, project: Yard, cell: str, sentence: str
) -> None:
    done = notebook.run(cell)
    assert not done.success
    assert sentence in done.out
    assert "Traceback" not in done.out + done.err
    assert len(done.out.strip().splitlines()) <= 2


def test_outside_a_project_the_magic_says_what_to_do(
    notebook: Notebook, project: Yard, tmp_path: Path
) -> None:
    os.chdir(tmp_path)
    for cell in ("%modelyard runs list", "%%modelyard run a\n1"):
        assert "make a project here: modelyard init" in notebook.run(cell).out


def test_help_needs_no_project_and_no_words(notebook: Notebook, project: Yard, tmp_path: Path) -> None:
    os.chdir(tmp_path)
    assert "Carry a model from a notebook cell" in notebook.run("%modelyard").out
    assert "Usage: %modelyard runs list" in notebook.run("%modelyard runs list --help").out


def test_lists_of_records_are_tables_until_the_extension_goes(notebook: Notebook, project: Yard) -> None:
    with project.run("flights"):
        pass
    notebook.shell.user_ns["yard"] = project
    assert "<table>" in notebook.run("yard.runs.list()").outputs[0]["text/html"]
    assert "text/html" not in notebook.run("[1, 2]").outputs[0]
    assert "<table>" in notebook.run("yard.runs.list()[0]").outputs[0]["text/html"]
    magics.unload_ipython_extension(notebook.shell)
    assert "text/html" not in notebook.run("yard.runs.list()").outputs[0]
    assert not notebook.run("%modelyard runs list").success


def test_a_kind_of_list_keeps_its_own_form(notebook: Notebook, project: Yard) -> None:
    notebook.run("class Mine(list):\n    def _repr_html_(self):\n        return '<i>mine</i>'")
    assert notebook.run("Mine([1])").outputs[0]["text/html"] == "<i>mine</i>"
