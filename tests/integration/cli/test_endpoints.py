"""Endpoints as people see them: applied many at once, watched, explained, asked about files of rows."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.programs import answering

from modelyard.testing.models import save_mlflow_folder

pytest.importorskip("kserve")
pytest.importorskip("mlflow", reason="the sample models are MLflow's")

SERVICE = """apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
spec:
  predictor:
    model:
      modelFormat: {{name: {kind}}}
      storageUri: {uri}
"""
RUNTIME = """apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {name: ours}
spec:
  containers: [{name: kserve-container, image: x}]
"""
PROGRAM = """apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {name: ours}
spec:
  supportedModelFormats: [{name: echo}]
  containers:
  - {name: kserve-container, command: [python, echo.py], args: ["--model_name={{.Name}}"]}
"""
ECHO = answering('{"predictions": sys.argv[1:]}')
GRAPH = """apiVersion: serving.kserve.io/v1alpha1
kind: InferenceGraph
metadata: {name: both}
spec:
  nodes:
    root:
      routerType: Switch
      steps:
      - {nodeName: each, name: all, condition: source}
      - {serviceName: step-1, condition: instances}
    each: {routerType: Ensemble, steps: [{serviceName: step-1, name: first}, {serviceName: step-2}]}
"""


class SlowToLoad:
    """Its pickle takes its time."""

    def __reduce__(self) -> Any:
        return time.sleep, (25,)  # commands look at it meanwhile, and take their time to start


def start(*words: str, cwd: Path, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "modelyard", *words],
        cwd=cwd, env={**os.environ, **env},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def modelyard(*words: str, cwd: Path, typed: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
    """What the command said; its exit status must be the given one."""
    process = start("endpoints", *words, cwd=cwd)
    out, err = process.communicate(typed, timeout=120)
    assert process.returncode == status, out + err
    assert "Traceback" not in out + err
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def listed(project: Path) -> dict[str, Any]:
    return {e["name"]: e for e in json.loads(modelyard("list", "--json", cwd=project).stdout)}


def shown(project: Path, name: str) -> dict[str, Any]:
    return dict(json.loads(modelyard("show", name, "--json", cwd=project).stdout))


def service(name: str, uri: str = "constant", kind: str = "mlflow") -> str:
    return SERVICE.format(name=name, uri=uri, kind=kind)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with the model folder `constant`, and the endpoint `sunny` that answers 0.5."""
    folder = tmp_path_factory.mktemp("cli") / "späte flüge"
    words = [sys.executable, "-m", "modelyard"]
    subprocess.run([*words, "init", str(folder), "--name", "late-flights"], check=True, capture_output=True)
    save_mlflow_folder(folder / "constant", 0.5)
    (folder / "sunny.yaml").write_text(service("sunny"))
    modelyard("apply", "-f", "sunny.yaml", cwd=folder)
    yield folder
    subprocess.run([*words, "down"], cwd=folder, check=True, capture_output=True)


# -- many at once ----------------------------------------------------------------------------


def test_documents_of_a_folder_are_applied_in_order_and_others_are_named(project: Path) -> None:
    (project / "many").mkdir()
    (project / "many" / "a.yaml").write_text(f"# two\n---\n{service('one')}---\n{service('two')}")
    (project / "many" / "b.yaml").write_text(RUNTIME)
    done = modelyard("apply", "-f", "many", cwd=project)
    said = "b.yaml, line 5: spec.containers run nothing here: none is a command of this machine"
    assert said in done.stdout
    assert done.stdout.index("one is ready on http://") < done.stdout.index("two is ready on http://")
    assert listed(project).keys() >= {"one", "two"}
    again = json.loads(modelyard("apply", "-f", "many", "--json", cwd=project).stdout)
    assert [(e["name"], len(e["revisions"])) for e in again] == [("one", 1), ("two", 1)]


def test_a_runtime_of_another_file_serves_the_model_with_a_program_of_the_project(project: Path) -> None:
    (project / "runs").mkdir()
    (project / "echo.py").write_text(ECHO)
    (project / "runs" / "runtime.yaml").write_text(f"# ours\n---\n{PROGRAM}")
    text = service("echoed", kind="echo").replace("storageUri", "runtime: ours\n      storageUri")
    (project / "runs" / "service.yaml").write_text(text)
    wrong = PROGRAM.replace("supportedModelFormats", "supportedModelFormat")
    refused = modelyard("apply", "-f", "-", cwd=project, typed=f"{text}---\n{wrong}", status=3)
    assert "<stdin>, line 16: spec.supportedModelFormat: unknown field; did you mean" in refused.stderr
    done = modelyard("apply", "-f", "runs", cwd=project)
    assert done.stdout.startswith("echoed is ready on http://")
    asked = modelyard("invoke", "echoed", "-d", "[[1, 2]]", cwd=project).stdout
    assert asked.startswith('"--model_name=echoed"\n')
    assert modelyard("lint", "runs/service.yaml", cwd=project).stdout == "nothing to say\n"
    modelyard("delete", "echoed", cwd=project)
    assert "'echo' is not served here" in modelyard("lint", "runs/service.yaml", cwd=project, status=3).stdout


def test_a_graph_is_applied_after_those_it_asks_and_shown_as_a_tree(project: Path) -> None:
    typed = f"{GRAPH}---\n{service('step-1')}---\n{service('step-2')}"
    done = modelyard("apply", "-f", "-", cwd=project, typed=typed)
    assert done.stdout.index("step-2 is ready") < done.stdout.index("both is ready on http://")
    assert "follows its graph" in done.stdout
    tree = "root: Switch\n├─ all (if source): node each, Ensemble\n│  ├─ first: step-1, ready\n"
    tree += "│  └─ 1: step-2, ready\n└─ 1 (if instances): step-1, ready\n"
    assert tree in modelyard("show", "both", cwd=project).stdout
    assert [step["target"] for step in shown(project, "both")["graph"]] == ["", "step-1", "step-1", "step-2"]
    lineage = start("lineage", "both", cwd=project).communicate(timeout=60)[0]
    assert lineage.startswith("endpoint both, a graph\n├─ endpoint step-1\n│  └─ revision step-1-00001")
    asked = modelyard("invoke", "both", "-d", '{"instances": [[1, 2]], "source": 1}', cwd=project).stdout
    assert asked.startswith('{"1": {"predictions": [0.5]}, "first": {"predictions": [0.5]}}\nby both/')
    assert modelyard("invoke", "both", "-d", "[[1, 2]]", cwd=project).stdout.startswith("0.5\n")
    modelyard("logs", "both", cwd=project)
    modelyard("delete", "step-1", cwd=project)
    refused = modelyard("invoke", "both", "-d", "[[1, 2]]", cwd=project, status=2).stderr
    assert "step 1 of node root: there is no endpoint 'step-1' in 'default'" in refused
    assert "step-1, not ready: there is no endpoint" in modelyard("show", "both", cwd=project).stdout
    for name in ("both", "step-2"):
        modelyard("delete", name, cwd=project)


def test_nothing_is_applied_when_one_document_is_wrong(project: Path) -> None:
    wrong = service("four").replace("storageUri", "storageUrl")
    typed = f"{service('three')}---\n{wrong}"
    done = modelyard("apply", "-f", "-", cwd=project, typed=typed, status=3)
    assert "error: <stdin>, line 19: spec.predictor.model.storageUrl" in done.stderr
    assert "nothing was applied [manifest-invalid]" in done.stderr
    assert not {"three", "four"} & listed(project).keys()


def test_two_of_one_name_are_refused_before_anything_is_applied(project: Path) -> None:
    (project / "twice").mkdir()
    (project / "twice" / "a.yaml").write_text(f"{service('five')}---\n{service('six')}")
    (project / "twice" / "b.yaml").write_text(service("five"))
    first, second = Path("twice", "a.yaml"), Path("twice", "b.yaml")
    done = modelyard("apply", "-f", "twice", cwd=project, status=3)
    said = f"{second}, line 4: metadata.name: InferenceService 'five' stands at {first}:4 already"
    assert f"error: {said}: one would replace the other; nothing was applied" in done.stderr
    assert not {"five", "six"} & listed(project).keys()
    lint = modelyard("lint", str(second), str(first), "twice", cwd=project, status=3)
    said = f"{first}:4: error: metadata.name: InferenceService 'five' stands at {second}:4 already"
    assert lint.stdout.startswith(said)
    assert lint.stdout.count("stands at") == 1
    assert modelyard("lint", str(first), cwd=project).stdout == "nothing to say\n"


def test_here_a_graph_has_no_name_of_an_endpoint_and_on_clusters_it_may(project: Path) -> None:
    typed = f"{service('both')}---\n{GRAPH}"
    done = modelyard("apply", "-f", "-", cwd=project, typed=typed, status=3)
    assert "InferenceGraph 'both' stands at <stdin>:4 already" in done.stderr
    modelyard("lint", "-", "--target", "knative", cwd=project, typed=typed)
    other = service("both").replace("name: both", "name: both\n  namespace: other")
    twins = f"{service('both')}---\n{other}"
    assert "stands at" in modelyard("lint", "-", cwd=project, typed=twins, status=3).stdout
    modelyard("lint", "-", "--target", "knative", cwd=project, typed=twins)


def test_one_that_fails_does_not_hinder_the_others(project: Path) -> None:
    typed = f"{service('lost', 'gone')}---\n{service('found')}"
    done = modelyard("apply", "-f", "-", cwd=project, typed=typed, status=4)
    assert "<stdin>:\nerror: there is no model at gone [model-files-missing]" in done.stderr
    assert "found is ready on http://" in done.stdout
    told = json.loads(modelyard("apply", "-f", "-", "--json", cwd=project, typed=typed, status=4).stdout)
    assert (told[0]["error"]["code"], told[1]["name"]) == ("model-files-missing", "found")


def test_an_endpoint_is_not_taken_for_one_of_another_namespace(project: Path) -> None:
    modelyard("apply", "-f", "-", cwd=project, typed=service("here"))
    other = service("here").replace("name: here", "name: here\n  namespace: other")
    done = modelyard("apply", "-f", "-", cwd=project, typed=other, status=5)
    assert "'here' is an endpoint in 'default'" in done.stderr
    assert "[endpoint-elsewhere]" in done.stderr
    assert listed(project)["here"]["url"].endswith("/serving/default/here")


@pytest.mark.parametrize(
    ("typed", "said"),
    [("", "<stdin>|no InferenceService, but nothing"), (RUNTIME, "no InferenceService, but ServingRuntime")],
)
def test_a_text_without_an_endpoint_is_refused(project: Path, typed: str, said: str) -> None:
    done = modelyard("apply", "-f", "-", cwd=project, typed=typed, status=3)
    assert said.rpartition("|")[2] in done.stderr
    assert "[manifest-invalid]" in done.stderr


# -- watched and explained -------------------------------------------------------------------


def test_a_ready_endpoint_is_short_and_json_has_everything(project: Path) -> None:
    done = modelyard("show", "sunny", cwd=project)
    assert "sunny is ready on http://127.0.0.1:" in done.stdout
    assert "CONDITION" not in done.stdout
    assert len(done.stdout.splitlines()) < 8
    found = shown(project, "sunny")
    assert {c["type"]: c["status"] for c in found["conditions"]}["Ready"] == "True"
    assert [replica["ready"] for replica in found["replicas"]] == [True]
    assert "RevisionReady" in [event["reason"] for event in found["events"]]


def test_what_is_waited_for_is_said_while_it_is_watched(project: Path) -> None:
    (project / "watched.yaml").write_text(service("watched"))
    done = modelyard("apply", "-f", "watched.yaml", "--watch", cwd=project)
    assert " watched-00001 with watched/0: " in done.stdout
    assert "watched is ready on http://" in done.stdout


def test_a_broken_model_is_explained_and_the_old_one_answers(project: Path) -> None:
    (project / "breaking.yaml").write_text(service("breaking"))
    modelyard("apply", "-f", "breaking.yaml", cwd=project)
    (project / "broken").mkdir()
    (project / "broken" / "MLmodel").write_text("flavors: {}\n")
    (project / "breaking.yaml").write_text(service("breaking", "broken"))
    done = modelyard("apply", "-f", "breaking.yaml", "--watch", cwd=project, status=8)
    assert "[revision-failed]" in done.stderr
    assert "next: " in done.stderr
    said = modelyard("show", "breaking", cwd=project).stdout
    for part in (
        *("breaking is ready on http://", "breaking-00002  breaking/0  0 %      failed"),
        *("PredictorReady", "RevisionFailed", "the last lines of breaking-00002:", "ModelLoadFailed"),
        "next: nothing is urgent: breaking-00001 answers with breaking/0",
    ):
        assert part in said
    found = shown(project, "breaking")
    statuses = {c["type"]: c["status"] for c in found["conditions"]}
    assert (statuses["Ready"], statuses["PredictorReady"], statuses["RoutesReady"]) == (
        "False",
        "False",
        "True",
    )
    assert all(c["since"] for c in found["conditions"])


def test_ctrl_c_ends_the_waiting_and_the_endpoint_is_made_all_the_same(project: Path) -> None:
    (project / "slow").mkdir()
    (project / "slow" / "model.pkl").write_bytes(pickle.dumps(SlowToLoad()))
    (project / "slow.yaml").write_text(service("slow", "slow", "sklearn"))
    process = start(
        "endpoints", "apply", "-f", "slow.yaml", "--trust", "--watch", cwd=project, PYTHONUNBUFFERED="1"
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "loading the model" in line:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "slow is still being made; look again: modelyard endpoints show slow" in err
    said = modelyard("show", "slow", cwd=project).stdout
    assert "slow is not ready" in said
    assert "Loading" in said
    assert "next: wait, and look again: modelyard endpoints show slow" in said
    # It loads in the end (as something that is no model, but the endpoint did not stay behind).
    deadline = time.monotonic() + 120
    while not (found := shown(project, "slow")["revisions"][0])["ready"] and not found["failed"]:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    modelyard("delete", "slow", cwd=project)


# -- trust -----------------------------------------------------------------------------------


def test_a_pickle_needs_consent_which_holds_for_these_files_alone(project: Path) -> None:
    from sklearn.dummy import DummyClassifier

    folder = project / "pickled"
    folder.mkdir()
    save = lambda value: (folder / "model.pkl").write_bytes(  # noqa: E731
        pickle.dumps(DummyClassifier(strategy="constant", constant=value).fit([[0], [1]], [0, 1]))
    )
    save(0)
    (project / "pickled.yaml").write_text(service("pickled", "pickled", "sklearn"))
    refused = modelyard("apply", "-f", "pickled.yaml", cwd=project, status=8)
    assert "it is a pickle, which runs code when it is loaded" in refused.stderr
    assert "modelyard endpoints apply --trust" in refused.stderr
    digest = refused.stderr.rpartition("modelyard.dev/trust: sha256:")[2].split()[0]
    assert len(digest) == 64
    said = modelyard("show", "pickled", cwd=project).stdout
    assert said.count("it is a pickle, which runs code") == 1
    advice = refused.stderr.partition("next: ")[2].strip()
    assert advice.endswith(f"modelyard.dev/trust: sha256:{digest}")
    assert f"next: {advice}\n" in said
    trusted = modelyard("apply", "-f", "pickled.yaml", "--trust", cwd=project)
    assert "trusted by consent" in trusted.stdout
    # It is remembered, and what it was given for is told.
    assert (
        len(json.loads(modelyard("apply", "-f", "pickled.yaml", "--json", cwd=project).stdout)["revisions"])
        == 2
    )
    found = shown(project, "pickled")
    assert [r["trust"] for r in found["revisions"]] == ["consent", ""]
    assert any(f"trusted by consent to sha256:{digest}" in event["message"] for event in found["events"])
    assert "trusted by consent" in modelyard("show", "pickled", cwd=project).stdout
    # Other files are asked for anew, also where the file names the old ones.
    save(1)
    text = service("pickled", "pickled", "sklearn")
    named = text.replace(
        "  name: pickled", f"  name: pickled\n  annotations: {{modelyard.dev/trust: 'sha256:{digest}'}}"
    )
    (project / "pickled.yaml").write_text(named)
    again = modelyard("apply", "-f", "pickled.yaml", cwd=project, status=8)
    assert "does not come from the registry" in again.stderr
    new = again.stderr.rpartition("modelyard.dev/trust: sha256:")[2].split()[0]
    assert new != digest
    (project / "pickled.yaml").write_text(named.replace(digest, new))
    assert "trusted by consent" in modelyard("apply", "-f", "pickled.yaml", cwd=project).stdout
    asked = modelyard("invoke", "pickled", "-d", "[[5]]", cwd=project)
    assert asked.stdout.startswith("1\n")
    # What the file consented to it takes back; what a command did, holds.
    (project / "pickled.yaml").write_text(text)
    gone = modelyard("apply", "-f", "pickled.yaml", cwd=project, status=8)
    assert "does not come from the registry" in gone.stderr
    save(0)
    assert "trusted by consent" in modelyard("apply", "-f", "pickled.yaml", cwd=project).stdout


# -- asked -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coded(project: Path) -> str:
    """An endpoint whose model answers with its text column, so that digits must stay text."""
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import infer_signature

    class Echo(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            return model_input["code"] + params["mark"]

    example = pd.DataFrame({"code": ["007"], "temp": [1.5]})
    mlflow.pyfunc.save_model(
        str(project / "echo"),
        python_model=Echo(),
        signature=infer_signature(example, pd.Series(["007!"]), params={"mark": "!"}),
        pip_requirements=["mlflow"],
    )
    (project / "coded.yaml").write_text(service("coded", "echo"))
    modelyard("apply", "-f", "coded.yaml", "--trust", cwd=project)
    return "coded"


def test_rows_of_files_are_asked_for_in_batches(project: Path, coded: str) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    rows = pandas.DataFrame({"id": range(25), "code": [f"{n:03}" for n in range(25)], "temp": 1.0})
    rows.to_csv(project / "rows.csv", index=False)
    rows.to_parquet(project / "rows.parquet")
    for file, protocol in (("rows.csv", "v1"), ("rows.parquet", "v2")):
        words = ("invoke", coded, "-f", file, "--batch", "10", "--protocol", protocol)
        done = modelyard(*words, "-o", "out.csv", cwd=project)
        assert done.stdout == "25 predictions in out.csv, by coded/0: 25\n"
        out = pandas.read_csv(project / "out.csv", dtype=str)
        assert list(out["prediction"]) == [f"{n:03}!" for n in range(25)]
        assert list(out["row"][:12]) == [*map(str, range(10)), "0", "1"]
        assert out["prediction_id"].nunique() == 3
    told = json.loads(
        modelyard("invoke", coded, "-f", "rows.csv", "--batch", "20", "--json", cwd=project).stdout
    )
    assert [(len(one["predictions"]), one["first"]) for one in told] == [(20, 1), (5, 21)]


def test_params_are_said_beside_the_rows(project: Path, coded: str) -> None:
    (project / "few.csv").write_text("code,temp\n007,1\n008,2\n")
    for protocol in ("v1", "v2"):
        words = ("invoke", coded, "-f", "few.csv", "--batch", "1", "--protocol", protocol)
        asked = modelyard(*words, "--params", '{"mark": "?"}', cwd=project).stdout
        assert [line for line in asked.splitlines() if line.startswith('"')] == ['"007?"', '"008?"']
    words = ("invoke", coded, "-f", "few.csv", "--params")
    for given, said in (
        ('{"marks": "?"}', "'marks' in 'params': the model takes 'mark' [prediction-refused]"),
        ("{mark: ?}", "the params are not JSON: "),
        ("[1]", "the params are not an object [params-invalid]"),
    ):
        assert said in modelyard(*words, given, cwd=project, status=2).stderr


def test_what_is_wrong_with_a_file_of_rows_is_one_sentence(project: Path, coded: str) -> None:
    (project / "lacking.csv").write_text("code,tmp\n1,2\n")
    done = modelyard("invoke", coded, "-f", "lacking.csv", cwd=project, status=2)
    assert "error: lacking.csv lacks the column 'temp', which coded takes [prediction-refused]" in done.stderr
    (project / "semi.csv").write_text("code;temp\n007;2\n")
    done = modelyard("invoke", coded, "-f", "semi.csv", cwd=project, status=2)
    assert "error: the values in semi.csv stand between ';', not ',' [rows-invalid]" in done.stderr
    assert (
        modelyard("invoke", coded, "-f", "semi.csv", "--delimiter", ";", cwd=project).stdout[:8]
        == '"007!"\nb'
    )


def test_python_asks_about_tables_arrays_and_files(project: Path) -> None:
    import numpy as np
    import pandas as pd

    import modelyard as package

    yard = package.open(project)
    table = pd.DataFrame({"temp": [1.0, 2.0, 3.0], "wind speed": [0.0, 1.0, 2.0]})
    table.to_csv(project / "winds.csv", index=False)
    for rows in (table, table.to_numpy(), table.to_dict("records"), np.ones((3, 2)), project / "winds.csv"):
        answers = list(yard.endpoints.invoke("sunny", rows, batch=2))
        assert [answer.predictions for answer in answers] == [(0.5, 0.5), (0.5,)]


def test_a_token_is_sent_by_itself_and_printed_by_one_command_alone(project: Path) -> None:
    text = service("closed").replace(
        "  name: closed", "  name: closed\n  annotations: {modelyard.dev/token: 'true'}"
    )
    (project / "closed.yaml").write_text(text)
    applied = modelyard("apply", "-f", "closed.yaml", cwd=project)
    rows = json.dumps([{"temp": 1.0, "wind speed": 2.0}])
    asked = modelyard("invoke", "closed", "-d", rows, cwd=project)
    assert asked.stdout.startswith("0.5\n")
    (project / "winds2.csv").write_text("temp,wind speed\n1,2\n")
    assert modelyard("invoke", "closed", "-f", "winds2.csv", cwd=project).stdout.startswith("0.5\n")
    token = modelyard("token", "closed", cwd=project).stdout.strip()
    for words in (("show", "closed"), ("show", "closed", "--json"), ("list", "--json"), ("logs", "closed")):
        assert token not in modelyard(*words, cwd=project).stdout
    assert token not in applied.stdout + asked.stdout
    assert modelyard("token", "closed", "--new", cwd=project).stdout.strip() != token
    assert "[no-token]" in modelyard("token", "sunny", cwd=project, status=2).stderr
    assert "[no-access-log]" in modelyard("logs", "sunny", "--access", cwd=project, status=2).stderr
