"""Prometheus, Alertmanager and Grafana get what their own tools call right, and name what there is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelyard.components import Component
from modelyard_evidently import exporter
from modelyard_evidently.component import COMPONENT as MONITOR
from modelyard_sandbox.components import alertmanager, everything, grafana, prometheus
from modelyard_sandbox.lock import Lock
from modelyard_sandbox.selection import requests

#: Where the tests on a cluster keep a build of Prometheus that can look for pods.
CLUSTER_CACHE = Path(os.environ.get("MODELYARD_TEST_CLUSTER_CACHE") or "/var/cache/modelyard-cluster")
promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
PARTS = (MONITOR, prometheus.COMPONENT, alertmanager.COMPONENT, grafana.COMPONENT)
#: What others export: Knative's proxy, KServe's model server, Prometheus itself.
THEIRS = {
    *(f"kn_serving_invocation_duration_seconds_{part}" for part in ("bucket", "count", "sum")),
    *(f"request_predict_seconds_{part}" for part in ("count", "sum")),
    *("up", "ALERTS"),
}


@dataclass
class Place:
    """A site without a sandbox."""

    components: frozenset[str] = frozenset({"monitor", "prometheus", "alertmanager", "grafana", "acme"})
    name: str = "default"
    mode: str = "Knative"
    secrets: dict[str, str] = field(default_factory=dict)

    def image(self, reference: str) -> str:
        return reference.replace("docker.io/", "local.test/").replace("ghcr.io/", "local.test/")

    def secret(self, name: str) -> str:
        return self.secrets.get(name, f"secret-of-{name}")

    def data(self, component: str) -> str:
        return f"/var/modelyard/{component}"


def objects(component: Component, place: Any = None) -> dict[tuple[str, str], dict[str, Any]]:
    listed = list(component.objects(place or Place()))
    return {(each["kind"], each["metadata"]["name"]): each for each in listed}


def container(component: Component, place: Any = None) -> dict[str, Any]:
    made = objects(component, place)["Deployment", component.name]
    (found,) = made["spec"]["template"]["spec"]["containers"]
    return dict(found)


def boards() -> dict[str, Any]:
    return {name: json.loads(text) for name, text in grafana.dashboards().items()}


def queries(board: Mapping[str, Any]) -> Iterator[str]:
    """Every query of a dashboard, its variables filled in as for `All`."""
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    found += [each["expr"] for each in board["annotations"]["list"]]
    for variable in board["templating"]["list"]:
        selector = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert selector, variable["query"]
        found.append(selector[1])
    for query in found:
        yield re.sub(r"\$(namespace|project|endpoint|metric)\b", ".*", query).replace(
            "$__rate_interval", "1m"
        )


# -- every part -----------------------------------------------------------------------------


@pytest.mark.parametrize("component", PARTS, ids=lambda c: c.name)
def test_a_part_runs_as_nobody_special_with_what_it_asks_for_written_down(component: Component) -> None:
    made = objects(component)["Deployment", component.name]
    pod = made["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    runs = container(component)
    assert runs["image"] in {Place().image(image) for image in component.images}
    assert runs["command"], "an image that stands in has another default command"
    assert set(runs["resources"]["requests"]) == {"cpu", "memory"}
    assert runs["resources"]["limits"]["memory"]
    assert component.profiles == ("full",)
    mounted = {mount["name"] for mount in runs["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    cpus, memory = requests(list(objects(component).values()))
    assert (cpus, memory) <= (0.01, 128 << 20)


@pytest.mark.parametrize("component", PARTS, ids=lambda c: c.name)
def test_its_port_is_that_of_its_service(component: Component) -> None:
    (port,) = component.ports
    (exposed,) = objects(component)["Service", component.name]["spec"]["ports"]
    assert exposed["nodePort"] == port.node_port
    assert container(component)["ports"] == [{"containerPort": exposed["targetPort"]}]


def test_no_two_parts_share_a_port_and_every_image_is_in_the_lock() -> None:
    parts = [*everything(), MONITOR]
    taken = [port.node_port for part in parts for port in part.ports]
    assert len(taken) == len(set(taken))
    assert {image for part in PARTS for image in part.images} <= set(Lock.load().images)


@pytest.mark.parametrize(
    ("component", "secret"), [(MONITOR, "monitor-token"), (grafana.COMPONENT, "grafana-admin")]
)
def test_a_new_secret_makes_the_pod_anew_and_is_not_to_be_read_off_it(
    component: Component, secret: str
) -> None:
    place = Place(secrets={secret: "another"})
    before = objects(component)["Deployment", component.name]
    after = objects(component, place)["Deployment", component.name]
    assert before != after
    assert "another" not in json.dumps(after)


# -- Prometheus -----------------------------------------------------------------------------


@promtool
@pytest.mark.parametrize("components", [Place.components, frozenset({"prometheus"})], ids=["full", "alone"])
def test_promtool_takes_configuration_and_rules(tmp_path: Path, components: frozenset[str]) -> None:
    (tmp_path / "rules").mkdir()
    rules = objects(MONITOR)["ConfigMap", "prometheus-rules-monitor"]["data"]["rules.yml"]
    (tmp_path / "rules" / "monitor.yml").write_text(rules)
    files = objects(prometheus.COMPONENT, Place(components=components))["ConfigMap", "prometheus"]["data"]
    text = files["prometheus.yml"].replace("/etc/modelyard/rules", str(tmp_path / "rules"))
    (tmp_path / "prometheus.yml").write_text(text)
    tool = shutil.which("promtool", path=f"{CLUSTER_CACHE / 'bin'}:{os.environ['PATH']}")
    done = subprocess.run(
        [str(tool), "check", "config", "prometheus.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    if "kubernetes_sd_configs not found" in said:
        pytest.skip("this promtool is Debian's, which can't look for pods, and there is no other")
    assert done.returncode == 0, said
    assert said.count("9 rules found") == 1


def test_pods_are_relabelled_as_a_reader_of_the_dashboards_expects() -> None:
    """Every rule is one that Prometheus knows, and the labels are there."""
    jobs = {j["job_name"]: j for j in json.loads(prometheus.settings(Place.components))["scrape_configs"]}
    for name in ("revisions", "models", "pods"):
        assert jobs[name]["kubernetes_sd_configs"] == [{"role": "pod"}]
        rules = jobs[name]["relabel_configs"]
        assert {rule.get("action", "replace") for rule in rules} <= {"keep", "drop", "replace"}
        known = {"source_labels", "action", "regex", "target_label", "replacement", "separator"}
        assert all(set(rule) <= known for rule in rules)
        named = {rule["target_label"] for rule in rules if "target_label" in rule}
        assert {"namespace", "pod", "endpoint", "revision"} <= named


def test_rules_of_every_component_are_mounted_if_there_are_any() -> None:
    pod = objects(prometheus.COMPONENT)["Deployment", "prometheus"]["spec"]["template"]["spec"]
    (rules,) = [v["projected"]["sources"] for v in pod["volumes"] if v["name"] == "rules"]
    named = {source["configMap"]["name"]: source["configMap"] for source in rules}
    assert {"prometheus-rules-monitor", "prometheus-rules-acme"} <= set(named)
    assert all(source["optional"] for source in named.values())
    paths = [item["path"] for source in named.values() for item in source["items"]]
    assert len(paths) == len(set(paths)), "two components must not write one file"
    rules_of_monitor = objects(MONITOR)["ConfigMap", "prometheus-rules-monitor"]
    assert [item["key"] for item in named["prometheus-rules-monitor"]["items"]] == list(
        rules_of_monitor["data"]
    )


def test_it_scrapes_and_tells_only_what_is_there() -> None:
    alone = json.loads(prometheus.settings(frozenset({"prometheus"})))
    assert {job["job_name"] for job in alone["scrape_configs"]} == {
        "prometheus",
        "revisions",
        "models",
        "pods",
    }
    assert "alerting" not in alone
    full = json.loads(prometheus.settings(Place.components))
    (told,) = full["alerting"]["alertmanagers"][0]["static_configs"]
    assert told == {"targets": ["alertmanager.modelyard.svc:9093"]}


def test_it_may_find_pods_and_nothing_else() -> None:
    made = objects(prometheus.COMPONENT)
    (rule,) = made["ClusterRole", "modelyard-prometheus"]["rules"]
    assert (rule["resources"], set(rule["verbs"])) == (["pods"], {"get", "list", "watch"})


# -- Alertmanager ---------------------------------------------------------------------------


def test_alertmanager_tells_nobody_until_somebody_says_whom() -> None:
    said = yaml.safe_load(alertmanager.SETTINGS)
    assert said["receivers"] == [{"name": said["route"]["receiver"]}]
    pod = objects(alertmanager.COMPONENT)["Deployment", "alertmanager"]["spec"]["template"]["spec"]
    (own,) = [v["secret"] for v in pod["volumes"] if v["name"] == "own"]
    assert own["optional"]
    assert own["secretName"] in alertmanager.SETTINGS


# -- Grafana --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", boards())
def test_a_dashboard_names_only_metrics_that_somebody_exports(name: str) -> None:
    ours = {*exporter._HELP, exporter.LAST_LOSS, "modelyard_log_events_total"}
    for query in queries(boards()[name]):
        bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(by|on|group_left) \([^)]*\)', "", query)
        bare = re.sub(r"\w+\s*(?=\()", "", bare)  # functions
        assert set(re.findall(r"[a-zA-Z_]\w+", bare)) <= ours | THEIRS, query


@promtool
@pytest.mark.parametrize("name", boards())
def test_every_query_of_a_dashboard_is_promql(tmp_path: Path, name: str) -> None:
    listed = [{"record": f"query:{n}", "expr": q} for n, q in enumerate(queries(boards()[name]))]
    assert len(listed) > 10
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": listed}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", boards())
def test_a_dashboard_is_whole(name: str) -> None:
    board = boards()[name]
    assert board["uid"] == f"modelyard-{name.removesuffix('.json')}"
    known = {variable["name"] for variable in board["templating"]["list"]} | {"__rate_interval"}
    assert set(re.findall(r"\$(\w+)", json.dumps(board["panels"]))) <= known
    sources = set(re.findall(r'"uid": "(modelyard-prometheus|\$[^"]+)"', json.dumps(board)))
    assert sources == {grafana.SOURCE}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in board["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)), "two panels lie on each other"
    assert max(x for x, _ in cells) < 24


def test_grafana_asks_nobody_outside() -> None:
    said = {each["name"]: each.get("value") for each in container(grafana.COMPONENT)["env"]}
    off = ("ANALYTICS_REPORTING_ENABLED", "ANALYTICS_CHECK_FOR_UPDATES", "ANALYTICS_CHECK_FOR_PLUGIN_UPDATES")
    assert {said[f"GF_{name}"] for name in (*off, "NEWS_NEWS_FEED_ENABLED")} == {"false"}
    assert said["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"
    home = said["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home is not None
    assert Path(home).name in grafana.dashboards()


def test_grafana_finds_source_and_dashboards_where_they_are_mounted() -> None:
    made = objects(grafana.COMPONENT)
    (source,) = yaml.safe_load(made["ConfigMap", "grafana"]["data"]["datasources"])["datasources"]
    assert (source["uid"], source["url"]) == (grafana.SOURCE, "http://prometheus.modelyard.svc:9090")
    (provider,) = yaml.safe_load(made["ConfigMap", "grafana"]["data"]["dashboards"])["providers"]
    mounts = {m["name"]: m["mountPath"] for m in container(grafana.COMPONENT)["volumeMounts"]}
    assert provider["options"]["path"] == mounts["boards"]
    assert set(made["ConfigMap", "grafana-dashboards"]["data"]) == {
        "drift.json",
        "quality.json",
        "traffic.json",
    }
