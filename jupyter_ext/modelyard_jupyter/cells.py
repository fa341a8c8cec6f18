"""Run and cell: a run that starts in a notebook knows its cell, and the cell shows the run.

The plugin `jupyter`. It is loaded with the project's other plugins, so nobody has to load an extension
for it, and it costs nothing elsewhere: IPython is looked for among what was imported, never imported.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard import capture
from modelyard.capture import Cell
from modelyard.hookspecs import hookimpl
from modelyard_jupyter import projects

if TYPE_CHECKING:
    from modelyard.active import ActiveRun
    from modelyard.records import Run
    from modelyard.yard import Yard

#: What the front end draws as a chip on the cell.
MIME_TYPE = "application/vnd.modelyard.run+json"
#: Where the cell's text lies among the run's files.
SOURCE_FOLDER, SOURCE_FILE = "notebook", "cell.py"
#: Bytes. A cell with more holds data, not code.
_LARGEST_SOURCE = 100_000
_shown: set[str] = set()


def current() -> Cell | None:
    """The cell that the kernel of this process is asked to run; None: no kernel, or nobody asked."""
    shell = _shell()
    if shell is None:
        return None
    request = shell.kernel.get_parent()
    content = request.get("content", {})
    if request.get("header", {}).get("msg_type") != "execute_request" or content.get("silent"):
        return None  # a widget's callback, or a front end that asks something for itself
    return Cell(
        id=request.get("metadata", {}).get("cellId"),
        # IPython 9 counts before a cell runs, those before it afterwards; its list of inputs is always right.
        execution_count=len(shell.history_manager.input_hist_raw) - 1 or None,
        source=content.get("code", ""),
        notebook=shell.user_ns.get("__vsc_ipynb_file__"),
    )


capture.cells_are_told_by(current)


@hookimpl
def modelyard_after_run_start(yard: Yard, run: ActiveRun) -> None:
    """Show the run on its cell, and keep the cell's text with the run."""
    cell = current()
    if cell is None:
        return
    _shown.add(run.id)
    _publish(yard, run.record, update=False)
    if len(cell.source.encode()) <= _LARGEST_SOURCE:
        import tempfile  # five milliseconds, which every command of the project would pay

        with tempfile.TemporaryDirectory(prefix="modelyard-cell-") as folder:
            file = Path(folder) / SOURCE_FILE
            file.write_text(cell.source, encoding="utf-8")
            run.log_file(file, folder=SOURCE_FOLDER)


@hookimpl
def modelyard_after_run(yard: Yard, run: Run) -> None:
    """Show on the cell how the run ended."""
    if run.id in _shown:
        _shown.discard(run.id)
        _publish(yard, run, update=True)


def source_of(yard: Yard, run_id: str) -> str | None:
    """The text of the cell that started the run, as it was then; None: it is not known.

    Raises:
        NotFoundError: `run-not-found`.
    """
    file = yard.tracker.files(run_id) / SOURCE_FOLDER / SOURCE_FILE
    return file.read_text(encoding="utf-8") if file.is_file() else None


def _shell() -> Any:
    """The kernel's IPython, or None."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if get_ipython else None
    return shell if getattr(shell, "kernel", None) is not None else None


def _publish(yard: Yard, run: Run, *, update: bool) -> None:
    shell = _shell()
    if shell.kernel.session.pid != os.getpid():
        return  # a forked child of the kernel: what it sends is thrown away with a warning
    metrics = {name: value if math.isfinite(value) else None for name, value in run.metrics.items()}
    shown = {
        "project": projects.id_of(yard.root.resolve()),
        "run": run.id,
        "name": run.name,
        "status": run.status,
        "metrics": metrics,
    }
    shell.display_pub.publish(
        data={MIME_TYPE: shown, "text/plain": _in_words(run)},
        metadata={},
        transient={"display_id": f"modelyard-run-{run.id}"},
        update=update,
    )


def _in_words(run: Run) -> str:
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in list(run.metrics.items())[:3])
    return f"run {run.name} {run.id[:8]}: {run.status}" + (f", {metrics}" if metrics else "")
