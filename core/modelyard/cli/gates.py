"""`modelyard gates`."""

from __future__ import annotations

from collections.abc import Iterable

import click

from modelyard import console
from modelyard.cli.base import Session, json_option
from modelyard.records import GateResult


@click.group()
def gates() -> None:
    """What a promotion must pass: the gates that gates.toml names.

    \b
    Example:
      modelyard gates check late-flights/2 --to production
    """


@gates.command("list")
@json_option
def list_(session: Session) -> None:
    """The gates that are offered, and those that this project asks for.

    \b
    Example:
      modelyard gates list
    """
    from modelyard.config import load_gates

    yard = session.yard
    wanted = [table.check for table in load_gates(yard.root)]
    offered = [
        {
            "gate": o.offer.name,
            "summary": o.offer.summary,
            "plugin": o.plugin.distribution,
            "required": o.offer.name in wanted,
        }
        for o in yard.plugins.offers("modelyard_gates")
    ]
    rows = [(g["gate"], g["required"], g["plugin"], g["summary"]) for g in offered]
    session.show(offered, lambda: console.table(("GATE", "IN gates.toml", "FROM", "WHAT"), rows))


@gates.command()
@click.argument("version")
@click.option("--to", "alias", required=True, help="The alias that it wants.")
@json_option
def check(session: Session, version: str, alias: str) -> int:
    """Ask the gates about MODEL/VERSION; nothing moves. Exit status 6 if one refuses.

    \b
    Example:
      modelyard gates check late-flights/2 --to production
    """
    results = session.yard.check_gates(version, to=alias)
    session.show(results, lambda: print_results(results))
    return 0 if all(result.passed for result in results) else 6


def print_results(results: Iterable[GateResult]) -> None:
    """One line per gate."""
    results = list(results)
    for result in results:
        click.echo(f"{'pass' if result.passed else 'FAIL'}  {result.gate}: {result.message}")
    if not results:
        click.echo("no gates apply: name some in gates.toml")
