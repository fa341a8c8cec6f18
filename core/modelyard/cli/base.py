"""What all commands share: lazy groups, `--json`, and the session that opens the project."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from modelyard import console

if TYPE_CHECKING:
    from modelyard.yard import Yard

F = TypeVar("F", bound=Callable[..., Any])


class Session:
    """One run of the command line."""

    def __init__(self, folder: Path | None, overrides: tuple[str, ...], target: str | None = None) -> None:
        self.folder = folder
        self.overrides = overrides
        self.target = target
        self.json = False

    @cached_property
    def yard(self) -> Yard:
        """The project, with its settings checked."""
        from modelyard import yard

        return yard.open(self.folder, set=self.overrides, target=self.target)

    @cached_property
    def bare_yard(self) -> Yard:
        """The project without its settings: enough for what lies in `.modelyard/`, and fast."""
        from modelyard.project import find_root
        from modelyard.targets import chosen
        from modelyard.yard import Yard

        root = find_root(self.folder)
        return Yard(root, overrides=self.overrides, target=chosen(root, self.target))

    def show(self, value: Any, human: Callable[[], object]) -> None:
        """Print the value as JSON where that was asked for, else call what prints it for people."""
        if self.json:
            console.print_json(value)
        else:
            human()

    def say(self, text: str) -> None:
        """Print a line for people; nothing with `--json`."""
        if not self.json:
            click.echo(text)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called.

    Args:
        lazy: name -> (`module:attribute`, short help); the short help spares the import for `--help`.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names in the order in which they were written down: the order of the work."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command."""
        if cmd_name not in self._lazy:
            return None
        module, _, attribute = self._lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The commands with their short help, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._lazy.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Say which command was meant."""
        if args and args[0] not in self._lazy and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], self._lazy, n=1)
            meant = f" Did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"No such command '{args[0]}'.{meant}")
        return super().resolve_command(ctx, args)


def json_option(function: F) -> F:
    """Give a command `--json`, and the session as its first argument."""

    def switch(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            ctx.ensure_object(Session).json = True

    @click.option(
        "--json", is_flag=True, expose_value=False, callback=switch, is_eager=True, help="Print JSON."
    )
    @click.pass_obj
    @functools.wraps(function)
    def command(session: Session, *args: Any, **kwargs: Any) -> Any:
        return function(session, *args, **kwargs)

    return command  # type: ignore[return-value]
