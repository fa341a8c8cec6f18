"""Every suite catches what it is there for: providers that are broken in one way fail the right test."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

BROKEN = Path(__file__).parent / "broken"
STAGES = ("track", "data", "registry", "serving", "monitoring")


def caught_by(stage: str) -> dict[str, str]:
    """Broken provider -> the test that must fail."""
    spec = importlib.util.spec_from_file_location(f"broken_{stage}", BROKEN / f"{stage}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {provider.__name__: test for provider, test in module.CAUGHT_BY.items()}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str | None]:
    """What pytest said about every broken provider: None for a pass, else the failure's words."""
    wanted = [f"{BROKEN / stage}.py::Test{p}::{t}" for stage in STAGES for p, t in caught_by(stage).items()]
    folder = tmp_path_factory.mktemp("broken")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=60"),
            *(f"--rootdir={folder}", "-c/dev/null", "--import-mode=importlib"),
            *(f"--basetemp={folder / 'base'}", f"--junitxml={folder / 'report.xml'}", *wanted),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 1, f"the tests must fail, and nothing else go wrong: {done.stdout[-3000:]}"
    found: dict[tuple[str, str], str | None] = {}
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        *_, provider = (case.get("classname") or "").split(".")
        failure = case.find("failure")
        assert case.find("error") is None, ElementTree.tostring(case, encoding="unicode")[:3000]
        found[provider.removeprefix("Test"), case.get("name") or ""] = (
            None if failure is None else failure.get("message")
        )
    return found


@pytest.mark.parametrize(
    ("stage", "provider", "test"),
    [(stage, provider, test) for stage in STAGES for provider, test in caught_by(stage).items()],
)
def test_a_broken_provider_is_caught(
    outcomes: dict[tuple[str, str], str | None], stage: str, provider: str, test: str
) -> None:
    assert (provider, test) in outcomes, f"{test} did not run for {provider}"
    said = outcomes[provider, test]
    assert said is not None, f"{test} passed, although {provider} is broken"
    first = said.splitlines()[0].removeprefix("AssertionError: ").removeprefix("Failed: ")
    assert len(first.split()) > 3, f"the failure must read as a sentence, not {first!r}"


@pytest.mark.parametrize("stage", STAGES)
def test_every_suite_has_several_broken_providers(stage: str) -> None:
    assert len(caught_by(stage)) >= 5
