"""Makes folders that look like site-packages: plugins are found through PYTHONPATH, without pip."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PLUGINS = Path(__file__).parent


def install_project(site: Path, folder: Path) -> str:
    """Install the package that a pyproject.toml describes; returns the distribution's name."""
    described = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for module in described["entry-points"]["modelyard"].values():
        shutil.copytree(folder / module, site / module, ignore=shutil.ignore_patterns("__pycache__"))
    write_metadata(site, described["name"], described["version"], described["entry-points"]["modelyard"])
    return str(described["name"])


def install_module(site: Path, module: Path, *, version: str = "6.6.6") -> str:
    """Install one module as a distribution with an entry point of its own name."""
    site.mkdir(parents=True, exist_ok=True)
    shutil.copy(module, site)
    distribution = module.stem.replace("_", "-")
    write_metadata(site, distribution, version, {module.stem: module.stem})
    return distribution


def write_metadata(site: Path, name: str, version: str, entry_points: Mapping[str, str]) -> None:
    """The `*.dist-info` folder, as far as importlib.metadata reads it."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{key} = {value}" for key, value in entry_points.items()]
    (folder / "entry_points.txt").write_text("\n".join(["[modelyard]", *lines, ""]))
