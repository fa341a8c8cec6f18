"""The monitor of a cluster, asked from afar, keeps the promises of the stage `monitoring`, too."""

from __future__ import annotations

import hashlib
import http.client
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from modelyard.stages import StageContext
from modelyard.targets import Address, Target
from modelyard.testing import MonitoringSuite
from modelyard.testing.base import eventually

pytest.importorskip("evidently")


def _answers(port: int) -> bool | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200 or None
    except OSError:
        return None
    finally:
        connection.close()


class TestRemoteEvidently(MonitoringSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def monitor_url(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
        """A monitor in a process of its own, as a pod runs it."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        state = tmp_path_factory.mktemp("monitor äö")
        token = state / "token"
        token.write_text("geheim")
        command = [sys.executable, "-m", "modelyard_evidently.server", "--state", str(state / "data")]
        process = subprocess.Popen([*command, "--port", str(port), "--token-file", str(token)])
        try:
            eventually("an answer of the monitor", lambda: _answers(port))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)

    @pytest.fixture(scope="class")
    @classmethod
    def offer(cls, monitor_url: str) -> Any:
        import modelyard_evidently

        address = Address(url=monitor_url, inside=monitor_url, password="geheim")
        offered = next(iter(modelyard_evidently.modelyard_monitors()))

        def on_a_cluster(context: StageContext) -> Any:
            # A namespace for each project of the suite: all of them are called the same.
            namespace = f"n-{hashlib.sha256(str(context.root).encode()).hexdigest()[:8]}"
            target = Target("cluster", namespace=namespace, find=lambda _: address)
            return offered.factory(replace(context, target=target))

        return replace(offered, factory=on_a_cluster)
