"""`modelyard demo`."""

from __future__ import annotations

from pathlib import Path

import click

from modelyard.cli.base import Session, json_option


@click.command()
@click.argument("folder", default="modelyard-demo", type=click.Path(path_type=Path))
@click.option("--keep", is_flag=True, help="Leave the endpoint and the monitor running.")
@click.option("--fast", is_flag=True, help="Less data and traffic.")
@json_option
def demo(session: Session, folder: Path, keep: bool, fast: bool) -> None:
    """See the whole loop on real flights data: track, version, gate, promote, serve, drift, roll back.

    Makes an ordinary project in FOLDER that you can go on with. Interrupted, the same command goes on.

    \b
    Example:
      modelyard demo
    """
    from modelyard.demo import run_demo

    run_demo(folder, keep=keep, fast=fast, json=session.json)
