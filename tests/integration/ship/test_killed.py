"""kill -9 at any moment, then the same command again: nothing is doubled and nothing is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import pytest

from modelyard.audit import audit
from modelyard.digests import model_digest
from modelyard.shipping.known import MARK

pytest.importorskip("mlflow")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: Ships, and ends itself right after the n-th request that changed something there was answered.
CHILD = """
import os, signal, sys, threading
from pathlib import Path

import modelyard
import modelyard.s3
import requests

left, lock = int(sys.argv[2]), threading.Lock()


def count():
    global left
    with lock:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def counted(call, changes):
    def counting(*args, **named):
        done = call(*args, **named)
        if changes(*args):
            count()
        return done

    return counting


requests.Session.send = counted(requests.Session.send, lambda self, request: request.method != "GET")
modelyard.s3.Bucket._once = counted(modelyard.s3.Bucket._once, lambda self, method, *_: method == "PUT")
modelyard.open(Path(sys.argv[1])).ship("cluster")
"""


@pytest.fixture
def filled(project: Any) -> Any:
    data = [project.add_data(f"part-{number}", bytes([number]) * 50_000) for number in range(3)]
    for value in (1.0, 2.0):
        version = project.train(value, use=data)
        project.here.promote(version, to="production", reason=f"version {value}")
    return project


def require_whole(project: Any) -> None:
    here, there = project.here, project.there
    copies = there.runs.list()
    assert Counter(run.tags[MARK] for run in copies) == Counter(run.id for run in here.runs.list())
    for copy in copies:
        original = here.runs.get(copy.tags[MARK])
        assert len(copy.models) == 1, "a model was doubled"
        assert (copy.status, copy.ended, copy.params) == (original.status, original.ended, original.params)
        values = [sorted((m.name, m.step, repr(m.value)) for m in side) for side in both(project, copy)]
        assert values[0] == values[1], "values were lost or doubled"
        assert len(copy.data) == len(original.data)
    versions = there.models.versions(project.model)
    assert [v.version for v in versions] == ["2", "1"]
    for version in here.models.versions(project.model):
        assert model_digest(there.models.path(there.models.get(version.ref))) == version.digest
    assert there.registry.alias(project.model, "production") == "2"
    assert [p.reason for p in there.history(project.model)] == ["version 2.0", "version 1.0"]
    assert [finding for finding in audit(there) if finding["model"] == project.model] == []
    assert all(ref.published for ref in there.store.publish(there.data.list()))
    assert here.ship("cluster").empty


def both(project: Any, copy: Any) -> tuple[Any, Any]:
    return project.there.tracker.metrics(copy.id), project.here.tracker.metrics(copy.tags[MARK])


def test_killed_after_any_request_that_changed_something(filled: Any) -> None:
    for after in (1, 2, 3, 4, 5, 6, *range(8, 60, 3)):
        command = [sys.executable, "-c", CHILD, str(filled.root), str(after)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    else:
        pytest.fail("it never ends")
    assert after > 6
    require_whole(filled)


def test_killed_at_any_time(filled: Any) -> None:
    """Wherever it is then: reading, hashing, sending, writing down."""
    began = time.monotonic()
    assert filled.run("ship", "--to", "cluster", "--dry-run")[0] == 0
    pause, step = (time.monotonic() - began) * 0.6, 0.12
    for _ in range(60):
        process = filled.command("ship", "--to", "cluster")
        try:
            process.wait(timeout=pause)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        pause = pause * 1.02 + step  # it may be busier than it was
    else:
        pytest.fail("it never ends")
    require_whole(filled)
