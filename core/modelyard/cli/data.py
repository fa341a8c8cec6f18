"""`modelyard data`."""

from __future__ import annotations

import click

from modelyard import console
from modelyard.cli.base import Session, json_option
from modelyard.records import DataRef


@click.group()
def data() -> None:
    """Versions of data.

    \b
    Example:
      modelyard data add data/flights.parquet
    """


@data.command()
@click.argument("path")
@click.option("--name", help="What to call it.  [default: the file's name]")
@json_option
def add(session: Session, path: str, name: str | None) -> None:
    """Take a file or folder as a version.

    \b
    Example:
      modelyard data add data/flights.parquet
    """
    with console.waiting(f"hashing {path}"):
        ref = session.yard.data.add(path, name=name)
    session.show(
        ref,
        lambda: click.echo(f"{ref.name}: {ref.version} ({ref.files} files, {console.size(ref.size)})"),
    )


@data.command()
@json_option
def status(session: Session) -> None:
    """Every data set, compared with the working tree and the remote.

    \b
    Example:
      modelyard data status
    """
    found = session.yard.data.status()
    rows = [
        (s.ref.name, s.ref.path, s.state, s.ref.version, console.size(s.ref.size), s.ref.published)
        for s in found
    ]
    headers = ("NAME", "PATH", "STATE", "VERSION", "SIZE", "PUSHED")
    values = [{"state": s.state, "ref": s.ref.to_dict()} for s in found]
    session.show(values, lambda: console.table(headers, rows, empty="no data yet: modelyard data add PATH"))


@data.command()
@click.argument("names", nargs=-1)
@json_option
def push(session: Session, names: tuple[str, ...]) -> None:
    """Copy to the remote what it lacks.

    \b
    Example:
      modelyard data push
    """
    with console.waiting("pushing data"):
        refs = session.yard.data.push(names)
    session.show(refs, lambda: _print_refs(refs, "pushed to"))


@data.command()
@click.argument("names", nargs=-1)
@json_option
def pull(session: Session, names: tuple[str, ...]) -> None:
    """Bring the current versions here, each byte checked.

    \b
    Example:
      modelyard data pull flights
    """
    with console.waiting("pulling data"):
        refs = session.yard.data.pull(names)
    session.show(refs, lambda: _print_refs(refs, "pulled from"))


@data.command()
@click.argument("url", required=False)
@json_option
def remote(session: Session, url: str | None) -> None:
    """Show the remote, or name it: a folder or a URL.

    \b
    Example:
      modelyard data remote ../shared-data
    """
    if url is not None:
        session.yard.data.set_remote(url)
    there = session.yard.data.remote()
    session.show({"remote": there}, lambda: click.echo(there or "no remote yet: modelyard data remote URL"))


def _print_refs(refs: list[DataRef], verb: str) -> None:
    for ref in refs:
        click.echo(f"{ref.name}: {ref.version} {verb} {ref.remote}")
    if not refs:
        click.echo("no data yet: modelyard data add PATH")
