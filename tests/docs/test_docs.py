"""Documentation that can't rot: reference pages, examples and links are checked."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import modelyard
from modelyard import hookspecs

ROOT = Path(__file__).parents[2]
HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("modelyard_"))
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("tutorials/**/*.md")])


def test_reference_pages_are_not_stale() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tutorials" / "_generate.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_and_argument_is_documented(name: str) -> None:
    function = getattr(hookspecs, name)
    doc = inspect.getdoc(function) or ""
    assert "Example:" in doc
    assert f"def {name}(" in doc
    for argument in inspect.signature(function).parameters:
        assert re.search(rf"^ +{argument}: \w", doc, re.MULTILINE), argument
    assert f"`{name}(" in (ROOT / "tutorials/reference/hooks.md").read_text()


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_used_by_a_plugin_of_ours(name: str) -> None:
    packages = [*ROOT.glob("plugins/modelyard_*/__init__.py"), ROOT / "sandbox/modelyard_sandbox/__init__.py"]
    sources = [*packages, ROOT / "core/modelyard/gates.py", ROOT / "jupyter_ext/modelyard_jupyter/cells.py"]
    assert any(f"def {name}(" in source.read_text() for source in sources)


def _modules() -> list[str]:
    names = []
    for package in (
        "modelyard",
        "modelyard_mlflow",
        "modelyard_dvc",
        "modelyard_kserve",
        "modelyard_evidently",
        "modelyard_sandbox",
        "modelyard_jupyter",
    ):
        top = importlib.import_module(package)
        names += [m.name for m in pkgutil.walk_packages(top.__path__, f"{package}.")]
    skipped = ("__main__", ".demo.files")
    return [name for name in names if not any(part in name for part in skipped)]


@pytest.mark.parametrize("name", _modules())
def test_the_examples_in_docstrings_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_every_public_name_is_there_and_documented() -> None:
    for name in modelyard.__all__:
        assert getattr(modelyard, name) is not None
    page = (ROOT / "tutorials/reference/python.md").read_text()
    for name in ("Reference", "Label", "Offer", "GateOffer", "CheckOffer", "hookimpl", "ModelyardError"):
        assert f"modelyard.{name}" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    html = (tmp_path / "site" / "index.html").read_text()
    assert not re.findall(r'(?:src|href)="https?://(?!squidfunk)[^"]*\.(?:js|css|woff2?)"', html)
