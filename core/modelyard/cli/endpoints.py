"""`modelyard endpoints`."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from modelyard import asking, console, tables
from modelyard.cli.base import Session, json_option
from modelyard.cli.showing import print_endpoint, print_explanation, print_graph
from modelyard.cli.watching import resumable, watched
from modelyard.client import Answer
from modelyard.errors import ConfigError, ModelyardError, UsageError
from modelyard.manifests import Source
from modelyard.records import Endpoint, Finding, RequestStats
from modelyard.targets import LOCAL

_COUNTED = ("ANSWERS OF", "REQUESTS", "REFUSED", "ERRORS", "MEDIAN", "P95")


@click.group()
def endpoints() -> None:
    """InferenceServices: what answers, with which model version.

    \b
    Example:
      modelyard endpoints apply -f late-flights.yaml
    """


@endpoints.command()
@click.option(
    "-f",
    "--file",
    "places",
    required=True,
    multiple=True,
    type=click.Path(),
    help="YAML of InferenceServices and graphs: a file, a folder, or - for standard input. May be repeated.",
)
@click.option("--watch", is_flag=True, help="Say what is waited for, and since when.")
@click.option(
    "--trust",
    is_flag=True,
    help="Load pickles and code of the model's files, as they are now, though no registry answers for them.",
)
@json_option
def apply(session: Session, places: tuple[str, ...], watch: bool, trust: bool) -> int:
    """Make the endpoints as the files say, and wait until they are ready.

    InferenceServices come first, then the InferenceGraphs that ask them. Of several none is applied if
    something is wrong with one; one that does not become ready does not hinder the others. Ctrl-C ends the
    waiting only. --trust holds for these files of the model for good, and for no others: another model is
    asked for anew.

    \b
    Example:
      modelyard endpoints apply -f late-flights.yaml --watch
    """
    found = session.yard.endpoints.read(*places)
    local = session.yard.target_name == LOCAL  # a cluster has a router of KServe's own
    services = [one for one in found if one.is_endpoint and (local or not one.is_graph)]
    for other in found:
        if local and other.is_runtime:
            for said in session.yard.endpoints.lint_text(other.text, str(other.file)):
                session.say(f"{said.file}, line {said.line}: {said.field} {said.message}")
        elif other not in services:
            session.say(f"{other.file}: its {other.kind} is not applied: it is for clusters")
    results = [_applied(session, one, watch, trust, alone=len(services) == 1) for one in services]
    value = results[0] if len(results) == 1 else results
    session.show(value, lambda: None)
    return max((int(r["error"]["exit_status"]) for r in results if isinstance(r, dict)), default=0)


def _applied(session: Session, source: Source, watch: bool, trust: bool, *, alone: bool) -> Any:
    """The endpoint; where it is one of several, instead of a failure what is to be told of it."""
    with resumable() as named, watched(silent=not watch or session.json) as shown:

        def progress(endpoint: Endpoint) -> None:
            named(endpoint)
            shown(endpoint)

        try:
            with contextlib.ExitStack() as until:
                if not watch:
                    doing = f"applying {source.file}: waiting for the model to load"
                    until.enter_context(console.waiting(doing))
                endpoint = session.yard.endpoints.apply(source, trust=trust, progress=progress)
        except ModelyardError as fault:
            if alone:
                raise
            if not session.json:
                click.echo(f"{source.file}:", err=True)
                console.print_error(fault)
            return {"file": str(source.file), "error": fault.to_dict()}
    if not session.json:
        print_endpoint(endpoint)
    return endpoint


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
    found = session.yard.endpoints.lint(*places, mode=mode)
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

    Where something is not as it should be, also why: conditions, processes and what they wait for, the last
    lines of a revision that failed, events, and what to do next. --json has everything, always.

    \b
    Example:
      modelyard endpoints show late-flights
    """
    explained = session.yard.endpoints.explain(name)
    endpoint = explained.endpoint
    try:
        counted, unknown = session.yard.endpoints.statistics(name), ""
    except ModelyardError as fault:  # what it is and where it stands is worth showing all the same
        counted, unknown = [], fault.message

    def human() -> None:
        print_endpoint(endpoint)
        print_graph(endpoint.graph)
        if counted:
            console.table(_COUNTED, [_counts(one) for one in counted])
        elif unknown:
            click.echo(f"requests are not known: {unknown}")
        print_explanation(explained)

    everything = explained.to_dict()
    everything.pop("endpoint")
    told = {**endpoint.to_dict(), **everything, "statistics": [one.to_dict() for one in counted]}
    session.show(told, human)


@endpoints.command()
@click.argument("name")
@click.option("-d", "--data", "rows", help="Rows as JSON: a list of objects or of lists.")
@click.option(
    "-f",
    "--file",
    "file",
    type=click.Path(path_type=Path),
    help="Rows from a CSV, Parquet or JSON file (- is JSON on stdin).",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write the predictions to a .csv, .parquet or .json file.",
)
@click.option("--protocol", type=click.Choice(["v1", "v2"]), default="v1", show_default=True)
@click.option("--params", help="What an MLflow model takes beside the rows: a JSON object.")
@click.option("--batch", type=click.IntRange(1), default=1000, show_default=True, help="Rows of a request.")
@click.option("--delimiter", default=",", show_default=True, help="Between the values of a CSV file.")
@json_option
def invoke(
    session: Session,
    name: str,
    rows: str | None,
    file: Path | None,
    output: Path | None,
    protocol: Any,
    params: str | None,
    batch: int,
    delimiter: str,
) -> None:
    """Ask for predictions.

    Values of a CSV file get the types that the model states; columns that it does not take are left out.
    In a file of predictions each line has the id of its request and its row there, by which labels find it.

    \b
    Example:
      modelyard endpoints invoke late-flights -d '[{"temp": 71.6, "carrier": "UA"}]'
      modelyard endpoints invoke late-flights -f flights.csv -o predictions.csv
      modelyard endpoints invoke delays -f flights.csv --params '{"quantile": 0.9}'
    """
    if (rows is None) == (file is None):
        raise UsageError("rows-missing", "give the rows with --data or --file (one of them)")
    if len(delimiter) != 1:
        raise UsageError("delimiter-invalid", f"{delimiter!r} is not one character")
    given = tables.parsed(rows) if rows is not None else file
    beside = tables.params_in(params) if params is not None else None
    answers = session.yard.endpoints.invoke(
        name, given, protocol=protocol, params=beside, batch=batch, delimiter=delimiter
    )
    if output is not None:
        _write(session, answers, output)
        return
    answered = []
    for answer in answers:
        if session.json:
            answered.append(answer)
            continue
        for prediction in answer.predictions:
            click.echo(json.dumps(prediction))
        click.echo(f"by {answer.model}/{answer.version}, revision {answer.revision}, id {answer.id}")
    session.show(answered[0] if len(answered) == 1 else answered, lambda: None)


def _write(session: Session, answers: Iterator[Answer], output: Path) -> None:
    counted: Counter[str] = Counter()
    with asking.written(output) as write:
        for answer in answers:
            write(answer)
            counted[f"{answer.model}/{answer.version}"] += len(answer.predictions)
    by = ", ".join(f"{model}: {rows}" for model, rows in sorted(counted.items()))
    told = {"output": str(output), "rows": sum(counted.values()), "models": dict(counted)}
    session.show(told, lambda: click.echo(f"{told['rows']} predictions in {output}, by {by}"))


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
    session.show(endpoint, lambda: print_endpoint(endpoint))


@endpoints.command()
@click.argument("name")
@click.option("-n", "--lines", default=100, show_default=True, help="How many lines.")
@click.option("--access", is_flag=True, help="The requests that it got, instead: JSON, one a line.")
@json_option
def logs(session: Session, name: str, lines: int, access: bool) -> None:
    """What the endpoint and its models wrote.

    \b
    Example:
      modelyard endpoints logs late-flights
      modelyard endpoints logs late-flights --access -n 1000 | jq 'select(.status >= 500)'
    """
    if access:
        requests = list(session.yard.endpoints.access_log(name, lines=lines))
        told = {"name": name, "requests": [json.loads(line) for line in requests]}
        session.show(told, lambda: click.echo("\n".join(requests), nl=bool(requests)))
        return
    written = list(session.yard.endpoints.logs(name, lines=lines))
    session.show({"name": name, "lines": written}, lambda: click.echo("\n".join(written)))


@endpoints.command()
@click.argument("name")
@click.option("--new", "anew", is_flag=True, help="Make another one; the old one is refused from then on.")
@json_option
def token(session: Session, name: str, anew: bool) -> None:
    """Print the token that the endpoint asks of callers.

    `modelyard endpoints invoke`, Python and the panel send it by themselves.

    \b
    Example:
      curl -H "Authorization: Bearer $(modelyard endpoints token late-flights)" ...
    """
    found = session.yard.endpoints.token(name, anew=anew)
    session.show({"name": name, "token": found}, lambda: click.echo(found))


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


def _print_findings(found: list[Finding]) -> None:
    for one in found:
        field = f" {one.field}:" if one.field else ""
        hint = f"; {one.hint}" if one.hint else ""
        click.echo(f"{one.file}:{one.line}: {one.level}:{field} {one.message}{hint}")
    counted = Counter(one.level for one in found)
    told = [f"{counted[level]} {level}{'s' * (counted[level] != 1)}" for level in ("error", "warning")]
    click.echo(", ".join(told) if found else "nothing to say")


def _counts(one: RequestStats) -> tuple[object, ...]:
    median, slow = (f"{1000 * s:.1f} ms" if s is not None else "-" for s in (one.p50, one.p95))
    return one.revision, one.requests, one.refused, one.errors, median, slow


def _split(endpoint: Endpoint) -> str:
    return ", ".join(f"{r.model}/{r.version} {r.traffic} %" for r in endpoint.revisions if r.traffic)
