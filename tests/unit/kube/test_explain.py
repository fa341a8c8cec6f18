"""Why a pod is not ready: the container to blame, in its own words."""

from __future__ import annotations

from typing import Any

import pytest

from modelyard.kube.explain import is_hopeless, waits_for


def pod(*containers: dict[str, Any], init: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {"status": {"initContainerStatuses": list(init), "containerStatuses": list(containers)}}


def container(name: str, *, restarts: int = 0, last: str = "", **state: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "state": state, "restartCount": restarts}
    return {**made, "lastState": {"terminated": {"exitCode": 3, "message": last}}} if last else made


RUNS = container("agent", running={})
STARTS = container("model", waiting={"reason": "PodInitializing"})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (pod(RUNS, container("model", terminated={"exitCode": 3, "message": "no MLmodel"})),
         "container model: ended with status 3 (no MLmodel)"),
        (pod(RUNS, container("model", terminated={"exitCode": 137, "reason": "OOMKilled"})),
         "container model: ended with status 137 (OOMKilled)"),
        (pod(RUNS, container("model", waiting={"reason": "CrashLoopBackOff", "message": "off"}, last="bad")),
         "container model: CrashLoopBackOff, exit status 3: bad"),
        (pod(RUNS, container("model", waiting={"reason": "ErrImagePull", "message": "no such image"})),
         "container model: ErrImagePull: no such image"),
        (pod(RUNS, container("model", running={}, restarts=2, last="bad")),
         "container model: runs, not ready (restarted 2 times: bad)"),
        (pod(STARTS, init=(container("fetch", running={}),)), "container fetch: runs, not ready"),
        (pod(STARTS), "container model: starting"),
        (pod(), "its node"),
    ],
)  # fmt: skip
def test_the_container_to_blame_is_named(found: dict[str, Any], said: str) -> None:
    assert waits_for(found) == said


def test_of_long_last_words_the_end_is_told() -> None:
    words = "Traceback " + "x" * 2000 + " ValueError: bad"
    said = waits_for(pod(container("model", terminated={"exitCode": 1, "message": words})))
    assert said.startswith("container model: ended with status 1 (...x")
    assert said.endswith("ValueError: bad)")


@pytest.mark.parametrize("reason", ["ErrImageNeverPull", "ImagePullBackOff", "CreateContainerConfigError"])
def test_an_image_that_is_not_there_is_hopeless(reason: str) -> None:
    assert is_hopeless(pod(RUNS, container("model", waiting={"reason": reason})))
    assert not is_hopeless(pod(RUNS, STARTS))
