"""`modelyard plugins`."""

from __future__ import annotations

import click

from modelyard import console
from modelyard.cli.base import Session, json_option
from modelyard.errors import ModelyardError, NotFoundError
from modelyard.offers import PluginInfo
from modelyard.plugins import PluginManager


@click.group()
def plugins() -> None:
    """What is installed.

    \b
    Example:
      modelyard plugins list
    """


@plugins.command("list")
@json_option
def list_(session: Session) -> None:
    """Every plugin, where it comes from, what it offers, and whether it works.

    \b
    Example:
      modelyard plugins list
    """
    infos = _manager(session).infos()
    rows = [(i.name, i.distribution, i.version, i.status, _offers(i), i.message) for i in infos]
    headers = ("PLUGIN", "FROM", "VERSION", "STATUS", "OFFERS", "")
    session.show([_values(info) for info in infos], lambda: console.table(headers, rows))


@plugins.command()
@click.argument("name", required=False)
@json_option
def check(session: Session, name: str | None) -> int:
    """Say of each plugin (or of NAME) whether it loads and its offers are sound. Exit status 3 if not.

    \b
    Example:
      modelyard plugins check mlflow
    """
    infos = [info for info in _manager(session).infos() if name in (None, info.name)]
    if not infos:
        raise NotFoundError("plugin-not-found", f"there is no plugin '{name}'", "modelyard plugins list")

    def human() -> None:
        for info in infos:
            hooks = ", ".join(info.hooks) or "no hooks"
            click.echo(f"{info.status:12} {info.name} of {info.distribution}: {info.message or hooks}")

    session.show([_values(info) for info in infos], human)
    return 3 if any(info.status in ("broken", "conflict") for info in infos) else 0


def _manager(session: Session) -> PluginManager:
    from modelyard.project import find_root

    try:
        root = find_root(session.folder)
    except ModelyardError:
        root = None
    return PluginManager(root, warn=lambda _: None)


def _offers(info: PluginInfo) -> str:
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in info.offers.items())


def _values(info: PluginInfo) -> dict[str, object]:
    import dataclasses

    return dataclasses.asdict(info)
