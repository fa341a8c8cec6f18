"""Graphs of real endpoints: what their router answers, and that it lives as model servers do."""

from __future__ import annotations

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from modelyard.errors import ConfigError, ConflictError, NotFoundError
from modelyard.records import Endpoint
from modelyard.testing.contexts import answer, serve

V1, V2 = "models:/late-flights/1", "models:/late-flights/2"
GRAPH = ("serving.kserve.io/v1alpha1", "InferenceGraph")


@pytest.fixture(scope="module")
def both(project: Any) -> tuple[Endpoint, Endpoint]:
    """Two endpoints whose models answer the opposite."""
    return project.apply("one", V1), project.apply("two", V2)


def graph(project: Any, name: str, kind: str, *steps: dict[str, Any], **more: Any) -> Path:
    """The file of a graph; `more` holds further nodes as (type, steps), and fields of the spec."""
    nodes = {k: {"routerType": v[0], "steps": v[1]} for k, v in more.items() if isinstance(v, tuple)}
    fields = {k: v for k, v in more.items() if not isinstance(v, tuple) and k != "annotations"}
    nodes["root"] = {"routerType": kind, "steps": steps}
    value = {
        "apiVersion": GRAPH[0],
        "kind": GRAPH[1],
        "metadata": {"name": name, "annotations": more.get("annotations") or {}},
        "spec": {"nodes": nodes, **fields},
    }
    file: Path = project.context.root / f"{name}.json"
    file.write_text(json.dumps(value), encoding="utf-8")
    return file


def to(service: str, **more: Any) -> dict[str, Any]:
    return {"serviceName": service, **more}


@pytest.fixture(scope="module")
def ensemble(project: Any, both: Any) -> Endpoint:
    """A graph that no test changes for good."""
    file = graph(project, "ensemble", "Ensemble", to("one", name="first"), to("two"))
    made: Endpoint = project.server.apply(file)
    return made


def asked(
    post: Any, endpoint: Endpoint, rows: Any, headers: dict[str, str] | None = None, **more: Any
) -> tuple[int, Any, http.client.HTTPMessage]:
    """Status, value and headers of a graph's answer to V1's instances, and whatever else is sent."""
    body = json.dumps({"instances": rows, **more}).encode()
    status, got, text = post(endpoint.url, f"/v1/models/{endpoint.name}:predict", body, headers)
    return status, json.loads(text), got


def answers(both: tuple[Endpoint, Endpoint], rows: Any) -> list[list[Any]]:
    return [list(one.predict(rows).predictions) for one in both]


def asleep(file: Path) -> Path:
    """The same file for something without a replica that stays."""
    content = json.loads(file.read_text())
    content["metadata"]["annotations"] = {"autoscaling.knative.dev/window": "6s"}
    content["spec"].get("predictor", content["spec"])["minReplicas"] = 0
    file.write_text(json.dumps(content))
    return file


# -- answers --------------------------------------------------------------------------------


def test_an_ensemble_merges_what_the_models_answer(
    post: Any, both: Any, ensemble: Endpoint, rows: Any
) -> None:
    first, second = answers(both, rows)
    assert first != second
    status, value, headers = asked(post, ensemble, rows, {"X-Request-Id": "merged"})
    assert status == 200
    assert value == {"first": {"predictions": first}, "1": {"predictions": second}}
    assert headers["X-Request-Id"] == "merged"
    assert headers["X-Modelyard-Revision"] == "ensemble-00001"
    assert ensemble.storage_uri == "its graph"


def test_a_graph_answers_on_its_host_and_on_any_path(post: Any, ensemble: Endpoint, rows: Any) -> None:
    parts = urlsplit(ensemble.url)
    body = json.dumps({"instances": rows}).encode()
    bare = f"http://{parts.netloc}"
    host = {"Host": "ensemble-default.example.com"}
    assert {post(bare, path, body, host)[0] for path in ("/", "/v1/models/ensemble:predict", "/x")} == {200}
    assert post(str(ensemble.url), "/", body)[0] == 200


def test_a_sequence_goes_on_where_its_condition_is_met(project: Any, post: Any, both: Any, rows: Any) -> None:
    first, second = answers(both, rows)
    steps = [to("one", name="is-it"), to("two", data="$request", condition="[@this].#(predictions.0==1)")]
    made = project.server.apply(graph(project, "sequence", "Sequence", *steps))
    turned = [row for _, row in sorted(zip(first, rows), key=lambda both: both[0])]
    for given in (turned, turned[::-1]):
        expected = answers(both, given)
        goes_on = expected[0][0] == 1
        assert asked(post, made, given)[:2] == (200, {"predictions": expected[1 if goes_on else 0]})
    assert {answers(both, one)[0][0] for one in (turned, turned[::-1])} == {0, 1}
    assert made.predict(rows).predictions in (tuple(first), tuple(second))


def test_a_switch_chooses_by_the_request_and_may_find_nobody(
    project: Any, post: Any, both: Any, rows: Any
) -> None:
    steps = [to(name, condition=f"[@this].#(source=={name})") for name in ("one", "two")]
    made = project.server.apply(graph(project, "switch", "Switch", *steps))
    for number, name in enumerate(("one", "two")):
        value = {"predictions": answers(both, rows)[number]}
        assert asked(post, made, rows, source=name)[:2] == (200, value)
    status, value, _ = asked(post, made, rows, source="three")
    cause = "None of the routes matched with the switch condition"
    assert (status, value) == (404, {"error": "Failed to process request", "cause": cause})


def test_a_splitter_splits_by_the_header_and_by_weight(project: Any, post: Any, both: Any, rows: Any) -> None:
    steps = [to("one", weight=30), to("two", weight=70)]
    made = project.server.apply(graph(project, "splitter", "Splitter", *steps))
    first, second = answers(both, rows)
    seen = [
        asked(post, made, rows, {"X-Modelyard-Split": str(n)})[1]["predictions"] for n in range(0, 100, 10)
    ]
    assert seen == [first] * 3 + [second] * 7


def test_what_a_model_refuses_comes_back_and_a_hard_dependency_ends_it(
    project: Any, post: Any, both: Any, rows: Any
) -> None:
    steps = [to("one", name="m", dependency="Hard"), to("two")]
    made = project.server.apply(graph(project, "hard", "Sequence", *steps))
    body = json.dumps({"instances": "none"}).encode()
    refused = post(both[0].url, "/v1/models/one:predict", body)
    status, _, text = post(made.url, "/", body)
    assert 400 <= status < 500
    assert (status, json.loads(text)) == (refused[0], json.loads(refused[2]))
    assert asked(post, made, rows)[0] == 200


def test_nodes_and_graphs_ask_each_other(
    project: Any, post: Any, both: Any, ensemble: Endpoint, rows: Any
) -> None:
    inside = {"nodeName": "inside", "name": "node"}
    by_url = {"serviceUrl": "http://ensemble.default.svc.cluster.local", "name": "graph"}
    split = ("Splitter", [to("two", weight=100)])
    made = project.server.apply(graph(project, "nested", "Ensemble", inside, by_url, inside=split))
    first, second = answers(both, rows)
    assert asked(post, made, rows)[1] == {
        "node": {"predictions": second},
        "graph": {"first": {"predictions": first}, "1": {"predictions": second}},
    }
    for name in ("nested", "ensemble"):
        with pytest.raises(ConfigError, match="would ask itself"):
            project.server.apply(graph(project, "ensemble", "Sequence", to(name)))
    assert asked(post, ensemble, rows)[0] == 200


def test_a_model_by_v2_is_asked_by_v2(project: Any, post: Any, rows: Any) -> None:
    project.apply("by-v2", V1, protocolVersion="v2")
    made = project.server.apply(graph(project, "v2", "Sequence", to("by-v2")))
    got = made.predict(rows[:1], protocol="v2")
    assert got.predictions == project.server.get("by-v2").predict(rows[:1], protocol="v2").predictions


def test_each_step_logs_its_prediction_under_the_requests_id(
    project: Any, post: Any, rows: Any, within: Any
) -> None:
    seen: set[tuple[str, str]] = set()

    def collect(request: BaseHTTPRequestHandler, _: bytes) -> None:
        seen.add((request.headers["Ce-Inferenceservicename"], request.headers["Ce-Id"]))
        answer(request, 200, b"{}")

    collector = serve(collect)
    url = f"http://127.0.0.1:{collector.server_address[1]}/"
    for name in ("logged-1", "logged-2"):
        file = project.file(name, V1)
        value = json.loads(file.read_text())
        value["spec"]["predictor"]["logger"] = {"url": url, "mode": "all"}
        file.write_text(json.dumps(value))
        project.server.apply(file)
    steps = [to("logged-1"), to("logged-2"), to("logged-1")]
    made = project.server.apply(graph(project, "logged", "Sequence", *steps))
    assert made.predict(rows, headers={"X-Request-Id": "trace-me"}).id == "trace-me"
    expected = {("logged-1", "trace-me"), ("logged-2", "trace-me"), ("logged-1", "trace-me.2")}
    assert within(60, lambda: seen >= expected)
    assert seen == expected
    collector.shutdown()
    collector.server_close()


# -- what is not there ----------------------------------------------------------------------


def test_a_missing_endpoint_is_named_until_it_is_there(
    project: Any, post: Any, rows: Any, within: Any
) -> None:
    file = graph(project, "early", "Sequence", to("late-one", name="x"))
    made = project.server.apply(file)
    assert made.ready
    assert made.message == "step x of node root: there is no endpoint 'late-one' in 'default' yet"
    status, value, _ = asked(post, made, rows)
    assert status == 404
    assert value["cause"] == "step x of node root: there is no endpoint 'late-one' in 'default'"
    project.apply("late-one", V1)
    assert project.server.get("early").message == ""
    assert within(60, lambda: asked(post, made, rows)[0] == 200)
    (step,) = project.server.get("early").graph
    assert (step.target, step.ready) == ("late-one", True)
    project.server.delete("late-one")
    assert within(60, lambda: asked(post, made, rows)[0] == 404)
    assert not project.server.get("early").graph[0].ready


def test_a_name_is_a_model_or_a_graph(project: Any, both: Any, ensemble: Endpoint) -> None:
    with pytest.raises(ConflictError, match="'ensemble' is an InferenceGraph already"):
        project.apply("ensemble", V1)
    with pytest.raises(ConflictError, match="'one' is an InferenceService already"):
        project.server.apply(graph(project, "one", "Sequence", to("two")))


def test_a_token_goes_from_a_guarded_graph_to_guarded_steps(project: Any, post: Any, rows: Any) -> None:
    annotations = {"modelyard.dev/token": "true"}
    file = project.file("secret", V1)
    value = json.loads(file.read_text())
    value["metadata"]["annotations"] = annotations
    file.write_text(json.dumps(value))
    project.server.apply(file)
    made = project.server.apply(graph(project, "guarded", "Sequence", to("secret"), annotations=annotations))
    assert post(made.url, "/", b"{}")[0] == 401
    assert len(made.predict(rows).predictions) == len(rows)
    opened = project.server.apply(graph(project, "opened", "Sequence", to("secret")))
    assert "'secret' asks for the token" in opened.message
    assert post(opened.url, "/", b"{}")[0] == 401


# -- the router's life ----------------------------------------------------------------------


def routers(project: Any, name: str) -> list[psutil.Process]:
    found: list[psutil.Process] = project.family(name)
    return found


def test_a_killed_router_is_started_again(
    project: Any, post: Any, ensemble: Endpoint, rows: Any, within: Any, runs: Any
) -> None:
    (router,) = routers(project, "ensemble")
    assert any("graph.router" in word for word in router.cmdline())
    router.kill()
    assert within(60, lambda: not runs(router))
    assert within(60, lambda: project.server.get("ensemble").ready and len(routers(project, "ensemble")) == 1)
    assert asked(post, ensemble, rows)[0] == 200
    assert routers(project, "ensemble")[0].pid != router.pid


def test_the_next_controller_adopts_it(
    project: Any, post: Any, ensemble: Endpoint, rows: Any, within: Any
) -> None:
    (router,) = routers(project, "ensemble")
    project.kill("controller")
    assert asked(post, ensemble, rows)[0] == 200
    project.up()
    assert within(60, lambda: project.server.get("ensemble").ready)
    assert [one.pid for one in routers(project, "ensemble")] == [router.pid]
    assert asked(post, ensemble, rows)[0] == 200


def test_a_changed_graph_is_a_new_revision_and_no_request_fails(
    project: Any, both: Any, rows: Any, callers: Any
) -> None:
    made = project.server.apply(graph(project, "changing", "Sequence", to("one")))
    with callers(made.url, "changing") as under_way:
        for service in ("two", "one", "two"):
            changed = project.server.apply(graph(project, "changing", "Sequence", to(service)))
    assert under_way.failed() == []
    assert len(under_way.answers) > 10
    assert changed.revisions[0].name == "changing-00004"
    assert changed.predict(rows).predictions == both[1].predict(rows).predictions
    again = project.server.apply(graph(project, "changing", "Sequence", to("two")))
    assert again.revisions[0].name == "changing-00004"


def test_a_request_wakes_every_step_that_sleeps_and_none_is_lost(
    project: Any, post: Any, within: Any, rows: Any
) -> None:
    names = ("first-asleep", "second-asleep")
    for name, uri in zip(names, (V1, V2)):
        project.server.apply(asleep(project.file(name, uri)))
    steps = (to(names[0]), {"nodeName": "each", "data": "$request"})
    each = ("Ensemble", [to(name) for name in names])
    made = project.server.apply(asleep(graph(project, "dreams", "Sequence", *steps, each=each)))
    predicted = answers(tuple(map(project.server.get, names)), rows)
    said = {str(place): {"predictions": one} for place, one in enumerate(predicted)}
    everybody = (*names, "dreams")

    def sleeps() -> bool:
        return not any(project.family(name) for name in everybody)

    assert within(60, sleeps), "nobody asks, but they stay"
    assert all(project.server.get(name).ready for name in everybody)
    assert asked(post, made, rows)[:2] == (200, said)
    assert within(60, sleeps)
    with ThreadPoolExecutor(50) as pool:
        got = list(pool.map(lambda _: asked(post, made, rows), range(100)))
    assert [one[:2] for one in got if one[:2] != (200, said)] == []
    for name in reversed(everybody):
        project.server.delete(name)


def test_delete_and_down_end_it(
    project: Any, ensemble: Endpoint, post: Any, rows: Any, within: Any, runs: Any
) -> None:
    gone = project.server.apply(graph(project, "gone", "Sequence", to("one")))
    (router,) = routers(project, "gone")
    project.server.delete("gone")
    assert within(60, lambda: not runs(router))
    assert post(gone.url, "/", b"{}")[0] == 404
    with pytest.raises(NotFoundError):
        project.server.get("gone")
    project.down()
    assert within(60, lambda: not project.everything())
    assert project.server.get("ensemble").url is None
    project.up()
    assert within(60, lambda: project.server.get("ensemble").ready and project.server.get("one").ready)
    assert asked(post, project.server.get("ensemble"), rows)[0] == 200
