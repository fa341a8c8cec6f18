"""The page on serving asks a real endpoint in four ways, and gets the same predictions."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import pytest

from modelyard.processes import child_env

PAGE = Path(__file__).parents[3] / "tutorials" / "how-to" / "ask.md"
ROWS = [[20.5, 0], [-4.0, 2]]


@pytest.fixture(scope="module")
def section(project: Any) -> str:
    """What the page says about asking, with our port."""
    url = project.apply("late-flights", "models:/late-flights/1").url
    text = PAGE.read_text().partition("\n## Ask it by V1")[2].partition("\n## ")[0]
    return text.replace("PORT", str(urlsplit(url).port)).replace("NAME", "late-flights")


@pytest.fixture(scope="module")
def expected(samples: Any) -> list[int]:
    found: list[int] = samples["1"].model.predict(pd.DataFrame(ROWS, columns=["temp", "stops"])).tolist()
    return found


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


def test_curl_asks_by_v1_and_v2(section: str, expected: list[int]) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (code,) = blocks(section, "sh")
    found = []
    for command in code.split("\n\n"):
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=True)
        found.append(json.loads(done.stdout))
    assert found[0] == {"predictions": expected}
    assert found[1]["outputs"][0]["data"] == expected


def test_javascript_asks_with_bytes(section: str, expected: list[int], tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    (code,) = blocks(section, "js")
    (tmp_path / "ask.mjs").write_text(code)
    command = ["node", str(tmp_path / "ask.mjs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected


def test_python_asks_with_bytes_and_by_grpc(section: str, expected: list[int], tmp_path: Path) -> None:
    binary, grpc = blocks(section, "python")
    for code in (binary, grpc):
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=child_env(), check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split("\n")[0] == str(expected).replace(",", "")
