"""A real Jupyter server over a real project, asked by plain HTTP as the panel asks it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.served import free_port, serving

pytest.importorskip("jupyter_server")

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Said:
    """An answer."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Jupyter:
    """A Jupyter server that runs.

    Attributes:
        url: with its base path, ends in `/`.
        token: what lets one in.
        folder: its root folder.
        log: what it printed.
    """

    url: str
    token: str
    folder: Path
    log: Path
    pid: int

    def ask(
        self,
        path: str,
        body: Any = None,
        *,
        token: str | None = "",
        headers: dict[str, str] | None = None,
        key: str | None = "",
        method: str | None = None,
    ) -> Said:
        """GET, or POST where there is a body; with the right token unless another is named."""
        given = {"Content-Type": "application/json", **(headers or {})}
        if token is not None:
            given["Authorization"] = f"token {token or self.token}"
        if body is not None and key is not None:
            given["Idempotency-Key"] = key or uuid.uuid4().hex
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}modelyard/api/v1/{path}", data, given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=240) as answer:
                return Said(answer.status, answer.read(), dict(answer.headers))
        except urllib.error.HTTPError as fault:
            return Said(fault.code, fault.read(), dict(fault.headers))

    @property
    def project(self) -> str:
        """The address of the first project."""
        return f"projects/{self.ask('summary').json['project']}"


def start_jupyter(folder: Path, home: Path, *options: str, base: str = "/") -> Iterator[Jupyter]:
    """Start a server in a folder, with a home of its own; ends it in the end."""
    port, token, log = free_port(), uuid.uuid4().hex, home / "jupyter.log"
    settings = home / ".jupyter" / "jupyter_server_config.d"
    settings.mkdir(parents=True, exist_ok=True)
    (settings / "modelyard.json").write_text(
        (ROOT / "jupyter_ext/server-config/modelyard_jupyter.json").read_text()
    )
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--allow-root", f"--IdentityProvider.token={token}", f"--ServerApp.base_url={base}", *options]
    env = {
        **os.environ,
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(home / ".jupyter"),
        "PYTHONPATH": str(ROOT / "jupyter_ext"),
    }
    url = f"http://127.0.0.1:{port}{base}"

    def answers() -> bool:
        return Jupyter(url, token, folder, log, 0).ask("summary").status == 200

    with serving(command, folder, env, log, answers) as pid:
        yield Jupyter(url, token, folder, log, pid)


@pytest.fixture(scope="package")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The demo's project with its endpoint up, in a folder with a space and an umlaut."""
    folder = tmp_path_factory.mktemp("jupyter") / "arbeit" / "späte Flüge"
    folder.parent.mkdir()
    _modelyard("demo", str(folder), "--fast", "--keep")
    yield folder
    _modelyard("--project", str(folder), "down")


def _modelyard(*args: str) -> None:
    command = [sys.executable, "-m", "modelyard", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="package")
def jupyter(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """A server whose root is above the project."""
    yield from start_jupyter(demo.parent, tmp_path_factory.mktemp("home"))
