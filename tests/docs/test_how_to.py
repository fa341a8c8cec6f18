"""The how-to pages do what they say: their snippets run, and their commands exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

import modelyard
from modelyard.cli import cli
from modelyard.errors import GateError
from modelyard.plugins import PluginManager
from modelyard.testing import ConstantModel
from modelyard.yard import Yard

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for page in (ROOT / "README.md", *ROOT.glob("tutorials/**/*.md"), *ROOT.glob("core/**/demo/files/*.md"))
    if page.parent.name != "reference"
)


def snippets(page: str, language: str) -> list[str]:
    text = (ROOT / "tutorials" / "how-to" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[str]:
    """Every command line of a page, from code blocks and from words in backquotes."""
    text = page.read_text()
    quoted = re.findall(r"`(modelyard [^`]+)`", text)
    typed = re.findall(r"^ *(?:\$ )?(modelyard [a-z].*?)(?: {2,}.*)?$", text, re.MULTILINE)
    return [" ".join(line.split()) for line in (*quoted, *typed) if " ..." not in line]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_names_exists_with_its_options(page: Path) -> None:
    for line in commands(page):
        words = shlex.split(line.partition(";")[0])[1:]
        command: click.Command = cli
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            found = command.get_command(click.Context(command), words.pop(0))
            assert found is not None, line
            command = found
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        if command.name != "run":
            options = {word.partition("=")[0] for word in words if word.startswith("-")}
            assert options <= known | {"--debug", "--no-plugins"}, line


def test_the_gates_of_the_page_are_those_of_a_real_file(modelyard_project: Yard) -> None:
    (text,) = snippets("gates.md", "toml")
    (modelyard_project.root / "gates.toml").write_text(text)
    version = trained(modelyard_project)
    results = {r.gate: r.passed for r in modelyard_project.check_gates(version, to="production")}
    assert results == {
        "metric": True,
        "signature": True,
        "data-published": False,
        "code-committed": False,
    }
    assert {r.gate for r in modelyard_project.check_gates(version, to="staging")} == {"metric", "signature"}


def test_the_gate_of_ones_own_asks_for_a_ticket(modelyard_project: Yard) -> None:
    root = modelyard_project.root
    (code,) = snippets("gates.md", "python")
    with (root / "modelyardfile.py").open("a") as file:
        file.write(code)
    (root / "gates.toml").write_text('[[gate]]\ncheck = "ticket"\n')
    yard = modelyard.open(root)
    version = trained(yard)
    with pytest.raises(GateError, match="no ticket"):
        yard.promote(version, to="production", reason="because")
    assert yard.promote(version, to="production", reason="ML-7").status == "completed"


def test_the_plugin_of_the_page_is_found_and_says_what_it_needs(tmp_path: Path) -> None:
    code = snippets("write-a-plugin.md", "python")[0]
    (tmp_path / "modelyardfile.py").write_text(code)
    (info,) = [i for i in PluginManager(tmp_path).infos() if i.name == "modelyardfile.py"]
    assert (info.status, info.message) == ("needs extra", "pip install 'acme-yard'")
    assert info.offers == {"trackers": ("acme",)}


def test_the_test_of_the_page_runs_the_whole_suite(tmp_path: Path) -> None:
    (test,) = [code for code in snippets("write-a-plugin.md", "python") if "TrackSuite" in code]
    (tmp_path / "test_acme.py").write_text(test)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "plugins" / "acme_yard")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 30


def trained(yard: Yard) -> str:
    with yard.run("late-flights") as run:
        run.log({"auc": 0.7})
        made = run.log_model(ConstantModel(0.7), name="late-flights", example=[{"temp": 1.0}])
    return made.ref
