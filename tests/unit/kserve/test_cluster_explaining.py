"""Conditions, pods and events of a cluster as records: from documents as KServe and Kubernetes write them."""

from __future__ import annotations

from typing import Any

from modelyard.kube import ApiFault
from modelyard_kserve.cluster.explaining import conditions_of, events_of, explanation
from modelyard_kserve.cluster.observing import Seen
from modelyard_kserve.cluster.status import endpoint_of

T1, T2 = "2026-03-01T10:00:00Z", "2026-03-01T10:05:00Z"
CONDITIONS = [
    {"lastTransitionTime": T1, "status": "True", "type": "IngressReady"},
    {
        "lastTransitionTime": T2,
        "message": 'Revision "flights-predictor-00002" failed with message: model can\'t be\nloaded.',
        "reason": "RevisionFailed",
        "severity": "Info",
        "status": "False",
        "type": "PredictorConfigurationReady",
    },
    {"lastTransitionTime": T2, "reason": "RevisionFailed", "status": "False", "type": "PredictorReady"},
    {"lastTransitionTime": T1, "severity": "Info", "status": "True", "type": "PredictorRouteReady"},
    {"lastTransitionTime": T2, "reason": "RevisionFailed", "status": "False", "type": "Ready"},
    {"lastTransitionTime": T1, "severity": "Info", "status": "True", "type": "RoutesReady"},
]


def revision(number: int, *conditions: dict[str, Any], trust: str = "registry") -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"flights-predictor-0000{number}",
            "namespace": "team",
            "creationTimestamp": T1,
            "labels": {"serving.knative.dev/configurationGeneration": str(number)},
            "annotations": {
                "modelyard.dev/model": "flights",
                "modelyard.dev/version": str(number),
                "modelyard.dev/trusted-by": trust,
            },
        },
        "status": {"conditions": list(conditions)},
    }


def pod(of: str, container: dict[str, Any], ready: str) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"{of}-deployment-x",
            "namespace": "team",
            "labels": {"serving.knative.dev/revision": of},
        },
        "status": {
            "startTime": T1,
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": T2}],
            "containerStatuses": [{"name": "kserve-container", **container}],
        },
    }


ENDED = {
    "restartCount": 4,
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 3, "message": "model can't be loaded: no MLmodel"}},
}
OLD = revision(1, {"type": "Ready", "status": "True", "lastTransitionTime": T1}, trust="consent")
NEW = revision(
    2, {"type": "Ready", "status": "False", "reason": "ExitCode3", "lastTransitionTime": T2, "message": "x"}
)
SEEN = Seen(
    service={
        "metadata": {"name": "flights", "namespace": "team", "creationTimestamp": T1},
        "spec": {"predictor": {"model": {}}},
        "status": {
            "conditions": CONDITIONS,
            "components": {
                "predictor": {"traffic": [{"revisionName": "flights-predictor-00001", "percent": 100}]}
            },
        },
    },
    mode="Knative",
    revisions=(NEW, OLD),
    pods=(
        pod("flights-predictor-00002", ENDED, "False"),
        pod("flights-predictor-00001", {"ready": True, "state": {"running": {}}}, "True"),
    ),
)


class Api:
    """What a cluster answers about events and logs, and what it was asked."""

    def __init__(self, events: list[dict[str, Any]], *, forbidden: bool = False) -> None:
        self._events, self._forbidden = events, forbidden
        self.asked: list[str] = []

    def find(self, _: str, kind: str, *, namespace: str, fields: str) -> list[dict[str, Any]]:
        assert (kind, namespace) == ("Event", "team")
        self.asked.append(fields)
        if self._forbidden:
            raise ApiFault("cluster-refused", "events is forbidden", status=403, reason="Forbidden")
        name = fields.removeprefix("involvedObject.name=").partition(",")[0]
        return [event for event in self._events if event["involvedObject"]["name"] == name]

    def logs(self, *_: Any, **__: Any) -> list[str]:
        return ["loading", "model can't be loaded: no MLmodel"]


def event(uid: str, about: str, reason: str, **more: Any) -> dict[str, Any]:
    named = {"metadata": {"uid": uid, "name": uid}, "involvedObject": {"name": about}, "reason": reason}
    return {"type": "Normal", "message": f"{reason}\nhappened", "lastTimestamp": T2, **named, **more}


EVENTS = [
    event("1", "flights", "InferenceServiceReady", lastTimestamp=T1, firstTimestamp=T1),
    event(
        *("2", "flights-predictor-00002-deployment-x", "BackOff"),
        **{"type": "Warning", "count": 7, "firstTimestamp": T1},
    ),
    # The newer API counts in a series, and leaves the older fields empty.
    event(
        *("3", "flights", "Slow"),
        lastTimestamp=None,
        eventTime="2026-03-01T10:01:00.123456Z",
        series={"count": 3, "lastObservedTime": "2026-03-01T10:02:00.000000Z"},
    ),
    event("4", "flights", "Timeless", lastTimestamp=None),
]


def explained(api: Any) -> Any:
    return explanation(api, SEEN, endpoint_of(SEEN, "http://x", "team"))


def test_kserves_conditions_come_with_ready_first() -> None:
    found = conditions_of(SEEN.service)
    assert [one.type for one in found] == [
        *("Ready", "IngressReady", "PredictorConfigurationReady", "PredictorReady", "PredictorRouteReady"),
        "RoutesReady",
    ]
    configuration = found[2]
    assert (configuration.status, configuration.reason) == ("False", "RevisionFailed")
    assert "can't be loaded." in configuration.message
    assert configuration.since is not None
    assert configuration.since.isoformat() == "2026-03-01T10:05:00+00:00"


def test_an_endpoint_that_answers_with_its_old_revision_is_explained() -> None:
    found = explained(Api(EVENTS))
    new, old = found.endpoint.revisions
    assert (found.endpoint.ready, found.settled) == (True, False)
    assert (new.failed, new.reason, new.trust) == (True, "ExitCode3", "registry")
    assert (old.reason, old.trust) == ("", "consent")
    waiting, answering = found.replicas
    assert (waiting.ready, waiting.restarts) == (False, 4)
    assert "no MLmodel" in waiting.waits_for
    assert (answering.ready, answering.waits_for) == (True, "")
    assert found.logs.keys() == {new.name}
    assert "no MLmodel" in found.logs[new.name][-1]


def test_events_are_told_oldest_first_and_those_without_a_time_are_not() -> None:
    found = explained(Api(EVENTS)).events
    assert [(one.reason, one.count) for one in found] == [
        ("InferenceServiceReady", 1),
        ("Slow", 3),
        ("BackOff", 7),
    ]
    assert found[-1].message == "flights-predictor-00002-deployment-x: BackOff happened"
    assert found[-1].type == "Warning"


def test_events_and_questions_are_bounded() -> None:
    assert len(events_of([event(str(n), "flights", f"Reason{n}") for n in range(200)])) == 50
    many = Seen(
        service=SEEN.service,
        mode="Knative",
        revisions=(NEW,),
        pods=tuple(pod("flights-predictor-00002", ENDED, "False") for _ in range(40)),
    )
    api = Api([])
    explanation(api, many, endpoint_of(many, "http://x", "team"))  # type: ignore[arg-type]
    assert len([fields for fields in api.asked if "type=" not in fields]) == 8


def test_what_the_token_may_not_read_is_said_and_hinders_nothing() -> None:
    found = explained(Api([], forbidden=True))
    assert found.events == ()
    assert found.unknown == "events can't be read: events is forbidden"
    assert found.replicas


def test_what_is_better_not_true_is_no_trouble() -> None:
    met = [{"type": "Ready", "status": "True"}, {"type": "Stopped", "status": "False", "severity": "Info"}]
    service = {**SEEN.service, "status": {**SEEN.service["status"], "conditions": met}}
    service["status"]["conditions"].append({"type": "RoutesReady", "status": "True"})
    seen = Seen(service=service, mode="Knative", revisions=(OLD,))
    found = explanation(Api([]), seen, endpoint_of(seen, "http://x", "team"))  # type: ignore[arg-type]
    assert found.settled
    assert "Stopped" in [one.type for one in found.endpoint.conditions]


def test_a_sleeping_revision_has_knatives_word() -> None:
    asleep = revision(
        1,
        {"type": "Ready", "status": "True"},
        {"type": "Active", "status": "False", "reason": "NoTraffic"},
    )
    seen = Seen(service=SEEN.service, mode="Knative", revisions=(asleep,))
    found = endpoint_of(seen, "http://x", "team").revisions[0]
    assert (found.ready, found.reason) == (True, "NoTraffic")
