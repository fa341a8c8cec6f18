"""What KServe, Knative and pods say, as records: from documents as their controllers write them."""

from __future__ import annotations

from typing import Any

import pytest

from modelyard_kserve.cluster.access import entry_of
from modelyard_kserve.cluster.manifests import Identity
from modelyard_kserve.cluster.observing import Seen
from modelyard_kserve.cluster.status import endpoint_of, has_ended, seems_hopeless
from modelyard_kserve.cluster.waiting import Wanted, is_settled

CREATED = "2026-03-01T10:00:00Z"


def revision(number: int, *, version: str = "", ready: str = "True", message: str = "") -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"flights-predictor-{number:05d}",
            "creationTimestamp": CREATED,
            "labels": {"serving.knative.dev/configurationGeneration": str(number)},
            "annotations": {
                "modelyard.dev/model": "late-flights",
                "modelyard.dev/version": version or str(number),
                "modelyard.dev/storage-uri": f"models:/late-flights/{number}",
                "modelyard.dev/spec": f"spec{number}",
                "modelyard.dev/generation": "1",
            },
        },
        "status": {"conditions": [{"type": "Ready", "status": ready, "message": message}]},
    }


def replica_set(number: int, *, replicas: int, ready: int) -> dict[str, Any]:
    made = revision(number)
    return {
        "metadata": {
            "name": f"flights-predictor-{number}abc",
            "creationTimestamp": CREATED,
            "labels": {"pod-template-hash": f"{number}abc"},
            "annotations": {"deployment.kubernetes.io/revision": str(number)},
        },
        "spec": {"replicas": replicas, "template": {"metadata": made["metadata"]}},
        "status": {"readyReplicas": ready} if ready else {},
    }


def service(traffic: list[dict[str, Any]], *, ready: bool = True, **status: Any) -> dict[str, Any]:
    conditions = [
        {"type": "Ready", "status": str(ready)},
        {"type": "RoutesReady", "status": "True" if traffic else "Unknown"},
    ]
    predictor = {
        "traffic": traffic,
        "latestRolledoutRevision": "flights-predictor-00001",
        **status.pop("predictor", {}),
    }
    return {
        "metadata": {"name": "flights", "creationTimestamp": CREATED, "annotations": {}},
        "spec": {"predictor": {"model": {}}},
        "status": {"conditions": conditions, "components": {"predictor": predictor}, **status},
    }


def pod(of: str, container: dict[str, Any], *, init: bool = False) -> dict[str, Any]:
    kind = "initContainerStatuses" if init else "containerStatuses"
    return {
        "metadata": {"name": f"{of}-x", "namespace": "team", "labels": {"serving.knative.dev/revision": of}},
        "status": {"phase": "Pending", kind: [container]},
    }


def seen(traffic: list[dict[str, Any]], *revisions: dict[str, Any], **more: Any) -> Seen:
    pods = more.pop("pods", ())
    return Seen(service=service(traffic, **more), mode="Knative", revisions=revisions, pods=pods)


def part(number: int, percent: int) -> dict[str, Any]:
    return {"revisionName": f"flights-predictor-{number:05d}", "percent": percent}


def test_revisions_have_their_shares_newest_first() -> None:
    found = endpoint_of(seen([part(2, 20), part(1, 80)], revision(2), revision(1)), "http://x", "team")
    assert [(r.number, r.version, r.traffic) for r in found.revisions] == [(2, "2", 20), (1, "1", 80)]
    assert found.ready
    assert found.revisions[0].created.utcoffset() is not None


def test_both_shares_of_one_revision_are_one() -> None:
    found = endpoint_of(seen([part(1, 20), part(1, 80)], revision(1)), "http://x", "team")
    assert [r.traffic for r in found.revisions] == [100]


def test_a_revision_that_was_rolled_out_long_ago_is_still_shown() -> None:
    many = [revision(n) for n in range(30, 0, -1)]
    found = endpoint_of(seen([part(30, 10), part(1, 90)], *many), "http://x", "team")
    assert [r.number for r in found.revisions] == [*range(30, 20, -1), 1]


def test_an_endpoint_without_an_address_is_not_ready() -> None:
    found = endpoint_of(seen([part(1, 100)], revision(1)), None, "team", "the gateway is gone")
    assert (found.ready, found.message) == (False, "the gateway is gone")


def test_a_model_server_that_gave_up_is_a_failed_revision_with_its_words() -> None:
    said = "model can't be loaded: no MLmodel"
    ended = {"name": "kserve-container", "state": {"terminated": {"exitCode": 3, "message": said}}}
    looked = seen(
        [part(1, 100)],
        revision(2, ready="Unknown"),
        revision(1),
        pods=(pod("flights-predictor-00002", ended),),
        ready=False,
    )
    assert has_ended(looked, looked.revisions[0])
    found = endpoint_of(looked, "http://x", "team")
    assert found.ready  # the old one answers
    assert (found.revisions[0].failed, said in found.revisions[0].message) == (True, True)


@pytest.mark.parametrize("state", [{"waiting": {"reason": "CrashLoopBackOff"}}, {"running": {}}])
def test_what_ended_before_counts_while_it_is_not_running(state: dict[str, Any]) -> None:
    container = {
        "name": "storage-initializer",
        "restartCount": 1,
        "state": state,
        "lastState": {"terminated": {"exitCode": 3, "message": "no model found"}},
    }
    looked = seen(
        [], revision(1, ready="Unknown"), pods=(pod("flights-predictor-00001", container, init=True),)
    )
    assert has_ended(looked, looked.revisions[0]) == ("waiting" in state)


def test_another_end_may_get_better() -> None:
    ended = {"name": "kserve-container", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
    looked = seen([], revision(1, ready="Unknown"), pods=(pod("flights-predictor-00001", ended),))
    assert not has_ended(looked, looked.revisions[0])
    assert not seems_hopeless(looked, looked.revisions[0])
    assert endpoint_of(looked, None, "team").revisions[0].message == (
        "container kserve-container: ended with status 137 (OOMKilled)"
    )


def test_a_sleeping_revision_is_ready() -> None:
    asleep = revision(1)
    asleep["status"]["conditions"].append({"type": "Active", "status": "False", "reason": "NoTraffic"})
    looked = seen([part(1, 100)], asleep)
    found = endpoint_of(looked, "http://x", "team")
    assert (found.ready, found.revisions[0].failed, found.revisions[0].message) == (True, False, "")


def test_kserves_own_complaint_is_the_message() -> None:
    looked = seen(
        [],
        ready=False,
        modelStatus={"transitionStatus": "InvalidSpec", "lastFailureInfo": {"message": "No runtime found"}},
    )
    assert endpoint_of(looked, None, "team").message == "No runtime found"
    assert seems_hopeless(looked, None)


# -- waiting ---------------------------------------------------------------------------------


def wanted(number: int, canary: int | None = None) -> Wanted:
    return Wanted(Identity(spec=f"spec{number}"), canary)


def test_it_is_settled_with_the_asked_share() -> None:
    both = (revision(2), revision(1))
    assert is_settled(seen([part(2, 20), part(1, 80)], *both), wanted(2, 20))
    assert not is_settled(seen([part(2, 100)], *both), wanted(2, 20))
    assert is_settled(seen([part(2, 100)], *both), wanted(2))
    assert not is_settled(seen([part(1, 100)], *both), wanted(2))


def test_nothing_is_settled_before_the_new_revision_is_there() -> None:
    assert not is_settled(seen([part(1, 100)], revision(1)), wanted(2))
    assert not is_settled(seen([part(1, 100)], revision(2, ready="Unknown"), revision(1)), wanted(2))


def test_the_first_revision_gets_everything_whatever_its_canary_says() -> None:
    assert is_settled(seen([part(1, 100)], revision(1)), wanted(1, 10))


# -- Standard mode ---------------------------------------------------------------------------


def standard(*sets: dict[str, Any]) -> Seen:
    return Seen(service=service([]), mode="Standard", revisions=sets)


def test_ready_pods_share_the_traffic_of_a_roll_out() -> None:
    found = endpoint_of(
        standard(replica_set(2, replicas=2, ready=1), replica_set(1, replicas=1, ready=1)), "http://x", "team"
    )
    assert [(r.number, r.traffic) for r in found.revisions] == [(2, 50), (1, 50)]
    assert not is_settled(
        standard(replica_set(2, replicas=1, ready=1), replica_set(1, replicas=1, ready=1)), wanted(2)
    )


def test_a_replaced_replica_set_has_neither_traffic_nor_trouble() -> None:
    found = endpoint_of(
        standard(replica_set(2, replicas=1, ready=1), replica_set(1, replicas=0, ready=0)), "http://x", "team"
    )
    old = found.revisions[1]
    assert (old.traffic, old.ready, old.failed, old.message) == (0, False, False, "")


@pytest.mark.parametrize(
    ("spec", "entry"),
    [
        ({"predictor": {}}, "flights-predictor"),
        ({"predictor": {"name": "blue"}}, "flights-blue-predictor"),
        ({"predictor": {}, "transformer": {"containers": []}}, "flights-transformer"),
    ],
)
def test_requests_enter_by_the_first_component(spec: dict[str, Any], entry: str) -> None:
    made = service([])
    made["spec"] = spec
    assert entry_of(Seen(service=made, mode="Standard")) == entry
