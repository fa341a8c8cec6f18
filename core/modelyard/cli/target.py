"""`modelyard target`: where the project's stages run."""

from __future__ import annotations

import json

import click

from modelyard import console, targets
from modelyard.cli.base import Session, json_option
from modelyard.errors import ConflictError, NotFoundError, UsageError
from modelyard.project import PROJECT_FILE


@click.group()
def target() -> None:
    """Where the project's stages run: on this machine, in the sandbox, on a named cluster.

    \b
    Example:
      modelyard target list
    """


@target.command("list")
@json_option
def list_(session: Session) -> None:
    """Every target that there is, and which one commands take.

    \b
    Example:
      modelyard target list
    """
    yard = session.yard
    found = targets.names(yard.settings, yard.plugins)
    rows = [("*" if name == yard.target_name else "", name, said) for name, said in found.items()]
    session.show(
        {"current": yard.target_name, "targets": found},
        lambda: console.table(("", "NAME", "WHAT"), rows),
    )


@target.command()
@click.argument("name", required=False)
@json_option
def use(session: Session, name: str | None) -> None:
    """Take the target NAME from now on, on this machine; without NAME, what modelyard.toml says.

    --target and MODELYARD_TARGET win over it.

    \b
    Example:
      modelyard target use sandbox
    """
    yard = session.yard
    there = targets.names(yard.settings, yard.plugins)
    if name is not None and name not in there:
        raise NotFoundError(
            "target-unknown",
            f"there is no target '{name}'; there are: {', '.join(there)}",
            "modelyard sandbox up makes 'sandbox'; modelyard target add names another cluster",
        )
    targets.use(yard.root, name)
    now = targets.chosen(yard.root)
    session.show({"current": now}, lambda: click.echo(f"commands take the target '{now}'"))


@target.command()
@click.argument("name")
@click.option("--context", help="A context of the kubeconfig.  [default: the current one]")
@click.option("--kubeconfig", help="The file.  [default: $KUBECONFIG or ~/.kube/config]")
@click.option("--namespace", default="default", show_default=True, help="Where InferenceServices go.")
@json_option
def add(session: Session, name: str, context: str | None, kubeconfig: str | None, namespace: str) -> None:
    """Write a cluster into modelyard.toml as the target NAME. Its services are looked for where our sandbox
    has them; [targets.NAME.services] says otherwise.

    \b
    Example:
      modelyard target add prod --context prod-eu --namespace team-a
    """
    yard = session.yard
    if name in targets.names(yard.settings, yard.plugins):
        raise ConflictError(
            "target-exists", f"there is a target '{name}' already", f"edit {yard.root / PROJECT_FILE}"
        )
    if not name.replace("-", "").isalnum() or not name.isascii() or not name.islower():
        raise UsageError("target-name", f"'{name}' can't be a target's name: lower-case letters, digits, '-'")
    values = {"context": context, "kubeconfig": kubeconfig, "namespace": namespace}
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None]
    table = "\n".join([f"[targets.{name}]", *lines])
    targets.add_table(yard.root, table)
    session.show(
        {"name": name, **values},
        lambda: click.echo(f"'{name}' is in {PROJECT_FILE}; next: modelyard --target {name} doctor"),
    )
