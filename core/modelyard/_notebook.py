"""Runs a notebook from top to bottom: `python -m modelyard._notebook NOTEBOOK.ipynb COPY.ipynb`.

What cells print is printed while they run. The notebook itself is left as it is (somebody may have it
open); the copy holds all outputs, also when a cell fails.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from modelyard.state import write_bytes


def main() -> int:
    """Exit status 1 if a cell failed, 128 + signal if it was interrupted."""
    import nbformat

    source, copy = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    try:
        notebook = nbformat.read(source, as_version=4)
    except Exception as fault:  # its converters raise whatever a file that is no notebook makes them raise
        print(f"{source} is not a notebook: {fault}", file=sys.stderr)
        return 1
    os.chdir(source.parent)
    # Unix sockets in a folder of our own: over TCP any user of this machine could read what cells print.
    with tempfile.TemporaryDirectory(prefix="modelyard-kernel-") as sockets:
        try:
            return _run(notebook, source, Path(sockets))
        finally:
            write_bytes(copy, nbformat.writes(notebook).encode())
            print(f"outputs are in {copy}", file=sys.stderr)


def _run(notebook: Any, source: Path, sockets: Path) -> int:
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    received: list[int] = []

    class Client(NotebookClient):
        """Passes on what cells print, and interrupts the cell when it is told to stop."""

        def create_kernel_manager(self) -> Any:
            made = super().create_kernel_manager()
            made.transport, made.connection_file = "ipc", str(sockets / "kernel.json")
            return made

        def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
            if msg["msg_type"] == "stream":
                out = sys.stderr if msg["content"]["name"] == "stderr" else sys.stdout
                print(msg["content"]["text"], end="", file=out, flush=True)
            return super().process_message(msg, cell, cell_index)

    def begun(**_: Any) -> None:
        # Ended at once, a tracked run would stay open; interrupted, the cell closes it.
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, interrupt, number)

    def named(cell: Any, **_: Any) -> None:
        # As JupyterLab does: runs know the cell that they began in.
        client.kc.session.metadata.update(cellId=cell.get("id"))

    def interrupt(number: int) -> None:
        received.append(number)
        waiting.append(asyncio.ensure_future(client.km.interrupt_kernel()))

    waiting: list[asyncio.Future[Any]] = []
    client: Any = Client(
        notebook,
        timeout=None,
        on_notebook_start=begun,
        on_cell_execute=named,
        store_widget_state=False,  # exports show the widgets' static form then
        resources={"metadata": {"path": str(source.parent)}},
    )
    try:
        client.execute()
    except CellExecutionError as fault:
        if received:
            print(f"{source.name} was interrupted", file=sys.stderr)
            return 128 + received[0]
        print(fault.traceback or f"{fault.ename}: {fault.evalue}", file=sys.stderr)
        return 1
    except DeadKernelError as fault:
        print(f"the kernel of {source.name} died: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
