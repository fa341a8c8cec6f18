"""`modelyard monitor`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from modelyard import console
from modelyard.cli.base import Session, json_option
from modelyard.errors import NotFoundError, UsageError
from modelyard.records import Window
from modelyard.stages import Label

#: What the table shows, if it was measured; at most three of them. `--json` has all.
_QUALITY = ("auc", "brier", "calibration_error", "accuracy", "rmse", "mae")


@click.group()
def monitor() -> None:
    """Drift and quality of endpoints.

    \b
    Example:
      modelyard monitor windows late-flights
    """


@monitor.command()
@click.argument("model")
@json_option
def profile(session: Session, model: str) -> None:
    """The reference profile of MODEL/VERSION or MODEL@ALIAS: what windows are compared with.

    \b
    Example:
      modelyard monitor profile late-flights@production
    """
    path = session.yard.models.path(model) / "profile.json"
    if not path.exists():
        raise NotFoundError(
            "profile-not-found",
            f"{model} was stored without a reference profile",
            "log it with run.log_model(model, reference=modelyard.Reference(...))",
        )
    stored = json.loads(path.read_text())

    def human() -> None:
        columns = stored.get("columns", {})
        listed = columns.items() if isinstance(columns, dict) else ((c["name"], c) for c in columns)
        rows = [(name, c.get("kind"), c.get("method"), c.get("missing_ratio")) for name, c in listed]
        console.table(("COLUMN", "KIND", "METHOD", "MISSING"), rows)
        quality = stored.get("quality") or {}
        click.echo("quality  " + ", ".join(f"{k} {v:.4g}" for k, v in quality.items() if v is not None))

    session.show(stored, human)


@monitor.command()
@click.argument("endpoint")
@click.option("-n", "--limit", default=12, show_default=True, help="How many.")
@json_option
def windows(session: Session, endpoint: str, limit: int) -> None:
    """Score the closed windows of an endpoint and show them, newest first.

    \b
    Example:
      modelyard monitor windows late-flights
    """
    with console.waiting("scoring windows"):
        found = session.yard.monitor.windows(endpoint, limit=limit)
        alerts = session.yard.monitor.alerts(endpoint)

    def human() -> None:
        console.table(
            ("WINDOW (UTC)", "VERSION", "ROWS", "LABELLED", "DRIFTED", "QUALITY (REFERENCE)"),
            [_row(window) for window in found],
            empty="no closed windows yet: send predictions first",
        )
        for alert in alerts:
            click.echo(f"{alert.severity}: {alert.name}: {alert.summary} (said by {alert.evaluator})")

    session.show({"windows": found, "alerts": alerts}, human)


@monitor.command()
@click.argument("endpoint")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def labels(session: Session, endpoint: str, file: Path) -> None:
    """Store true outcomes: a CSV with the columns prediction_id, row (default 0), label.

    \b
    Example:
      modelyard monitor labels late-flights arrived.csv
    """
    stored = session.yard.monitor.labels(endpoint, read_labels(file))
    session.show({"stored": stored}, lambda: click.echo(f"{stored} labels stored"))


@monitor.command()
@click.argument("endpoint")
@click.option("-o", "--out", default="report.html", show_default=True, help="Where to write it.")
@click.option("--version", "model_version", help="Of this model version.  [default: any]")
@json_option
def report(session: Session, endpoint: str, out: str, model_version: str | None) -> None:
    """Write Evidently's report of the newest window with enough rows as one HTML file.

    \b
    Example:
      modelyard monitor report late-flights -o july.html
    """
    with console.waiting("writing the report"):
        path = session.yard.monitor.report(endpoint, out, version=model_version)
    session.show({"report": path}, lambda: click.echo(str(path)))


@monitor.command()
@json_option
def rules(session: Session) -> None:
    """The Prometheus rule file, for `rule_files:`.

    \b
    Example:
      modelyard monitor rules > modelyard-rules.yml
    """
    text = session.yard.monitor.rules()
    session.show({"rules": text}, lambda: click.echo(text, nl=False))


def _row(window: Window) -> tuple[object, ...]:
    known = [n for n in _QUALITY if n in window.quality and n in window.quality_reference]
    quality = ", ".join(
        f"{name} {window.quality[name]:.3g} ({window.quality_reference[name]:.3g})" for name in known[:3]
    )
    drifted = ", ".join(window.drifted[:4]) + (" ..." if len(window.drifted) > 4 else "")
    short = window.end - window.start < timedelta(days=1)
    form = "%Y-%m-%d %H:%M" if short else "%Y-%m-%d"
    span = f"{window.start:{form}} to {window.end:{form}}"
    note = "" if window.enough else " (few)"
    return (span, window.version, f"{window.rows}{note}", window.labelled, drifted or "none", quality)


def read_labels(file: Path) -> Iterator[Label]:
    """The labels of a CSV file, one by one."""
    if not file.is_file():
        raise NotFoundError("file-not-found", f"there is no file {file}")
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:  # Excel begins such files with a mark
            yield from _labels_of(csv.DictReader(opened), file)
    except UnicodeDecodeError as fault:
        raise UsageError("labels-invalid", f"{file} is not UTF-8 text: {fault}", "save it as UTF-8") from None


def _labels_of(reader: csv.DictReader[str], file: Path) -> Iterator[Label]:
    lacking = {"prediction_id", "label"} - set(reader.fieldnames or ())
    if lacking:
        raise UsageError("labels-invalid", f"{file} has no column {', '.join(sorted(lacking))}")
    for line in reader:
        row = line.get("row") or "0"
        if not row.isdigit():
            raise UsageError("labels-invalid", f"{file}, line {reader.line_num}: row is '{row}'")
        yield Label(prediction_id=line["prediction_id"], row=int(row), value=_value(line["label"]))


def _value(text: str) -> Any:
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        return text
