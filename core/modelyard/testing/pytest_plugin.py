"""The pytest plugin: fixtures for tests of plugins and projects, and nothing unless they are used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from modelyard.stages import StageContext
    from modelyard.yard import Yard

# The suites assert; without this their failures would show no values.
pytest.register_assert_rewrite(
    *(
        f"modelyard.testing.{name}"
        for name in ("base", "track", "data", "registry", "serving", "traffic", "monitoring", "feed")
    )
)

_PROJECT = """\
[project]
name = "conformance"

[stages]
track = "memory"
data = "memory"
registry = "memory"
serving = "memory"
monitoring = "memory"
"""


@pytest.fixture
def stage_context(tmp_path: Path) -> Iterator[StageContext]:
    """What a provider gets when it is opened, in an empty project; its processes are ended after."""
    from modelyard.testing.base import stop_everything
    from modelyard.testing.contexts import make_context

    context = make_context(tmp_path / "project")
    yield context
    stop_everything(context)


@pytest.fixture
def modelyard_project(tmp_path: Path) -> Iterator[Yard]:
    """An open project whose five stages are the reference providers: fast, nothing to install."""
    import modelyard
    from modelyard import project
    from modelyard.testing import memory

    root = tmp_path / "project"
    root.mkdir()
    (root / project.PROJECT_FILE).write_text(_PROJECT, encoding="utf-8")
    (root / "modelyardfile.py").write_text(memory.INLINE_PLUGIN, encoding="utf-8")
    yard = modelyard.open(root)
    yield yard
    memory.stop(root)
    yard.down()
