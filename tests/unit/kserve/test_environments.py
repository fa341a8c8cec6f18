"""A model's own environment: what is refused before and while it is made, and what differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.errors import ModelyardError
from modelyard_kserve.local import environments


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def model(tmp_path: Path, *lines: str) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "requirements.txt").write_text("\n".join(lines))
    return folder


def refused(folder: Path, *, trusted: bool = True) -> str:
    with pytest.raises(ModelyardError) as caught:
        environments.python_of(folder, trusted=trusted)
    assert caught.value.code == "model-unloadable"
    assert "\n" not in caught.value.message
    return caught.value.message


def test_packages_are_code(tmp_path: Path) -> None:
    said = refused(model(tmp_path, "six==1.16.0"), trusted=False)
    assert "its requirements name code to run, and it does not come from the registry" in said


def test_a_model_without_a_list_has_nothing_to_make_one_of(tmp_path: Path) -> None:
    assert "it has no requirements.txt" in refused(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        *("-r /etc/passwd", "--index-url https://user:secret@example.org", "./here", "six @ file:///six.whl"),
        *("git+https://example.org/x", "-e .", "six==1.16.0 --hash=sha256:00", "six; rm"),
    ],
)
def test_what_is_no_package_is_not_followed_and_not_repeated(tmp_path: Path, line: str) -> None:
    said = refused(model(tmp_path, "six==1.16.0  # small", "", line)) if line != "six; rm" else ""
    assert said == "" or "line 3 of its requirements.txt is no package with a version" in said
    assert "secret" not in said


def test_without_uv_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(environments.sys, "executable", "/nowhere/python")
    assert "uv, which makes its own environment, is not installed: pip install uv" in refused(
        model(tmp_path, "six==1.16.0")
    )


def test_what_uv_says_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    said = refused(model(tmp_path, "scikit-learn==1.5.2"))
    assert "uv can't make its own environment: " in said
    assert "scikit-learn" in said
    assert not list(cache.rglob("complete"))


def test_versions_that_differ_are_named(tmp_path: Path) -> None:
    from importlib.metadata import version

    here = version("scikit-learn")
    lines = ("scikit-learn==0.1.2", "not-here==3.4", f"numpy=={version('numpy')}", "pandas>=9")
    said = environments.differences(model(tmp_path, *lines))
    assert said == f"scikit-learn 0.1.2 (here: {here}), not-here 3.4 (here: none)"
    assert environments.differences(tmp_path) == ""
