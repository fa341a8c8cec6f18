"""Waiting for workloads, against a real API server with pods that only pretend to run."""

from __future__ import annotations

import time
from typing import Any

import pytest

from modelyard.kube import Cluster, Ref
from modelyard_sandbox import readiness
from modelyard_sandbox.applier import Applied
from modelyard_sandbox.errors import ComponentFailed, NoProgress
from modelyard_sandbox.hurry import Hurry, end_old_leases
from modelyard_sandbox.readiness import Watcher


def deployment(name: str, namespace: str, **pod: Any) -> dict[str, Any]:
    labels = {"app": name}
    spec = {"containers": [{"name": "main", "image": "example.org/none:1"}], **pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def ref(name: str, namespace: str) -> Ref:
    return Ref("apps/v1", "Deployment", namespace, name)


def test_it_ends_when_the_newest_spec_is_available(light_cluster: Cluster, namespace: str) -> None:
    light_cluster.apply(deployment("web", namespace))
    said: list[str] = []
    watcher = Watcher(light_cluster, 60, "")
    watcher.wait("web", [ref("web", namespace)], said.append)
    assert watcher.snapshot().waits_for(ref("web", namespace)) == ""
    light_cluster.patch(
        ref("web", namespace),
        {"spec": {"template": {"metadata": {"annotations": {"stamp": "2"}}}}},
    )
    watcher.note()
    watcher.wait("web", [ref("web", namespace)], said.append)
    (pod,) = [
        pod
        for pod in Watcher(light_cluster, 60, "").snapshot().pods_of(ref("web", namespace))
        if "deletionTimestamp" not in pod["metadata"]
    ]
    assert pod["metadata"]["annotations"]["stamp"] == "2"


def test_a_pod_that_no_node_takes_is_said_and_waited_for_no_longer_than_patience(
    light_cluster: Cluster, namespace: str
) -> None:
    light_cluster.apply(deployment("large", namespace, nodeSelector={"size": "huge"}))
    deadline = time.monotonic() + 60
    while not any(
        e["reason"] == "FailedScheduling" for e in light_cluster.find("v1", "Event", namespace=namespace)
    ):
        assert time.monotonic() < deadline, "the scheduler looks at no pod"
        time.sleep(0.2)
    said: list[str] = []
    began = time.monotonic()
    with pytest.raises(NoProgress, match="nothing has changed for 3 s: large does not start") as fault:
        Watcher(light_cluster, 3, "").wait("large", [ref("large", namespace)], said.append)
    assert time.monotonic() - began < 60
    assert "a node: 0/1 nodes are available" in said[-1]
    assert fault.value.exit_status == 9
    evidence = fault.value.details["evidence"]
    assert isinstance(evidence, list)
    assert any("FailedScheduling" in line for line in evidence)


def test_what_waiting_will_not_mend_ends_it(
    light_cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "_GRACE", 1.0)
    _waits_with(light_cluster, "broken", namespace, "ImagePullBackOff", "no such image")
    with pytest.raises(ComponentFailed, match="container main: ImagePullBackOff: no such image") as fault:
        Watcher(light_cluster, 60, "").wait("broken", [ref("broken", namespace)], lambda _: None)
    assert fault.value.exit_status == 8
    assert fault.value.hint == "modelyard sandbox logs broken"


def test_a_workload_that_is_not_there_is_waited_for(light_cluster: Cluster, namespace: str) -> None:
    with pytest.raises(NoProgress, match=f"Deployment ghost in {namespace}"):
        Watcher(light_cluster, 1, "").wait("ghost", [ref("ghost", namespace)], lambda _: None)


def test_containers_that_started_before_the_node_did_are_not_believed(
    light_cluster: Cluster, namespace: str
) -> None:
    light_cluster.apply(deployment("old", namespace))
    Watcher(light_cluster, 60, "").wait("old", [ref("old", namespace)], lambda _: None)
    later = "2999-01-01T00:00:00.000000000Z"
    assert Watcher(light_cluster, 60, later).snapshot().waits_for(ref("old", namespace)) == (
        "old: its containers to start again"
    )


def test_who_backs_off_after_a_boot_is_made_anew_once(light_cluster: Cluster, namespace: str) -> None:
    """Or something that is really broken would be made anew for ever, and never be said."""
    first = _waits_with(light_cluster, "early", namespace, "CrashLoopBackOff", "back-off 10s")
    watcher = Watcher(light_cluster, 60, "")
    inventories = {"early": {"objects": [Applied(ref("early", namespace), "", "")]}}
    hurry = Hurry(light_cluster, watcher, inventories)
    hurry()
    second = _waits_with(light_cluster, "early", namespace, "CrashLoopBackOff", "back-off 10s", after=first)
    assert second != first
    watcher.note()
    hurry()
    assert light_cluster.get(Ref("v1", "Pod", namespace, second)) is not None


def test_leases_from_before_the_node_started_are_ended(light_cluster: Cluster, namespace: str) -> None:
    """Who held them is gone; who took one since then keeps it."""
    for name, year in (("before", 2001), ("since", 2999)):
        light_cluster.create(
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"holderIdentity": "somebody", "renewTime": f"{year}-01-01T00:00:00.000000Z"},
            }
        )
    end_old_leases(light_cluster, "2002-01-01T00:00:00.123456789Z")
    found = light_cluster.find("coordination.k8s.io/v1", "Lease", namespace=namespace)
    assert [lease["metadata"]["name"] for lease in found] == ["since"]


def _waits_with(
    cluster: Cluster, name: str, namespace: str, reason: str, message: str, *, after: str = ""
) -> str:
    """A pod whose container waits for that reason; its name. No scheduler looks at it, so that nobody but
    this test writes its status. `after` is one that must be gone first."""
    cluster.apply(deployment(name, namespace, schedulerName="nobody"))
    deadline = time.monotonic() + 60
    while True:
        pods = cluster.find("v1", "Pod", namespace=namespace, labels=f"app={name}")
        found = [
            p for p in pods if p["metadata"]["name"] != after and "deletionTimestamp" not in p["metadata"]
        ]
        if found:
            break
        assert time.monotonic() < deadline
        time.sleep(0.2)
    container = {"name": "main", "image": "", "imageID": "", "ready": False, "restartCount": 0}
    status = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}],
        "containerStatuses": [{**container, "state": {"waiting": {"reason": reason, "message": message}}}],
    }
    made = str(found[0]["metadata"]["name"])
    cluster.patch(Ref("v1", "Pod", namespace, made), {"status": status}, part="status")
    return made
