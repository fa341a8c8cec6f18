"""The wheel, installed in an empty environment far from the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(900)]


def run(*argv: str | Path, cwd: Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


def installed(what: str, folder: Path) -> Path:
    """The scripts folder of a new environment with the requirement in it."""
    uv = next(
        (
            found
            for found in (Path(sys.executable).with_name("uv"), ROOT / ".cache/uv/bin/uv")
            if found.exists()
        ),
        None,
    ) or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not here: make venv gets it")
    # With the user's own home: uv finds its cache and settings there.
    env = {**os.environ, "HOME": os.environ["MODELYARD_TEST_REAL_HOME"], "UV_PYTHON_DOWNLOADS": "never"}
    for name in [name for name in env if name.startswith("XDG_") or name == "VIRTUAL_ENV"]:
        del env[name]
    venv = folder / "empty environment"
    for argv in (
        [uv, "venv", "--quiet", "--no-project", "--python", sys.executable, venv],
        [uv, "pip", "install", "--quiet", "--python", venv / "bin/python", "--constraints",
         ROOT / "constraints.txt", what],
    ):  # fmt: skip
        done = subprocess.run(
            argv, cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False
        )
        if done.returncode and ("dns error" in done.stderr or "Failed to fetch" in done.stderr):
            pytest.skip(f"no package index can be reached: {done.stderr.strip().splitlines()[-1][:200]}")
        assert done.returncode == 0, done.stderr
    return venv / "bin"


@pytest.fixture(scope="module")
def complete(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(f"modelyard[all] @ {wheel.as_uri()}", tmp_path_factory.mktemp("complete"))


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(f"modelyard @ {wheel.as_uri()}", tmp_path_factory.mktemp("bare"))


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name and ".data/" not in name}
    sources = {
        path.parent.name
        for folder in ("core", "plugins", "sandbox", "jupyter_ext")
        for path in ROOT.glob(f"{folder}/modelyard*/__init__.py")
    }
    assert tops == sources
    assert {f"{top}/py.typed" for top in tops} <= set(names)
    assert [name for name in names if "__pycache__" in name or name.endswith(".pyc")] == []


def test_the_wheel_brings_the_panel_and_its_switch(wheel: Path) -> None:
    """Built for production, for a machine without Node.js; Jupyter finds both in its folders."""
    names = zipfile.ZipFile(wheel).namelist()
    shared = {name.partition(".data/data/")[2] for name in names if ".data/data/" in name}
    panel = "share/jupyter/labextensions/@modelyard/jupyterlab"
    assert {
        "etc/jupyter/jupyter_server_config.d/modelyard_jupyter.json",
        f"{panel}/package.json",
        f"{panel}/install.json",
    } <= shared
    assert [name for name in shared if name.startswith(f"{panel}/static/remoteEntry.")]
    assert [name for name in shared if name.endswith((".map", "build_log.json"))] == []


def test_without_extras_the_light_commands_work_and_say_nothing_else(bare: Path, tmp_path: Path) -> None:
    assert run(bare / "modelyard", "init", "project", cwd=tmp_path).returncode == 0
    for command in (["--help"], ["status"], ["history"], ["plugins", "list"]):
        done = run(bare / "modelyard", *command, cwd=tmp_path / "project")
        assert (done.returncode, done.stderr) == (0, ""), command


@pytest.mark.parametrize(
    ("command", "extra"),
    [("runs list", "mlflow"), ("data status", "dvc"), ("endpoints list", "kserve")],
)
def test_a_missing_extra_is_one_sentence_with_the_pip_command(
    bare: Path, tmp_path: Path, command: str, extra: str
) -> None:
    run(bare / "modelyard", "init", "project", cwd=tmp_path)
    done = run(bare / "modelyard", *command.split(), cwd=tmp_path / "project")
    assert done.returncode == 7
    assert f"pip install 'modelyard[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_everything_is_there_with_all_extras(complete: Path, tmp_path: Path) -> None:
    helped = run(complete / "modelyard", "--help", cwd=tmp_path)
    assert (helped.returncode, helped.stderr) == (0, "")
    listed = run(complete / "modelyard", "plugins", "list", "--json", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    for plugin in ("mlflow", "dvc", "kserve", "evidently"):
        assert plugin in listed.stdout
    assert "extra-missing" not in listed.stdout
    assert str(ROOT) not in listed.stdout


def test_the_demo_runs_from_the_wheel(complete: Path, tmp_path: Path) -> None:
    done = run(complete / "modelyard", "demo", "--fast", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)
    assert (tmp_path / "modelyard-demo" / "modelyard.toml").exists()
    status = run(complete / "modelyard", "status", "--json", cwd=tmp_path / "modelyard-demo")
    assert '"running"' not in status.stdout
