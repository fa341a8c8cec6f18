"""An IPython of our own, which tests fill with cells."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("IPython")


class Notebook:
    """Runs cells and keeps what they showed."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell

    def run(self, source: str) -> Any:
        """The cell's result; `outputs` are its MIME bundles, `out` and `err` what it printed."""
        from IPython.utils.capture import capture_output

        with capture_output() as captured:
            result = self.shell.run_cell(source, store_history=True)
        result.outputs = [output.data for output in captured.outputs]
        if result.result is not None:
            result.outputs.append(self.shell.display_formatter.format(result.result)[0])
        result.out, result.err = captured.stdout, captured.stderr
        return result


@pytest.fixture
def notebook() -> Iterator[Notebook]:
    """The process' only IPython, as it is in a kernel; what it changes in `sys` is put back."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=config, colors="nocolor")
    yield Notebook(shell)
    shell.restore_sys_module_state()
    atexit.unregister(shell.atexit_operations)
    shell.atexit_operations()
    InteractiveShell.clear_instance()
