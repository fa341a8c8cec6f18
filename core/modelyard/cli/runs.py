"""`modelyard runs`."""

from __future__ import annotations

import click

from modelyard import console
from modelyard.cli.base import Session, json_option
from modelyard.records import Run


@click.group()
def runs() -> None:
    """Tracked runs.

    \b
    Example:
      modelyard runs list
    """


@runs.command("list")
@click.option("--name", help="Only runs of this name.")
@click.option("-n", "--limit", type=click.IntRange(1), default=20, show_default=True, help="How many.")
@json_option
def list_(session: Session, name: str | None, limit: int) -> None:
    """The newest runs first.

    \b
    Example:
      modelyard runs list --name late-flights
    """
    found = session.yard.runs.list(name=name, limit=limit)
    rows = [(r.id, r.name, r.status, r.started, r.user, _values(r.metrics, 3)) for r in found]
    headers = ("RUN", "NAME", "STATUS", "STARTED (UTC)", "BY", "METRICS")
    session.show(found, lambda: console.table(headers, rows, empty="no runs yet: modelyard run train.py"))


@runs.command()
@click.argument("run_id")
@json_option
def show(session: Session, run_id: str) -> None:
    """One run with its parameters, metrics, data and code.

    \b
    Example:
      modelyard runs show 3f2a91
    """
    run = session.yard.runs.get(run_id)
    session.show(run, lambda: _print_run(run))


@runs.command()
@click.argument("run_ids", nargs=-1, required=True)
@json_option
def compare(session: Session, run_ids: tuple[str, ...]) -> None:
    """Runs side by side: what they share is left out, what differs is shown.

    \b
    Example:
      modelyard runs compare 3f2a91 77b0c2
    """
    found = session.yard.runs.compare(run_ids)
    session.show(found, lambda: _print_comparison(found))


@runs.command()
@click.argument("run_id")
@click.option("-n", "--lines", type=click.IntRange(1), default=100, show_default=True, help="How many lines.")
@json_option
def logs(session: Session, run_id: str, lines: int) -> None:
    """What a run printed, as far as it ran on this machine.

    \b
    Example:
      modelyard runs logs 3f2a91
    """
    written = session.yard.runs.logs(run_id, lines=lines)
    session.show({"run": run_id, "lines": written}, lambda: click.echo("\n".join(written)))


def _print_run(run: Run) -> None:
    click.echo(f"run {run.id} '{run.name}', {run.status}, by {run.user}")
    click.echo(
        f"started  {run.started:%Y-%m-%d %H:%M:%S} UTC" + (f", took {_took(run)}" if run.ended else "")
    )
    click.echo(f"code     {run.code.entry_point or '-'}, {run.code.state}")
    for use in run.data:
        click.echo(f"data     {use.role}: {use.ref.path} ({use.ref.scheme} {use.ref.version})")
    for uri in run.models:
        click.echo(f"model    {uri}")
    for title, values in (("params", run.params), ("metrics", run.metrics), ("tags", run.tags)):
        if values:
            click.echo(f"{title:8} {_values(values, len(values))}")


def _print_comparison(found: list[Run]) -> None:
    rows: list[tuple[object, ...]] = []
    for kind in ("params", "metrics"):
        names = sorted({name for run in found for name in getattr(run, kind)})
        for name in names:
            values = [getattr(run, kind).get(name) for run in found]
            if len({repr(value) for value in values}) > 1:
                rows.append((name, *values))
    data = [", ".join(f"{u.role}={u.ref.version[:10]}" for u in run.data) for run in found]
    if len(set(data)) > 1:
        rows.append(("data", *data))
    headers = ("", *(f"{run.name} {run.id[:8]}" for run in found))
    console.table(headers, rows, empty="the runs do not differ")


def _values(values: object, limit: int) -> str:
    items = sorted(dict(values).items())[:limit]  # type: ignore[call-overload]
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in items)


def _took(run: Run) -> str:
    assert run.ended is not None
    return f"{(run.ended - run.started).total_seconds():.1f} s"
