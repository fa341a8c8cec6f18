"""Runs a notebook from top to bottom: `python -m modelyard._notebook NOTEBOOK.ipynb COPY.ipynb`.

What cells print is printed while they run. The notebook itself is left as it is (somebody may have it
open); the copy holds all outputs, also when a cell fails.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from modelyard.state import write_bytes


def main() -> int:
    """Exit status 1 if a cell failed."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    class Client(NotebookClient):
        """Passes on what cells print."""

        def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
            if msg["msg_type"] == "stream":
                out = sys.stderr if msg["content"]["name"] == "stderr" else sys.stdout
                print(msg["content"]["text"], end="", file=out, flush=True)
            return super().process_message(msg, cell, cell_index)

    source, copy = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    try:
        notebook = nbformat.read(source, as_version=4)
    except (ValueError, OSError) as fault:
        print(f"{source} is not a notebook: {fault}", file=sys.stderr)
        return 1
    os.chdir(source.parent)
    client = Client(notebook, timeout=None, resources={"metadata": {"path": str(source.parent)}})
    try:
        client.execute()
    except CellExecutionError as fault:
        print(fault.traceback or f"{fault.ename}: {fault.evalue}", file=sys.stderr)
        return 1
    except DeadKernelError as fault:
        print(f"the kernel of {source.name} died: {fault}", file=sys.stderr)
        return 1
    finally:
        write_bytes(copy, nbformat.writes(notebook).encode())
        print(f"outputs are in {copy}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
