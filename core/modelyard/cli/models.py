"""`modelyard models`."""

from __future__ import annotations

import click

from modelyard import console
from modelyard.cli.base import Session, json_option
from modelyard.records import ModelVersion


@click.group()
def models() -> None:
    """Registered models.

    \b
    Example:
      modelyard models list
    """


@models.command("list")
@json_option
def list_(session: Session) -> None:
    """Every model with its newest version and its aliases.

    \b
    Example:
      modelyard models list
    """
    area = session.yard.models
    found = {name: area.versions(name) for name in area.names()}
    rows = [
        (name, len(versions), versions[0].version if versions else None, _aliases(versions))
        for name, versions in found.items()
    ]
    headers = ("MODEL", "VERSIONS", "NEWEST", "ALIASES")
    empty = "no models yet: modelyard models register NAME --run RUN"
    session.show(found, lambda: console.table(headers, rows, empty=empty))


@models.command()
@click.argument("model")
@json_option
def show(session: Session, model: str) -> None:
    """One version (MODEL/VERSION or MODEL@ALIAS), or all versions of MODEL.

    \b
    Example:
      modelyard models show late-flights@production
    """
    area = session.yard.models
    found = [area.get(model)] if "/" in model or "@" in model else area.versions(model)
    rows = [
        (v.ref, ", ".join(v.aliases), v.created, v.user, v.run_id, v.signature, (v.digest or "")[:12])
        for v in found
    ]
    headers = ("VERSION", "ALIASES", "CREATED (UTC)", "BY", "RUN", "SIGNATURE", "SHA256")
    session.show(found, lambda: console.table(headers, rows))


@models.command()
@click.argument("name")
@click.option("--run", "run_id", required=True, help="The run that logged the model.")
@json_option
def register(session: Session, name: str, run_id: str) -> None:
    """Register the model of a run as a new version of NAME.

    \b
    Example:
      modelyard models register late-flights --run 3f2a91
    """
    version = session.yard.models.register(name, run=run_id)
    session.show(version, lambda: click.echo(f"{version.ref} registered from run {version.run_id}"))


def _aliases(versions: list[ModelVersion]) -> str:
    return ", ".join(f"{alias}={v.version}" for v in versions for alias in v.aliases)
