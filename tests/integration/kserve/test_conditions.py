"""What the controller says of real processes: conditions and events, through kills and sleep."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelyard.errors import EnvironmentFault
from modelyard.records import Condition, Endpoint, Explanation

V1 = "models:/late-flights/1"


def reasons(found: Explanation) -> list[str]:
    return [event.reason for event in found.events]


def conditions(endpoint: Endpoint) -> dict[str, Condition]:
    return {one.type: one for one in endpoint.conditions}


@pytest.fixture(scope="module")
def live(project: Any) -> Endpoint:
    made: Endpoint = project.apply("live", V1)
    return made


def test_a_model_server_that_is_killed_is_an_event_and_comes_back(
    project: Any, live: Endpoint, within: Any
) -> None:
    (server,) = project.model_servers("live").values()
    server.kill()

    def is_back() -> bool:
        found = project.server.explain("live")
        return found.settled and [one.restarts for one in found.replicas] == [1]

    assert within(60, is_back)
    after = project.server.explain("live")
    assert "CrashLoopBackOff" in reasons(after)
    (replica,) = after.replicas
    assert replica.ready
    assert int(replica.name) != server.pid
    ready = conditions(after.endpoint)["Ready"]
    assert ready.since is not None
    assert ready.since > conditions(live)["Ready"].since  # type: ignore[operator]


def test_a_controller_that_is_killed_leaves_times_and_events_as_they_are(
    project: Any, live: Endpoint, within: Any
) -> None:
    before = project.server.explain(live.name)
    project.kill("controller")
    project.up()
    assert within(60, lambda: project.server.get(live.name).ready)
    after = project.server.explain(live.name)
    assert conditions(after.endpoint) == conditions(before.endpoint)
    assert after.events == before.events
    assert [r.since for r in after.endpoint.revisions] == [r.since for r in before.endpoint.revisions]


def test_without_processes_nobody_knows(project: Any, live: Endpoint) -> None:
    project.down()
    found = project.server.explain(live.name)
    assert {(one.status, one.reason) for one in found.endpoint.conditions} == {("Unknown", "NotRunning")}
    assert (found.replicas, found.settled) == ((), False)
    assert found.events, "what happened is still known"
    project.up()


def test_sleep_and_waking_are_told(project: Any, rows: Any, within: Any) -> None:
    file = project.file("sleepy", V1)
    content = json.loads(file.read_text())
    content["metadata"]["annotations"] = {"autoscaling.knative.dev/window": "6s"}
    content["spec"]["predictor"]["minReplicas"] = 0
    file.write_text(json.dumps(content))
    made = project.server.apply(file)
    assert within(60, lambda: project.server.get("sleepy").revisions[0].reason == "NoTraffic")
    asleep = project.server.explain("sleepy")
    assert "NoTraffic" in reasons(asleep)
    assert asleep.settled, "a model that sleeps is as it should be"
    assert within(60, lambda: not project.family("sleepy"))
    made.predict(rows)
    assert within(60, lambda: "Active" in reasons(project.server.explain("sleepy")))


def test_who_waits_is_told_what_for_and_a_failure_says_where_to_look(project: Any) -> None:
    folder = project.context.root / "broken"
    folder.mkdir()
    (folder / "model.skops").write_text("torn")
    told: list[Endpoint] = []
    with pytest.raises(EnvironmentFault) as failed:
        project.server.apply(project.file("stuck", str(folder)), progress=told.append)
    assert failed.value.hint == "modelyard endpoints show stuck"
    assert told, "nobody was told"
    assert told[0].revisions[0].name == "stuck-00001"
    found = project.server.explain("stuck")
    (revision,) = found.endpoint.revisions
    assert (revision.failed, revision.reason, revision.since is not None) == (True, "ModelLoadFailed", True)
    assert any("can't be loaded" in line for line in found.logs[revision.name])
    assert conditions(found.endpoint)["PredictorConfigurationReady"].reason == "RevisionFailed"


def test_an_endpoint_that_envoy_does_not_take_is_noticed_and_others_go_on_once_it_is_deleted(
    project: Any, live: Endpoint, within: Any, rows: Any
) -> None:
    project.apply("strange", V1)
    file = project.context.state / "endpoints" / "strange" / "desired.json"
    text = file.read_text()
    (newest,) = json.loads(text)["revisions"]
    assert f'"timeout": {newest["timeout"]}' in text
    file.write_text(text.replace(f'"timeout": {newest["timeout"]}', '"timeout": 1e+15'))  # no file can say so
    with pytest.raises(EnvironmentFault) as fault:
        project.apply("other", V1)
    assert "Envoy does not take its configuration" in fault.value.message
    ingress = conditions(project.server.get("other"))["IngressReady"]
    assert (ingress.status, ingress.reason) == ("False", "IngressNotReady")
    assert live.predict(rows).version == "1"
    project.server.delete("strange")
    assert within(60, lambda: conditions(project.server.get("other"))["IngressReady"].status == "True")
    assert project.server.get("other").predict(rows).version == "1"
    assert live.predict(rows).version == "1"
