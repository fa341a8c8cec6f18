"""`modelyard ship`."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from modelyard import console
from modelyard.cli.base import Session, json_option

if TYPE_CHECKING:
    from modelyard.shipping.records import Progress, Shipment


@click.command()
@click.option("--to", required=True, metavar="TARGET", help="Where to, e.g. sandbox.")
@click.option("--model", "models", multiple=True, metavar="NAME", help="Only this model, and its data.")
@click.option("--dry-run", is_flag=True, help="Say what would be copied; change nothing.")
@json_option
def ship(session: Session, to: str, models: tuple[str, ...], dry_run: bool) -> int:
    """Copy data, registered models with their runs, aliases and history to a target.

    What is there already is left alone, so that the same command brings what is new later, and goes on after
    an interruption. A version whose files were changed is refused; the others go on without it, but the
    aliases and the history of its model wait.

    \b
    Example:
      modelyard ship --to sandbox
    """
    # Tools of this size make so many objects that looking for garbage takes a sixth of the time.
    gc.set_threshold(200_000, 20, 20)
    with _progress() as progress:
        shipped = session.yard.ship(to, models=models, dry_run=dry_run, progress=progress)
    session.show(shipped, lambda: _print(shipped))
    for refused in shipped.refused:
        if not session.json:
            click.echo(f"refused: {refused['message']} [{refused['code']}]", err=True)
            click.echo(f"  next: {refused['hint']}", err=True)
    return max((int(refused["exit_status"]) for refused in shipped.refused), default=0)


def _print(shipped: Shipment) -> None:
    rows: list[tuple[object, ...]] = [
        ("data", item.name, item.version[:10], item.state, _size(item.bytes)) for item in shipped.data
    ]
    rows += [("model", v.ref, v.there, v.state, _size(v.bytes)) for v in shipped.versions]
    rows += [("alias", f"{a.model}@{a.alias}", a.version, a.state, None) for a in shipped.aliases]
    rows += [
        ("history", model, f"{count} events", "new", None)
        for model, count in shipped.promotions.items()
        if count
    ]
    console.table(("WHAT", "NAME", "THERE", "STATE", "SIZE"), rows, empty="there is nothing to ship")
    if shipped.empty and not shipped.refused:
        click.echo(f"everything is on {shipped.target} already")
    else:
        verb = "would be" if shipped.dry_run else "were"
        click.echo(f"{console.size(shipped.bytes)} {verb} copied to {shipped.target}")


def _size(count: int) -> str | None:
    return console.size(count) if count else None


@contextlib.contextmanager
def _progress() -> Iterator[Progress | None]:
    """A bar of bytes on a terminal; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    from modelyard.shipping.records import Progress

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    text = TextColumn("{task.description}", markup=False)
    with Bars(text, *columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("shipping", total=None)

        class Shown(Progress):
            def more(self, size: int) -> None:
                bars.update(task, total=(bars.tasks[task].total or 0) + size)

            def advance(self, size: int) -> None:
                bars.advance(task, size)

            def say(self, what: str) -> None:
                bars.update(task, description=what)

        yield Shown()
