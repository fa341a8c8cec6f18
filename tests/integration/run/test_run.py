"""`modelyard run`: scripts and notebooks are part of the project, and an interrupted one still says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import modelyard
from modelyard.yard import Yard

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

TRACKED = """
import modelyard
with modelyard.open().run("späte flüge", params={"depth": 6}) as run:
    run.log({"auc": 0.71})
    print("tracked", run.id)
"""
WAITING = """
import time, modelyard
with modelyard.open().run("lange") as run:
    run.log({"auc": 0.5})
    print("begun", flush=True)
    time.sleep(60)
"""


def yard_of(folder: Path) -> Yard:
    return modelyard.open(folder)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "modelyard", "run", *words]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def notebook(file: Path, *cells: str) -> Path:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content: dict[str, Any] = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": kernel},
        "cells": [
            {
                "cell_type": "code",
                "id": f"cell-{number}",
                "metadata": {},
                "execution_count": None,
                "outputs": [],
                "source": source,
            }
            for number, source in enumerate(cells)
        ],
    }
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))
    return file


@pytest.fixture
def project(modelyard_project: Yard) -> Path:
    return modelyard_project.root


def test_a_notebook_runs_in_its_folder_and_is_left_as_it_is(project: Path) -> None:
    file = notebook(project / "hefte" / "erkunden.ipynb", TRACKED, "import os; print(os.getcwd())")
    before = file.read_bytes()
    done = run(project, "hefte/erkunden.ipynb")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == str(file.parent)
    assert file.read_bytes() == before
    copy = project / ".modelyard" / "notebooks" / "hefte" / "erkunden.ipynb"
    assert str(copy) in done.stderr
    assert "tracked" in copy.read_text()
    (tracked,) = yard_of(project).runs.list()
    assert (tracked.name, tracked.status) == ("späte flüge", "finished")
    assert tracked.code.entry_point == "hefte/erkunden.ipynb"


def test_notebooks_of_one_name_keep_a_copy_each(project: Path) -> None:
    for folder in ("a", "b"):
        notebook(project / folder / "x.ipynb", f"print('this is {folder}')")
        assert run(project, f"{folder}/x.ipynb").returncode == 0
    kept = project / ".modelyard" / "notebooks"
    for folder in ("a", "b"):
        assert f"this is {folder}" in (kept / folder / "x.ipynb").read_text()


def test_a_failing_cell_is_shown_and_its_outputs_are_kept(project: Path) -> None:
    notebook(project / "bad.ipynb", "print('first')", "1 / 0", "print('never')")
    done = run(project, "bad.ipynb")
    assert done.returncode == 1
    assert done.stdout == "first\n"
    assert "ZeroDivisionError" in done.stderr
    assert "nbclient" not in done.stderr
    assert "ZeroDivisionError" in (project / ".modelyard" / "notebooks" / "bad.ipynb").read_text()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": 5}'], ids=["empty", "torn", "list", "wrong"])
def test_what_is_no_notebook_is_one_sentence(project: Path, content: str) -> None:
    (project / "no.ipynb").write_text(content)
    done = run(project, "no.ipynb")
    assert done.returncode == 1
    assert "no.ipynb is not a notebook" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("kind", "number", "status"),
    [
        ("script", signal.SIGINT, 130),
        ("script", signal.SIGTERM, 143),
        ("notebook", signal.SIGINT, 130),
        ("notebook", signal.SIGTERM, 143),
    ],
    ids=["script-ctrl-c", "script-term", "notebook-ctrl-c", "notebook-term"],
)
def test_an_interrupted_run_says_so(project: Path, kind: str, number: int, status: int) -> None:
    if kind == "script":
        file = project / "lange.py"
        file.write_text(WAITING)
    else:
        file = notebook(project / "lange.ipynb", WAITING)
    process = subprocess.Popen(
        command(file.name), cwd=project, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    assert process.wait(60) == status
    process.stdout.close()
    if (kind, number) != ("script", signal.SIGTERM):  # TERM ends Python without a word: its run stays open
        deadline = time.monotonic() + 60
        while (ended := yard_of(project).runs.list()[0]).status == "running" and time.monotonic() < deadline:
            time.sleep(0.1)
        assert ended.status == "killed"
        assert ended.metrics == {"auc": 0.5}
