"""`%modelyard` and `%%modelyard run`: the command line and runs, in a notebook.

    %load_ext modelyard_jupyter
    %modelyard runs list

    %%modelyard run late-flights -p depth=6
    run.log({"auc": 0.71})

Runs are linked to their cells without it (`cells.py`); it adds the magics, and tables where a cell's last
value is a list of records.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import io
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click
from IPython.display import display

from modelyard import html, project, targets
from modelyard.cli import cli
from modelyard.cli.base import Session
from modelyard.errors import ModelyardError, UsageError
from modelyard.state import fault_of
from modelyard.yard import Yard
from modelyard.yard import open as open_yard


def load_ipython_extension(shell: Any) -> None:
    """Add the magics, and how lists of records look."""
    shell.register_magic_function(Magics(shell).modelyard, "line_cell", "modelyard")
    _html_formatter(shell).for_type(list, _list_as_html)


def unload_ipython_extension(shell: Any) -> None:
    """Take away what `load_ipython_extension` added."""
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("modelyard", None)
    _html_formatter(shell).pop(list, None)


class Magics:
    """What `%modelyard` and `%%modelyard` do in one IPython."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._yards: dict[object, Yard] = {}
        self._debug = False
        self._line = copy.copy(cli)
        self._line.callback = self._begin
        self._cell = click.Group("modelyard", params=cli.params, callback=self._begin, commands=[_run])

    def modelyard(self, line: str, cell: str | None = None) -> None:
        """Any command of Modelyard, in the project around the notebook; lists are shown as tables.

        `%%modelyard run NAME [-p KEY=VALUE]...` runs the cell as a run; it is called `run` in the cell.

        Example:
            %modelyard models show late-flights
        """
        __tracebackhide__ = True
        words = _words(line) or ["--help"]
        if cell is None:
            status = self._guarded(self._line, "%modelyard", words)
            if isinstance(status, int) and status:
                said = f"modelyard {line} ended with status {status}"
                raise _sentence(ModelyardError("command-failed", said))
            return
        started = self._guarded(self._cell, "%%modelyard", words)
        if isinstance(started, Started):
            self._run_cell(started, cell)

    def _begin(
        self, project: Path | None, target: str | None, overrides: tuple[str, ...], debug: bool
    ) -> None:
        self._debug = debug
        click.get_current_context().obj = NotebookSession(self._yard, project, overrides, target)

    def _guarded(self, group: click.Group, name: str, words: list[str]) -> object:
        """What the command returns; what goes wrong is said in one sentence."""
        self._debug = False
        try:
            return group.main(words, prog_name=name, standalone_mode=False)
        except click.exceptions.Abort:
            raise KeyboardInterrupt from None
        except click.ClickException as fault:
            raise _sentence(UsageError("usage", fault.format_message(), "%modelyard --help")) from None
        except ModelyardError as fault:
            raise fault if self._debug else _sentence(fault) from None
        except OSError as fault:
            raise _sentence(fault_of(fault, Path(fault.filename or "."))) from fault
        except Exception as fault:
            if self._debug:
                raise
            said = f"{type(fault).__name__}: {' '.join(str(fault).split())}"
            hint = "run it again with --debug and report what it shows"
            raise _sentence(ModelyardError("unexpected", said, hint)) from fault

    def _run_cell(self, started: Started, cell: str) -> None:
        """The cell as it would run without the magic, with its names, magics, traceback and last value."""
        __tracebackhide__ = True
        shell = self._shell
        source = shell.transform_cell(cell)
        name = shell.compile.cache(source, shell.execution_count, raw_code=cell)
        # Read before the run begins: what is no Python is no failed run.
        body = shell.transform_ast(shell.compile.ast_parse(source, filename=name)).body
        last = [ast.Interactive([body.pop()])] if body and isinstance(body[-1], ast.Expr) else []
        steps = [shell.compile(ast.Module(body, []), name, "exec")]
        steps += [shell.compile(step, name, "single") for step in last]
        with _sentences():
            run = started.yard.run(started.name, params=started.params)
        shell.user_ns["run"] = run
        with run:
            for step in steps:
                exec(step, shell.user_global_ns, shell.user_ns)

    def _yard(self, folder: Path | None, overrides: tuple[str, ...], target: str | None) -> Yard:
        """The project, opened once: opening its store again for every line would take a while."""
        root = project.find_root(folder)
        written = (root / project.PROJECT_FILE).stat().st_mtime_ns
        key = (root, written, overrides, targets.chosen(root, target))
        if key not in self._yards:
            self._yards = {key: open_yard(folder, set=overrides, target=target)}
        return self._yards[key]


class NotebookSession(Session):
    """A command's session that shows records as tables."""

    def __init__(
        self,
        opened: Callable[[Path | None, tuple[str, ...], str | None], Yard],
        folder: Path | None,
        overrides: tuple[str, ...],
        target: str | None,
    ) -> None:
        super().__init__(folder, overrides, target)
        self._opened = opened

    @cached_property
    def yard(self) -> Yard:
        """See `Session.yard`."""
        return self._opened(self.folder, self.overrides, self.target)

    def show(self, value: Any, human: Callable[[], object]) -> None:
        """See `Session.show`."""
        table = None if self.json else html.answer(value)
        if table is None:
            super().show(value, human)
            return
        with contextlib.redirect_stdout(io.StringIO()) as text:
            human()
        display({"text/plain": text.getvalue().rstrip("\n"), "text/html": table}, raw=True)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Started:
    """A run that the cell magic is to start."""

    yard: Yard
    name: str
    params: dict[str, str]


@click.command("run")
@click.argument("name")
@click.option("-p", "--param", "params", multiple=True, metavar="KEY=VALUE", help="A parameter of the run.")
@click.pass_obj
def _run(session: Session, name: str, params: tuple[str, ...]) -> Started:
    """Run the cell as a run called NAME; in the cell it is called `run`."""
    wrong = [param for param in params if "=" not in param]
    if wrong:
        raise UsageError("param-invalid", f"'{wrong[0]}' is not KEY=VALUE", "-p depth=6")
    return Started(session.yard, name, dict(param.split("=", 1) for param in params))


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as fault:
        raise _sentence(UsageError("usage", f"the line can't be read: {fault}", "close the quotes")) from None


def _sentence(fault: ModelyardError) -> ModelyardError:
    """The error, shown by IPython as the command line shows it instead of with a traceback."""
    said = [f"error: {fault.message} [{fault.code}]"] + ([f"  next: {fault.hint}"] if fault.hint else [])
    vars(fault)["_render_traceback_"] = lambda: said
    return fault


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    try:
        yield
    except ModelyardError as fault:
        raise _sentence(fault) from None


def _html_formatter(shell: Any) -> Any:
    return shell.display_formatter.formatters["text/html"]


def _list_as_html(value: list[Any]) -> str | None:
    """A list of records as a table. Lists of other kinds, and classes made from `list`, stay as they are."""
    if type(value) is list:
        return html.answer(value)
    own = getattr(value, "_repr_html_", None)
    return own() if own is not None else None
