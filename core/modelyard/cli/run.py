"""`modelyard run`."""

from __future__ import annotations

import click

from modelyard.cli.base import Session
from modelyard.execute import execute


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("what", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def run(session: Session, what: tuple[str, ...]) -> int:
    """Run a script, a notebook or a command as part of the project.

    Runs that it tracks name it as their entry point; its exit status is passed on.

    \b
    Example:
      modelyard run train.py --depth 6
      modelyard run explore.ipynb
      modelyard run -- make features
    """
    return execute(session.yard.root, what)
