"""Modelyard in JupyterLab: the server extension, and what notebooks use.

Importing this package costs nothing: everything else is imported where it is needed.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
#: The front end's name among JupyterLab's extensions.
FRONT_END = "@modelyard/jupyterlab"


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Where `jupyter labextension develop` finds the built front end."""
    return [{"src": "../labextension", "dest": FRONT_END}]


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "modelyard_jupyter"}]


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext modelyard_jupyter`: the magics, and tables for lists of records."""
    from modelyard_jupyter import magics

    magics.load_ipython_extension(shell)


def unload_ipython_extension(shell: Any) -> None:
    """`%unload_ext modelyard_jupyter`."""
    from modelyard_jupyter import magics

    magics.unload_ipython_extension(shell)


def _load_jupyter_server_extension(server: Any) -> None:
    from modelyard_jupyter.extension import load

    load(server)
