"""What the panel is told about the demo's project, section by section."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from pathlib import Path

from tests.integration.jupyter.conftest import Jupyter

import modelyard

MODEL = "late-flights"


def test_the_summary_names_the_project_and_is_not_sent_twice(jupyter: Jupyter) -> None:
    said = jupyter.ask("summary")
    (project,) = said.json["projects"]
    assert project["folder"] == "späte Flüge"
    assert said.json["project"] == project["id"]
    assert set(said.json["stamps"]) == {"overview", "runs", "data", "models", "serving", "drift"}
    again = jupyter.ask("summary", headers={"If-None-Match": said.headers["Etag"]})
    assert (again.status, again.body) == (304, b"")


def test_the_project_is_that_of_the_document(jupyter: Jupyter) -> None:
    near = urllib.parse.quote("späte Flüge/train.ipynb")
    assert jupyter.ask(f"summary?near={near}").json["project"] is not None


def test_the_overview_has_a_light_per_stage(jupyter: Jupyter) -> None:
    found = jupyter.ask(f"{jupyter.project}/overview").json
    assert {light["stage"]: light["light"] for light in found["lights"]} == dict.fromkeys(
        ("track", "data", "registry", "serving", "monitoring"), "ok"
    )
    assert found["last_move"]["action"] == "rollback"
    assert {alert["name"] for alert in found["alerts"]} >= {"ModelyardFeatureDrift"}


def test_runs_come_in_pages_searched_and_sorted(jupyter: Jupyter) -> None:
    runs = f"{jupyter.project}/runs"
    whole = jupyter.ask(runs).json
    assert whole["total"] == len(whole["rows"]) >= 2
    (first,) = jupyter.ask(f"{runs}?limit=1&offset=1").json["rows"]
    assert first == whole["rows"][1]
    name = whole["metric_names"][0]
    values = [row["metrics"][name] for row in jupyter.ask(f"{runs}?sort=metric:{name}").json["rows"]]
    assert values == sorted(values, reverse=True)
    assert jupyter.ask(f"{runs}?search=nobody+named+it+so").json["total"] == 0


def test_who_listens_hears_of_runs_that_run_and_of_their_end(jupyter: Jupyter, demo: Path) -> None:
    request = urllib.request.Request(
        f"{jupyter.url}modelyard/api/v1/{jupyter.project}/events",
        headers={"Authorization": f"token {jupyter.token}"},
    )
    heard: list[tuple[str, float]] = []
    with urllib.request.urlopen(request, timeout=60) as stream:
        with modelyard.open(demo).run("heard") as run:
            run.log({"auc": 0.25})
            lines = (line.decode() for line in stream)
            for line in lines:
                if not line.startswith("data: "):
                    continue
                (row,) = (row for row in json.loads(line[len("data: ") :])["rows"] if row["id"] == run.id)
                heard.append((row["status"], row["metrics"].get("auc")))
                if heard[-1] == ("running", 0.25):
                    break
        for line in lines:
            if line.startswith("data: ") and '"finished"' in line:
                heard.append(("finished", json.loads(line[len("data: ") :])["rows"][0]["metrics"]["auc"]))
                break
    assert heard[-2:] == [("running", 0.25), ("finished", 0.25)]


def test_runs_side_by_side_say_what_differs(jupyter: Jupyter) -> None:
    ids = [row["id"] for row in jupyter.ask(f"{jupyter.project}/runs").json["rows"][:2]]
    found = jupyter.ask(f"{jupyter.project}/compare?runs={','.join(ids)}").json
    assert [row["id"] for row in found["runs"]] == ids
    assert {line["kind"] for line in found["lines"]} >= {"param", "metric", "data"}
    assert any(line["differs"] for line in found["lines"])
    refused = jupyter.ask(f"{jupyter.project}/compare?runs={ids[0]}")
    assert (refused.status, refused.json["code"]) == (400, "compare-invalid")


def test_a_run_is_told_whole(jupyter: Jupyter) -> None:
    row = jupyter.ask(f"{jupyter.project}/runs").json["rows"][0]
    found = jupyter.ask(f"{jupyter.project}/runs/{row['id']}").json
    assert found["row"] == row
    assert found["code"]["entry_point"]
    assert row["id"] in found["load_code"]
    curves = jupyter.ask(f"{jupyter.project}/runs/{row['id']}/curves").json["curves"]
    assert {curve["name"] for curve in curves} == set(row["metrics"])
    assert jupyter.ask(f"{jupyter.project}/runs/{row['id']}/log").json == {"lines": []}  # it printed nothing
    assert jupyter.ask(f"{jupyter.project}/runs/{'0' * 32}/log").status == 404


def test_models_show_aliases_gates_and_where_they_serve(jupyter: Jupyter) -> None:
    (model,) = jupyter.ask(f"{jupyter.project}/models").json["rows"]
    assert model["name"] == MODEL
    by_version = {row["version"]: row for row in model["versions"]}
    (holder,) = [row for row in model["versions"] if "production" in row["aliases"]]
    assert holder["serving"]
    assert holder["promoted_by"]
    found = jupyter.ask(f"{jupyter.project}/models/{MODEL}/versions/{holder['version']}").json
    assert found["row"] == by_version[holder["version"]]
    assert dict(found["inputs"])
    assert found["lineage"]["kind"] == "model"
    assert found["history"]


def test_data_says_where_it_stands_and_which_runs_used_it(jupyter: Jupyter) -> None:
    found = jupyter.ask(f"{jupyter.project}/data").json
    assert found["rows"]
    assert {row["state"] for row in found["rows"]} == {"unchanged"}
    assert any(row["used_by"] for row in found["rows"])


def test_an_endpoint_can_be_tried_with_what_its_signature_says(jupyter: Jupyter) -> None:
    (row,) = jupyter.ask(f"{jupyter.project}/endpoints").json["rows"]
    assert row["ready"]
    found = jupyter.ask(f"{jupyter.project}/endpoints/{row['name']}").json
    assert {one["type"]: one["status"] for one in found["conditions"]}["Ready"] == "True"
    happened = [(one["time"], one["reason"]) for one in found["events"]]
    assert happened == sorted(happened, key=lambda one: one[0], reverse=True), "newest first"
    assert {"RevisionCreated", "InferenceServiceReady"} <= {reason for _, reason in happened}
    assert found["advice"] == ""
    answer = jupyter.ask(f"{jupyter.project}/endpoints/{row['name']}/try", {"instances": found["example"]})
    assert answer.status == 200, answer.body
    assert len(answer.json["predictions"]) == 1
    assert answer.json["model"] == MODEL


def test_drift_is_a_table_of_columns_and_windows(jupyter: Jupyter) -> None:
    found = jupyter.ask(f"{jupyter.project}/drift").json
    assert found["rows"]
    for row in found["rows"]:
        assert row["windows"] == sorted(row["windows"], key=lambda window: window["start"])
        assert all(len(window["cells"]) == len(row["columns"]) for window in row["windows"])
    drifted = [window for row in found["rows"] for window in row["windows"] if window["share"] > 0]
    assert drifted


def test_the_report_is_shut_into_a_sandbox(jupyter: Jupyter) -> None:
    found = jupyter.ask(f"{jupyter.project}/reports/{MODEL}")
    assert found.status == 200, found.body[:300]
    assert found.headers["Content-Type"].startswith("text/html")
    assert "sandbox allow-scripts" in found.headers["Content-Security-Policy"]
    assert "allow-same-origin" not in found.headers["Content-Security-Policy"]
