"""The parts of the plugin that need no store."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard_mlflow import saving, usercode
from modelyard_mlflow.store import said_by, without_credentials
from modelyard_mlflow.tracker import _batches


@given(st.integers(0, 2500), st.integers(0, 350), st.integers(0, 350))
def test_batches_keep_everything_in_order_within_mlflows_limits(metrics: int, params: int, tags: int) -> None:
    given_items = list(range(metrics)), list(range(params)), list(range(tags))
    seen: tuple[list[int], list[int], list[int]] = ([], [], [])
    for batch in _batches(*given_items):
        sizes = [len(part) for part in batch]
        assert 0 < sum(sizes) <= 1000
        assert sizes[0] <= 1000
        assert sizes[1] <= 100
        assert sizes[2] <= 100
        for whole, part in zip(seen, batch):
            whole += part
    assert seen == given_items


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:secret@host:5000/x", "https://***@host:5000/x"),
        ("no http://me:p@ss@host", "no http://***@host"),
        (
            "postgresql+psycopg2://u:p@h/db and mysql://u@h",
            "postgresql+psycopg2://***@h/db and mysql://***@h",
        ),
        ("https://host/a@b", "https://host/a@b"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
        ("mail me@host", "mail me@host"),
    ],
)
def test_credentials_are_taken_out_of_addresses(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_what_a_database_says_is_one_line_without_sql() -> None:
    fault = RuntimeError(
        "(sqlite3.Error) no such\ntable\n[SQL: SELECT x\nFROM y]\n(Background on this error)"
    )
    assert said_by(fault) == "(sqlite3.Error) no such table"


@pytest.mark.parametrize(
    ("name", "trusted"),
    [
        ("sklearn.tree._tree.Tree", True),
        ("numpy.dtype", True),
        ("collections.OrderedDict", True),
        ("builtins.eval", False),
        ("pandas.io.pickle.read_pickle", False),
        ("numpy.load", False),
        ("sklearn.no.such.Thing", False),
        ("sklearnlike.Thing", False),
        ("__main__.Mine", False),
        ("os.system", False),
    ],
)
def test_only_classes_of_the_libraries_are_trusted(name: str, trusted: bool) -> None:
    assert saving.is_trusted(name) is trusted


def test_modules_of_the_user_are_stored_with_the_model_and_packages_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cloudpickle

    (tmp_path / "venv" / "site-packages").mkdir(parents=True)
    for name, folder in (("mine_abc", tmp_path), ("theirs_abc", tmp_path / "venv" / "site-packages")):
        (folder / f"{name}.py").write_text("")
        module: Any = types.ModuleType(name)
        module.__file__ = str(folder / f"{name}.py")
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.chdir(tmp_path)
    before = set(cloudpickle.list_registry_pickle_by_value())
    with usercode.stored_by_value(tmp_path):
        during = set(cloudpickle.list_registry_pickle_by_value())
    assert "mine_abc" in during
    assert not {"theirs_abc", "json", "pytest", "modelyard", "__main__"} & during
    assert set(cloudpickle.list_registry_pickle_by_value()) == before


def test_requirements_name_what_the_pickle_mentions() -> None:
    import yaml

    class Mine:
        kind = yaml.SafeLoader

    names = {line.partition("==")[0].lower() for line in usercode.requirements_of(Mine(), "numpy")}
    assert {"numpy", "pyyaml"} <= names
    assert not {"json", "re", "__main__"} & names


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    code = (
        "import sys, modelyard_mlflow as plugin; list(plugin.modelyard_trackers()); "
        "list(plugin.modelyard_registries()); list(plugin.modelyard_checks()); "
        "print(*{'mlflow', 'pandas', 'numpy', 'sklearn', 'skops', 'sqlalchemy', 'cloudpickle', 'pydantic'}"
        " & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == ""
