"""Which program a container's command is, and whose code it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelyard_kserve.commands import PythonProgram, own_code, python_program


@pytest.mark.parametrize(
    ("command", "program"),
    [
        (["python", "-m", "ours.server", "-x"], PythonProgram("ours.server", True, ("-x",))),
        (["/usr/bin/python3.11", "-uB", "serve.py"], PythonProgram("serve.py", False, ())),
        (["python", "-W", "error", "serve.py"], None),
        (["python", "-c", "pass"], None),
        (["python"], None),
        (["python", "-m"], None),
        (["pythonic", "serve.py"], None),
        ([], None),
    ],
)
def test_a_python_program_is_recognised(command: list[str], program: PythonProgram | None) -> None:
    assert python_program(command) == program


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["python", "-m", "ours"], "ours"),
        (["python", "-m", "ours.server"], "ours"),
        (["python", "-m", "one"], "one.py"),
        (["python", "one.py"], "one.py"),
        (["python", "./ours/server.py"], "ours/server.py"),
        (["./run.sh"], "run.sh"),
        (["run.sh"], "run.sh"),
        (["python", "ours"], None),
        (["python", "-m", "json.tool"], None),
        (["python", "../outside.py"], None),
        (["python", "link.py"], None),
        (["sh", "run.sh"], None),
        (["ours"], None),
    ],
)
def test_code_is_the_projects_if_it_lies_in_it(tmp_path: Path, command: list[str], code: str | None) -> None:
    root = tmp_path / "project"
    (root / "ours").mkdir(parents=True)
    for name in ("ours/server.py", "one.py", "run.sh", "../outside.py"):
        (root / name).write_text("")
    (root / "link.py").symlink_to(tmp_path / "outside.py")
    found = own_code(command, root)
    assert (found and found.relative_to(root).as_posix()) == code
