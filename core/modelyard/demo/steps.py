"""The steps of the demo, in order. Each can be run again: it looks at what is there before it acts."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from modelyard import console
from modelyard.demo.journal import Journal
from modelyard.errors import EnvironmentFault
from modelyard.records import Endpoint, Window
from modelyard.yard import Yard
from modelyard.yard import open as open_yard

_FILES = Path(__file__).parent / "files"
_NAME = "late-flights"
#: Seconds for which the last events of the replay are waited for.
_PATIENCE = 15.0
_SHOWN = ("auc", "brier", "calibration_error")


class Stage:
    """What steps act on: the project, and the words that they say.

    Args:
        root: the project's folder.
        journal: what earlier steps found out.
        quiet: say nothing (`--json`).
        keep: processes stay when the demo ends.
    """

    def __init__(self, root: Path, journal: Journal, *, quiet: bool, keep: bool) -> None:
        self.root, self.journal, self.quiet, self.keep = root, journal, quiet, keep
        self.yard: Yard = open_yard(root)

    def typed(self, command: str) -> None:
        """Show a command that a user would have typed."""
        if not self.quiet:
            click.secho(f"   $ {command}", fg="cyan")

    def say(self, text: str) -> None:
        """Show what came out."""
        if not self.quiet:
            click.echo("     " + text.replace("\n", "\n     "))

    def script(self, name: str, *arguments: str, doing: str | None = None) -> str:
        """Run a script of the project as `modelyard run` does, but in this process: the libraries are
        imported once, not once per script. Say what it is doing, unless it shows its own progress."""
        self.typed(f"modelyard run {' '.join([name, *arguments])}")
        said = io.StringIO()
        waiting = console.waiting(doing) if doing else contextlib.nullcontext()
        with _as_script(self.root, name, arguments), waiting, contextlib.redirect_stdout(said):
            runpy.run_path(str(self.root / name), run_name="__main__")
        self.say(said.getvalue().strip())
        return said.getvalue()

    def git(self, *arguments: str) -> bool:
        """Run git in the project; False where there is none. A user without a name gets one here."""
        if not shutil.which("git"):
            return False
        named = ["-c", "user.useConfigOnly=false"]
        if subprocess.run(["git", "config", "user.email"], capture_output=True, check=False).returncode != 0:
            named += ["-c", "user.name=Modelyard demo", "-c", "user.email=demo@localhost"]
        done = subprocess.run(
            ["git", "-C", str(self.root), *named, *arguments], capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        if done.returncode != 0 and "nothing to commit" not in said:
            raise EnvironmentFault(
                "git-failed", f"git {arguments[0]}: {' '.join(said.split())[:300]}", "git status"
            )
        return True

    def endpoint(self) -> Endpoint:
        """The endpoint, started again if an interruption ended it."""
        endpoint = self.yard.endpoints.get(_NAME)
        if not endpoint.ready:
            with console.waiting("starting endpoint and monitor"):
                self.yard.up()
            endpoint = self.yard.endpoints.reconcile(_NAME)
        return endpoint

    def stop(self) -> None:
        """End the background processes."""
        self.yard.down()


@dataclass(frozen=True)
class Step:
    """One step: `work` returns what later steps and `--json` want to know."""

    name: str
    title: str
    work: Callable[[Stage], dict[str, Any]]


def shown(folder: Path) -> str:
    """A folder as one would type it here."""
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)


def make_project(stage: Stage) -> dict[str, Any]:
    """The project's files, in git."""
    stage.typed(f"modelyard init {shown(stage.root)} --name {_NAME}")
    for file in sorted(_FILES.iterdir()):
        if file.is_file():
            target = stage.root / (".gitignore" if file.name == "gitignore" else file.name)
            shutil.copyfile(file, target)
    settings = stage.root / "modelyard.toml"
    if "providers.evidently" not in settings.read_text():
        with settings.open("a") as opened:
            opened.write('\n[providers.evidently]\nwindow = "month"\n')
    stage.typed(f"cd {shown(stage.root)}")
    in_git = shutil.which("git") is not None
    if in_git:
        with (stage.root / "gates.toml").open("a") as opened:
            opened.write('\n[[gate]]\ncheck = "code-committed"\n')
        stage.typed("git init && git add -A && git commit -m 'Begin'")
        stage.git("init", "-q")
        stage.git("add", "-A")
        stage.git("commit", "-q", "-m", "Begin")
    else:
        stage.say("git is not installed: runs will have no commit, and no gate asks for one")
    stage.say(
        f"{shown(stage.root)}: {', '.join(sorted(p.name for p in stage.root.iterdir() if p.name[0] != '.'))}"
    )
    stage.yard = open_yard(stage.root)
    return {"git": in_git}


def version_data(stage: Stage) -> dict[str, Any]:
    """Prepare, version and push the data."""
    stage.script("prepare.py", doing="joining flights and weather")
    remote = stage.root / ".modelyard" / "data-remote"
    stage.typed("modelyard data remote .modelyard/data-remote")
    stage.yard.data.set_remote(str(remote))
    refs = []
    for name in ("winter", "summer"):
        stage.typed(f"modelyard data add data/{name}.parquet")
        with console.waiting("hashing"):
            refs.append(stage.yard.data.add(stage.root / "data" / f"{name}.parquet"))
        stage.say(f"{name}: {refs[-1].version}, {console.size(refs[-1].size)}")
    stage.typed("modelyard data push")
    with console.waiting("pushing"):
        refs = stage.yard.data.push()
    stage.say(f"{len(refs)} data sets are in the remote, checked")
    if stage.git("add", "-A"):
        stage.typed("git add -A && git commit -m 'Data and code'")
        stage.git("commit", "-q", "-m", "Data and code")
    return {"data": {ref.name: ref.version for ref in refs}}


def train(stage: Stage) -> dict[str, Any]:
    """Two tracked runs; the better is registered."""
    for kind in ("logistic", "boosting"):
        stage.script("train.py", "--model", kind, doing=f"fitting {kind}")
    runs = stage.yard.runs.list(name=_NAME, limit=2)
    stage.typed(f"modelyard runs compare {' '.join(run.id[:8] for run in reversed(runs))}")
    for run in reversed(runs):
        stage.say(f"{run.params['model']:9} " + ", ".join(f"{m} {run.metrics[m]:.3f}" for m in _SHOWN))
    best = max(runs, key=lambda run: run.metrics["auc"])
    stage.typed(f"modelyard models register {_NAME} --run {best.id[:8]}")
    version = stage.yard.models.register(_NAME, run=best.id)
    stage.say(f"{version.ref} is the {best.params['model']} model of {best.user}, commit {_commit(best)}")
    return {"v1": version.ref, "run": best.id, "auc": best.metrics["auc"]}


def promote(stage: Stage) -> dict[str, Any]:
    """Gates, then the alias."""
    version = stage.journal.facts()["v1"]
    stage.typed(f'modelyard promote {version} --to production --reason "better than a coin"')
    promotion = stage.yard.promote(version, to="production", reason="better than a coin")
    for gate in promotion.gates:
        stage.say(f"passed {gate.gate}: {gate.message}")
    stage.say(f"{promotion.actor.user} made version {promotion.to_version} production")
    return {"gates": [gate.gate for gate in promotion.gates]}


def serve(stage: Stage) -> dict[str, Any]:
    """An InferenceService on this machine, asked in both protocols."""
    stage.typed("modelyard endpoints apply -f late-flights.yaml")
    with console.waiting("waiting for the model to load"):
        endpoint = stage.yard.endpoints.apply(stage.root / "late-flights.yaml")
    stage.say(f"{endpoint.name} is ready on {endpoint.url}")
    flight = _flight(stage.root)
    for protocol in ("v1", "v2"):
        stage.typed(f"modelyard endpoints invoke {_NAME} --protocol {protocol} -f traffic/flight.json")
        answer = endpoint.predict([flight], protocol=protocol, headers={"X-Request-Id": f"first-{protocol}"})
        stage.say(
            f"chance to be late {_chance(answer.predictions[0]):.2f}, by {answer.model}/{answer.version}, "
            f"revision {answer.revision}, id {answer.id}"
        )
    return {"url": endpoint.url, "revision": endpoint.revisions[0].name}


def drift(stage: Stage) -> dict[str, Any]:
    """Summer comes: traffic, late labels, windows, alerts."""
    stage.endpoint()
    stage.script("replay.py", "--months", "4", "5", "6", "7", *_less_traffic(stage))
    stage.typed("modelyard monitor labels late-flights traffic/labels.csv")
    stored = stage.yard.monitor.labels(_NAME, _labels(stage.root / "traffic" / "labels.csv"))
    stage.say(f"{stored} flights have landed")
    stage.typed("modelyard monitor windows late-flights")
    with console.waiting("scoring the months"):
        windows = _windows_of(stage, stored)
    for window in reversed(windows):
        stage.say(_window_line(window))
    alerts = stage.yard.monitor.alerts(_NAME)
    for alert in alerts:
        stage.say(f"{alert.severity}: {alert.name}: {alert.summary} (said by {alert.evaluator})")
    monitor = stage.yard.processes.get("monitor")
    stage.say(f"all of it as Prometheus metrics: {monitor.url if monitor else ''}/metrics")
    return {
        "rows": sum(window.rows for window in windows),
        "labels": stored,
        "drifted": {f"{w.start:%Y-%m}": list(w.drifted) for w in windows},
        "calibration_error": {f"{w.start:%Y-%m}": w.quality.get("calibration_error") for w in windows},
        "alerts": sorted({alert.name for alert in alerts}),
        "evaluator": alerts[0].evaluator if alerts else None,
    }


def _windows_of(stage: Stage, rows: int) -> list[Window]:
    """The months, once every flight is in them: the log is written behind the answers' back. What a killed
    endpoint had not sent yet never comes, so the wait ends."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        windows = [w for w in stage.yard.monitor.windows(_NAME) if w.start.year == 2013]
        if sum(window.rows for window in windows) >= rows or time.monotonic() > deadline:
            return windows
        time.sleep(0.2)


def retrain(stage: Stage) -> dict[str, Any]:
    """A model that has seen May and June."""
    months = ["1", "2", "3", "5", "6"]
    stage.script(
        "train.py", "--model", "boosting", "--data", "winter", "summer", "--months", *months, doing="fitting"
    )
    run = stage.yard.runs.list(name=_NAME, limit=1)[0]
    stage.typed(f"modelyard models register {_NAME} --run {run.id[:8]}")
    version = stage.yard.models.register(_NAME, run=run.id)
    stage.say(f"{version.ref}: " + ", ".join(f"{m} {run.metrics[m]:.3f}" for m in _SHOWN))
    return {"v2": version.ref}


def canary(stage: Stage) -> dict[str, Any]:
    """A fifth of the traffic for the new version, then all of it, then back."""
    stage.endpoint()
    version = stage.journal.facts()["v2"]
    number = version.rpartition("/")[2]
    manifest = stage.root / "late-flights-canary.yaml"
    manifest.write_text(manifest.read_text().replace(f"models:/{_NAME}/2", f"models:/{_NAME}/{number}"))
    stage.typed("modelyard endpoints apply -f late-flights-canary.yaml")
    with console.waiting("waiting for the new revision"):
        endpoint = stage.yard.endpoints.apply(manifest)
    stage.say(", ".join(f"{r.model}/{r.version} {r.traffic} %" for r in endpoint.revisions if r.traffic))
    split = stage.script(
        "replay.py", "--months", "7", "--rows", "600", "--name", "canary", "--labels", "traffic/canary.csv"
    )
    stage.typed(f'modelyard promote {version} --to production --reason "has seen a summer"')
    stage.yard.promote(version, to="production", reason="has seen a summer")
    stage.typed("modelyard endpoints apply -f late-flights.yaml")
    endpoint = stage.yard.endpoints.apply(stage.root / "late-flights.yaml")
    stage.say(", ".join(f"{r.model}/{r.version} {r.traffic} %" for r in endpoint.revisions if r.traffic))
    stage.typed(f'modelyard rollback {_NAME} --reason "the tower wants to look first"')
    with console.waiting("rolling back"):
        back = stage.yard.rollback(_NAME, reason="the tower wants to look first")
    answer = stage.yard.endpoints.get(_NAME).predict([_flight(stage.root)])
    stage.say(f"production is version {back.to_version} again, and version {answer.version} answers")
    return {"split": split.strip(), "answered_by": answer.version}


def explain(stage: Stage) -> dict[str, Any]:
    """Who did what, and what stands behind one prediction."""
    stage.typed(f"modelyard history {_NAME}")
    for p in reversed(stage.yard.history(_NAME)):
        moved = f"{p.from_version or 'none'} -> {p.to_version}"
        stage.say(f"{p.time:%H:%M:%S} {p.actor.user} {p.action}: {p.alias} {moved} ({p.reason})")
    stage.typed("modelyard lineage first-v1")
    node = stage.yard.lineage("first-v1")
    stage.say(node.tree())
    return {"lineage": [each.kind for each in node.walk()], "moves": len(stage.yard.history(_NAME))}


STEPS = (
    Step("project", "A project", make_project),
    Step("data", "Data with a version", version_data),
    Step("train", "Two tracked runs, the better registered", train),
    Step("promote", "Gates and promotion", promote),
    Step("serve", "An endpoint", serve),
    Step("drift", "Summer: traffic, late labels, drift, an alert", drift),
    Step("retrain", "Retrained with May and June", retrain),
    Step("canary", "Canary, promotion, rollback", canary),
    Step("explain", "Who, what, when, why", explain),
)


@contextlib.contextmanager
def _as_script(root: Path, name: str, arguments: tuple[str, ...]) -> Iterator[None]:
    before = (
        sys.argv,
        Path.cwd(),
        os.environ.get("MODELYARD_ENTRY_POINT"),
        os.environ.get("MODELYARD_PROJECT"),
    )
    sys.argv = [str(root / name), *arguments]
    os.environ |= {"MODELYARD_ENTRY_POINT": str(root / name), "MODELYARD_PROJECT": str(root)}
    os.chdir(root)
    try:
        yield
    finally:
        sys.argv = before[0]
        os.chdir(before[1])
        for key, value in zip(("MODELYARD_ENTRY_POINT", "MODELYARD_PROJECT"), before[2:]):
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _less_traffic(stage: Stage) -> list[str]:
    return ["--rows", "1000", "--hours", "12"] if stage.journal.fast else []


def _labels(file: Path) -> Iterator[Any]:
    from modelyard.cli.monitor import read_labels

    return read_labels(file)


def _flight(root: Path) -> dict[str, Any]:
    """One flight of April, also written to `flight.json` for the user."""
    import json

    import pandas as pd

    from modelyard.client import as_instances

    table = pd.read_parquet(root / "data" / "summer.parquet").head(1)
    flight: dict[str, Any] = as_instances(table.drop(columns=["time", "late"]))[0]
    (root / "traffic").mkdir(exist_ok=True)
    (root / "traffic" / "flight.json").write_text(json.dumps([flight]))
    return flight


def _chance(prediction: Any) -> float:
    return float(prediction[-1] if isinstance(prediction, (list, tuple)) else prediction)


def _window_line(window: Window) -> str:
    drifted = ", ".join(window.drifted[:3]) + (" ..." if len(window.drifted) > 3 else "")
    now, before = window.quality, window.quality_reference
    quality = ", ".join(f"{m} {now[m]:.3f} (was {before[m]:.3f})" for m in _SHOWN if m in now and m in before)
    return f"{window.start:%B}: {window.rows} flights, drifted: {drifted or 'none'}; {quality}"


def _commit(run: Any) -> str:
    return run.code.commit[:10] if run.code.commit else "none"
