"""What `make` offers, and what it pins."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[3]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
PINS = [Requirement(line.rstrip(" \\")) for line in CONSTRAINTS.splitlines() if re.match(r"\w", line)]
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
ASKED = [
    requirement
    for text in [
        *PYPROJECT["project"]["dependencies"],
        *(text for extra in EXTRAS.values() for text in extra),
        *PYPROJECT["dependency-groups"]["dev"],
    ]
    if (requirement := Requirement(text)).name != "modelyard"
]
TARGETS = (
    "help venv demo lab labextension test lint types contracts unit cluster integration bench docs wheel "
    "constraints libraries system-deps clean"
)


def test_the_constraints_hold_no_address_and_no_path() -> None:
    assert not re.search(r"https?:|file:|--(extra-)?index|--find-links| @ |^/|\s/", CONSTRAINTS, re.M)


def test_every_pin_has_hashes() -> None:
    blocks = re.split(r"^(?=\w)", CONSTRAINTS, flags=re.M)[1:]
    assert len(blocks) == len(PINS)
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_every_dependency_is_pinned_in_its_range(asked: Requirement) -> None:
    pins = [pin for pin in PINS if canonicalize_name(pin.name) == canonicalize_name(asked.name)]
    assert pins, f"{asked.name} is not in constraints.txt: run make constraints"
    for pin in pins:
        version = next(iter(pin.specifier)).version
        assert asked.specifier.contains(version), f"{pin}: {asked}: run make constraints"


def test_all_means_every_other_extra() -> None:
    (everything,) = (Requirement(text) for text in EXTRAS["all"])
    assert everything.extras == EXTRAS.keys() - {"all", "stack"}  # that one is for the sandbox's image


def test_the_wheel_asks_for_ranges_not_pins() -> None:
    project = [*PYPROJECT["project"]["dependencies"], *(t for extra in EXTRAS.values() for t in extra)]
    assert [text for text in project if "==" in text.partition(";")[0]] == []


def test_make_alone_lists_every_target() -> None:
    said = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert [line.split()[1] for line in said.stdout.splitlines()] == TARGETS.split()


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """What `make venv` reads, as after a clone into a folder with a space."""
    folder = tmp_path / "my yard"
    folder.mkdir()
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    return folder


def make_venv(folder: Path, python: str) -> list[str]:
    """What it says to standard error with a python3 that is this shell script; it must fail."""
    fake = folder / "python3"
    fake.write_text(f"#!/bin/sh\n{python}\n")
    fake.chmod(0o755)
    done = subprocess.run(
        ["make", "--no-print-directory", "venv"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(fake)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    return [line for line in done.stderr.splitlines() if not line.startswith("make:")]


def test_a_python_that_is_too_old_is_one_sentence(fresh: Path) -> None:
    (said,) = make_venv(fresh, 'case "$*" in *print*) echo 3.9.18;; *) exit 1;; esac')
    assert said.startswith("make venv needs Python 3.10 or newer, and ")
    assert "is 3.9.18" in said


def test_a_python_without_pip_and_venv_is_one_sentence(fresh: Path) -> None:
    without = f'case "$*" in "-m "*) exit 1;; *) exec "{sys.executable}" "$@";; esac'
    *_, said = make_venv(fresh, without)
    assert "which" in said
    assert said.endswith("lacks: apt install python3-pip")


def test_without_the_rights_system_deps_says_so(fresh: Path) -> None:
    (fresh / "id").write_text("#!/bin/sh\necho 1000\n")
    (fresh / "id").chmod(0o755)
    done = subprocess.run(
        [fresh / ".ci/system-deps"],
        env={"PATH": f"{fresh}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "make system-deps needs root on Debian\n")
