"""`modelyard endpoints`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from modelyard import console
from modelyard.cli.base import Session, json_option
from modelyard.errors import ConfigError, ModelyardError, NotFoundError, UsageError
from modelyard.records import Endpoint, Finding, RequestStats
from modelyard.state import os_errors

_COUNTED = ("ANSWERS OF", "REQUESTS", "REFUSED", "ERRORS", "MEDIAN", "P95")


@click.group()
def endpoints() -> None:
    """InferenceServices: what answers, with which model version.

    \b
    Example:
      modelyard endpoints apply -f late-flights.yaml
    """


@endpoints.command()
@click.option("-f", "--file", "manifest", required=True, type=click.Path(), help="InferenceService YAML.")
@json_option
def apply(session: Session, manifest: str) -> None:
    """Make the endpoint as the file says, and wait until it is ready.

    \b
    Example:
      modelyard endpoints apply -f late-flights.yaml
    """
    with console.waiting(f"applying {manifest}: waiting for the model to load"):
        endpoint = session.yard.endpoints.apply(manifest)
    session.show(endpoint, lambda: _print_endpoint(endpoint))


@endpoints.command()
@click.argument("places", nargs=-1, required=True, metavar="FILE...")
@click.option("--target", "mode", metavar="MODE", help="How it would be deployed: local, knative, standard.")
@json_option
def lint(session: Session, places: tuple[str, ...], mode: str | None) -> int:
    """Say what is wrong in files, and what they say that will not be so.

    FILE is a file, a folder or - for standard input. Without --target they are read for where `apply` would
    make the endpoint now. Nothing is applied; the exit status is 3 if something is wrong.

    \b
    Example:
      modelyard endpoints lint late-flights.yaml --target standard
    """
    found = []
    for place in places:
        if place == "-":
            found += session.yard.endpoints.lint_text(_stdin(), "<stdin>", mode=mode)
        else:
            found += session.yard.endpoints.lint(place, mode=mode)
    session.show(found, lambda: _print_findings(found))
    return ConfigError.exit_status if any(one.level == "error" for one in found) else 0


@endpoints.command("list")
@json_option
def list_(session: Session) -> None:
    """Every endpoint.

    \b
    Example:
      modelyard endpoints list
    """
    found = session.yard.endpoints.list()
    rows = [(e.name, "yes" if e.ready else "no", e.url, _split(e), e.message) for e in found]
    headers = ("NAME", "READY", "URL", "TRAFFIC", "")
    empty = "no endpoints yet: modelyard endpoints apply -f FILE"
    session.show(found, lambda: console.table(headers, rows, empty=empty))


@endpoints.command()
@click.argument("name")
@json_option
def show(session: Session, name: str) -> None:
    """One endpoint with its revisions, and what they answered since their processes started.

    \b
    Example:
      modelyard endpoints show late-flights
    """
    endpoint = session.yard.endpoints.get(name)
    try:
        counted, unknown = session.yard.endpoints.statistics(name), ""
    except ModelyardError as fault:  # what it is and where it stands is worth showing all the same
        counted, unknown = [], fault.message

    def human() -> None:
        _print_endpoint(endpoint)
        if counted:
            console.table(_COUNTED, [_counts(one) for one in counted])
        elif unknown:
            click.echo(f"requests are not known: {unknown}")

    session.show({**endpoint.to_dict(), "statistics": [one.to_dict() for one in counted]}, human)


@endpoints.command()
@click.argument("name")
@click.option("-d", "--data", "rows", help="Rows as JSON: a list of objects or of lists.")
@click.option(
    "-f", "--file", "file", type=click.Path(path_type=Path), help="The same from a file (- is stdin)."
)
@click.option("--protocol", type=click.Choice(["v1", "v2"]), default="v1", show_default=True)
@json_option
def invoke(session: Session, name: str, rows: str | None, file: Path | None, protocol: Any) -> None:
    """Ask for predictions.

    \b
    Example:
      modelyard endpoints invoke late-flights -d '[{"temp": 71.6, "carrier": "UA"}]'
    """
    answer = session.yard.endpoints.get(name).predict(_rows(rows, file), protocol=protocol)

    def human() -> None:
        for prediction in answer.predictions:
            click.echo(json.dumps(prediction))
        click.echo(f"by {answer.model}/{answer.version}, revision {answer.revision}, id {answer.id}")

    session.show(answer, human)


@endpoints.command()
@click.argument("name")
@click.option("--canary", required=True, type=click.IntRange(0, 100), help="Percent for the newest revision.")
@json_option
def traffic(session: Session, name: str, canary: int) -> None:
    """Split the traffic between the newest revision and the one before.

    \b
    Example:
      modelyard endpoints traffic late-flights --canary 20
    """
    endpoint = session.yard.endpoints.traffic(name, canary)
    session.show(endpoint, lambda: _print_endpoint(endpoint))


@endpoints.command()
@click.argument("name")
@click.option("-n", "--lines", default=100, show_default=True, help="How many lines.")
@json_option
def logs(session: Session, name: str, lines: int) -> None:
    """What the endpoint and its models wrote.

    \b
    Example:
      modelyard endpoints logs late-flights
    """
    written = list(session.yard.endpoints.logs(name, lines=lines))
    session.show({"name": name, "lines": written}, lambda: click.echo("\n".join(written)))


@endpoints.command()
@click.argument("name")
@json_option
def delete(session: Session, name: str) -> None:
    """End the endpoint's processes and forget it; models and logs stay.

    \b
    Example:
      modelyard endpoints delete late-flights
    """
    session.yard.endpoints.delete(name)
    session.show({"deleted": name}, lambda: click.echo(f"{name} is gone"))


def _stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as fault:
        raise ConfigError(
            "manifest-invalid", f"<stdin>: it is not UTF-8 text: {fault}", "save it as UTF-8"
        ) from None


def _print_findings(found: list[Finding]) -> None:
    for one in found:
        field = f" {one.field}:" if one.field else ""
        hint = f"; {one.hint}" if one.hint else ""
        click.echo(f"{one.file}:{one.line}: {one.level}:{field} {one.message}{hint}")
    counted = Counter(one.level for one in found)
    told = [f"{counted[level]} {level}{'s' * (counted[level] != 1)}" for level in ("error", "warning")]
    click.echo(", ".join(told) if found else "nothing to say")


def _rows(text: str | None, file: Path | None) -> Any:
    if (text is None) == (file is None):
        raise UsageError("rows-missing", "give the rows with --data or --file (one of them)")
    try:
        rows = json.loads(_read(file) if file is not None else text or "")
    except ValueError as fault:
        raise UsageError("rows-invalid", f"the rows are not JSON: {fault}") from None
    rows = rows.get("instances", rows) if isinstance(rows, dict) else rows
    if not isinstance(rows, list):
        raise UsageError("rows-invalid", "the rows are not a list", "give a list of objects or of lists")
    return rows


def _read(file: Path) -> bytes:
    if file == Path("-"):
        return sys.stdin.buffer.read()
    if not file.is_file():
        raise NotFoundError("file-not-found", f"there is no file {file}")
    with os_errors(file):
        return file.read_bytes()


def _print_endpoint(endpoint: Endpoint) -> None:
    state = "ready" if endpoint.ready else "not ready"
    click.echo(
        f"{endpoint.name} is {state} on {endpoint.url or 'no address'}, follows {endpoint.storage_uri}"
    )
    if endpoint.message:
        click.echo(f"  {endpoint.message}")
    rows = [
        (r.name, f"{r.model}/{r.version}", f"{r.traffic} %", r.ready, r.created, r.message)
        for r in endpoint.revisions
    ]
    console.table(("REVISION", "MODEL", "TRAFFIC", "READY", "CREATED (UTC)", ""), rows)


def _counts(one: RequestStats) -> tuple[object, ...]:
    median, slow = (f"{1000 * s:.1f} ms" if s is not None else "-" for s in (one.p50, one.p95))
    return one.revision, one.requests, one.refused, one.errors, median, slow


def _split(endpoint: Endpoint) -> str:
    return ", ".join(f"{r.model}/{r.version} {r.traffic} %" for r in endpoint.revisions if r.traffic)
