"""`tutorials/first-ten-minutes.md` is run as it stands: files are written, commands are typed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "tutorials" / "first-ten-minutes.md"
_BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Reader:
    """Does what the page says, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # What a shell with the environment activated finds.
        path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
        self.env = {**os.environ, "PATH": path, "NO_COLOR": "1"}

    def read(self, page: str) -> None:
        for language, title, content in _BLOCK.findall(page):
            if title:
                (self.folder / title).write_text(content)
            elif language == "console":
                for command, expected in _commands(content):
                    self._type(command, expected)

    def _type(self, command: str, expected: list[str]) -> None:
        if command.startswith("cd "):
            self.folder = self.folder / shlex.split(command)[1]
            return
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"$ {command}\n{said}"
        for line in expected:
            pattern = ".*".join(re.escape(part) for part in line.split("…"))
            assert re.search(rf"^\s*{pattern}", said, re.MULTILINE), f"$ {command}\n{said}\nlacks: {line}"


def _commands(block: str) -> Iterator[tuple[str, list[str]]]:
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *expected = part.splitlines()
        yield command, [line.strip() for line in expected if line.strip()]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    if (tmp_path / "tumours" / "modelyard.toml").exists():
        subprocess.run(
            [sys.executable, "-m", "modelyard", "down"],
            cwd=tmp_path / "tumours",
            env=reader.env,
            check=False,
        )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_works_as_it_stands(reader: Reader) -> None:
    reader.read(PAGE.read_text())
