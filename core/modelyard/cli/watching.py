"""What people see while an endpoint is being made."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

import click

from modelyard.cli.showing import ago, waits
from modelyard.records import Endpoint
from modelyard.stages import Progress


@contextlib.contextmanager
def watched(*, silent: bool) -> Iterator[Progress]:
    """Gives what is told the endpoint while it is waited for: it changes in place on a terminal; elsewhere
    every change is a line.

    Args:
        silent: print nothing.
    """
    if silent:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _live() as progress:
            yield progress
    else:
        yield _Lines()


@contextlib.contextmanager
def resumable() -> Iterator[Progress]:
    """Whoever interrupts the block learns that the endpoint is being made all the same, and how to look.

    Gives what is told the endpoint, so that its name is known.
    """
    names = [""]

    def progress(endpoint: Endpoint) -> None:
        names.append(endpoint.name)

    try:
        yield progress
    except KeyboardInterrupt:
        if names[-1]:
            click.echo(
                f"\n{names[-1]} is still being made; look again: modelyard endpoints show {names[-1]}",
                err=True,
            )
        raise


class _Lines:
    """A line for everything that is waited for, once."""

    def __init__(self) -> None:
        self._said: list[str] = []

    def __call__(self, endpoint: Endpoint) -> None:
        waiting = [what for what, _ in waits(endpoint)]
        for what in waiting:
            if what not in self._said:
                click.echo(f"{time.strftime('%H:%M:%S')} {what}")
        self._said = waiting


@contextlib.contextmanager
def _live() -> Iterator[Progress]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.spinner import Spinner

    seen: list[Endpoint] = []
    spinner = Spinner("dots")

    class Waiting:
        """Drawn again a few times a second, so that the seconds run."""

        def __rich__(self) -> Group:
            waiting = list(waits(seen[-1])) if seen else []
            spinner.update(text=f"waiting for {seen[-1].name}" if seen else "reading")
            return Group(spinner, *(f"  {what} ({ago(since)})" for what, since in waiting))

    console = Console(stderr=True, markup=False, highlight=False)
    with Live(Waiting(), console=console, refresh_per_second=4, transient=True):
        yield lambda endpoint: seen.__setitem__(slice(None), [endpoint])
