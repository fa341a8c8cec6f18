"""`modelyard target`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from modelyard.cli import cli
from modelyard.errors import ConflictError, NotFoundError, UsageError
from modelyard.yard import Yard


@pytest.fixture
def root(modelyard_project: Yard) -> Path:
    return modelyard_project.root


def run(root: Path, *args: str) -> str:
    done = CliRunner().invoke(cli, ["--project", str(root), *args], standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.output


def test_the_list_names_the_current_one(root: Path) -> None:
    found = json.loads(run(root, "target", "list", "--json"))
    assert found["current"] == "local"
    assert {"local", "sandbox"} <= found["targets"].keys()
    assert json.loads(run(root, "--target", "sandbox", "target", "list", "--json"))["current"] == "sandbox"


def test_use_is_remembered_and_taken_back(root: Path) -> None:
    assert "take the target 'sandbox'" in run(root, "target", "use", "sandbox")
    assert json.loads(run(root, "target", "list", "--json"))["current"] == "sandbox"
    assert "take the target 'local'" in run(root, "target", "use")
    with pytest.raises(NotFoundError, match="there is no target 'sandbx'"):
        run(root, "target", "use", "sandbx")


def test_add_writes_a_table_and_leaves_the_file_as_it_is(root: Path) -> None:
    before = (root / "modelyard.toml").read_text()
    run(root, "target", "add", "prod", "--context", 'a"b', "--namespace", "team-a")
    after = (root / "modelyard.toml").read_text()
    assert after.startswith(before.rstrip())
    assert "prod" in json.loads(run(root, "target", "list", "--json"))["targets"]
    with pytest.raises(ConflictError, match="there is a target 'prod' already"):
        run(root, "target", "add", "prod")
    for name in ("Prod", "a b", "a.b", "[x]"):
        with pytest.raises(UsageError, match="can't be a target's name"):
            run(root, "target", "add", name)
