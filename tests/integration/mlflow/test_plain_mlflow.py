"""What Modelyard writes is plain MLflow's, and what plain MLflow writes is seen by Modelyard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from modelyard.records import DataRef, DataUse, LoggedModel, Metric, ModelVersion, Run
from modelyard.testing.models import ROWS, fitted_model
from modelyard.testing.track import CONTEXT, LINEAGE, data_ref

mlflow = pytest.importorskip("mlflow")

EXAMPLE = pd.DataFrame(list(ROWS))
FOLDER = DataRef(
    name="tägliche Flüge",
    scheme="dvc",
    path="data/täglich",
    version="0" * 32 + ".dir",
    digest="1" * 64,
    size=12,
    files=3,
)


@pytest.fixture(scope="module")
def run(shared: Any) -> Run:
    """A run with everything that can be logged."""
    tracker = shared.tracker
    started = tracker.start("späte flüge", CONTEXT)
    steps = [Metric(name="loss", value=1.0 / (step + 1), step=step) for step in range(5)]
    tracker.log(
        started.id,
        params={"depth": 6, "spalten ä": ["a", "b"]},
        metrics=[*steps, Metric(name="auc", value=0.71)],
        tags={"team": "flüge"},
        data=[DataUse(role="train", ref=data_ref()), DataUse(role="test", ref=FOLDER)],
    )
    tracker.log_model(started.id, fitted_model(0.25), example=EXAMPLE, files={"lineage.json": LINEAGE})
    tracker.finish(started.id)
    return tracker.get(started.id)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def version(shared: Any, run: Run) -> ModelVersion:
    """A version of the run's model, which the alias `production` points to."""
    made = shared.registry.register("late-flights", shared.tracker.logged_model(run.models[0]))
    shared.registry.set_alias("late-flights", "production", made.version)
    return made  # type: ignore[no-any-return]


@pytest.fixture
def only_the_uri(shared: Any) -> Iterator[None]:
    """What a user sets: the tracking URI and nothing else."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(shared.uri)
    yield
    mlflow.set_tracking_uri(before)


@pytest.fixture
def seen(run: Run, only_the_uri: None) -> Any:
    """The run as MLflow's client shows it."""
    return mlflow.MlflowClient().get_run(run.id)


def test_the_run_has_name_status_and_times(seen: Any) -> None:
    assert (seen.info.run_name, seen.info.status) == ("späte flüge", "FINISHED")
    assert 0 < seen.info.start_time <= seen.info.end_time


def test_params_and_last_metrics_are_there(seen: Any) -> None:
    assert seen.data.params == {"depth": "6", "spalten ä": "['a', 'b']"}
    assert seen.data.metrics == {"loss": 0.2, "auc": 0.71}


def test_a_metric_has_its_history_with_steps(run: Run, only_the_uri: None) -> None:
    history = mlflow.MlflowClient().get_metric_history(run.id, "loss")
    assert [(m.step, m.value) for m in history] == [(step, 1.0 / (step + 1)) for step in range(5)]
    assert all(m.timestamp > 0 for m in history)


def test_mlflows_own_tags_say_who_ran_what_at_which_commit(seen: Any) -> None:
    tags = seen.data.tags
    assert tags["mlflow.user"] == CONTEXT.user
    assert tags["mlflow.source.name"] == "notebooks/erste schritte.ipynb"
    assert tags["mlflow.source.type"] == "NOTEBOOK"
    assert tags["mlflow.source.git.commit"] == CONTEXT.code.commit
    assert tags["mlflow.source.git.branch"] == "fix/späte-flüge"
    assert tags["team"] == "flüge"


def test_data_versions_are_dataset_inputs_of_dvc_with_their_role(seen: Any) -> None:
    inputs = seen.inputs.dataset_inputs
    found = {tag.value: i.dataset for i in inputs for tag in i.tags if tag.key == "mlflow.data.context"}
    assert set(found) == {"train", "test"}
    assert {dataset.source_type for dataset in found.values()} == {"dvc"}
    assert found["test"].digest == FOLDER.version, "36 characters must fit"
    assert "täglich" in found["test"].name


def test_runs_are_searched_by_the_version_of_their_data(run: Run, only_the_uri: None) -> None:
    found = mlflow.search_runs(
        experiment_names=["conformance"], filter_string=f"datasets.digest = '{FOLDER.version}'"
    )
    assert list(found["run_id"]) == [run.id]


def test_the_run_leads_to_its_model_and_the_model_to_its_run(seen: Any, run: Run) -> None:
    (output,) = seen.outputs.model_outputs
    model = mlflow.MlflowClient().get_logged_model(output.model_id)
    assert (model.source_run_id, str(model.status)) == (run.id, "READY")
    assert model.params["depth"] == "6"


@pytest.mark.parametrize("uri", ["models:/late-flights/1", "models:/late-flights@production"])
def test_a_registered_model_loads_with_only_the_tracking_uri(
    version: ModelVersion, only_the_uri: None, uri: str
) -> None:
    loaded = mlflow.pyfunc.load_model(uri)
    assert list(loaded.predict(EXAMPLE)) == list(fitted_model(0.25).predict(EXAMPLE))
    assert loaded.metadata.get_input_schema().input_names() == ["temp", "wind speed"]


def test_the_logged_model_loads_by_its_own_uri(run: Run, only_the_uri: None) -> None:
    assert list(mlflow.sklearn.load_model(run.models[0]).predict(EXAMPLE)) == [0.25] * 3


def test_mlflow_shows_the_versions_run_and_alias(version: ModelVersion, run: Run, only_the_uri: None) -> None:
    shown = mlflow.MlflowClient().get_model_version_by_alias("late-flights", "production")
    assert (shown.version, shown.run_id, shown.aliases) == (1, run.id, ["production"])
    assert shown.tags["modelyard.digest"] == version.digest


def test_loading_leaves_the_digest_as_it_is(shared: Any, version: ModelVersion, only_the_uri: None) -> None:
    from modelyard.digests import model_digest

    mlflow.pyfunc.load_model("models:/late-flights/1")
    assert model_digest(shared.registry.fetch(version)) == version.digest


def test_an_alias_moved_by_plain_mlflow_is_seen(
    shared: Any, version: ModelVersion, only_the_uri: None
) -> None:
    mlflow.MlflowClient().set_registered_model_alias("late-flights", "staging", "1")
    assert shared.registry.alias("late-flights", "staging") == "1"


def test_a_fluent_run_in_the_same_experiment_is_listed(shared: Any, only_the_uri: None) -> None:
    mlflow.set_experiment("conformance")
    with mlflow.start_run(run_name="fluent") as started:
        mlflow.log_params({"depth": 3})
        mlflow.log_metric("auc", 0.6, step=1)
        mlflow.log_metric("auc", 0.65, step=2)
        mlflow.set_tag("team", "plain")
        mlflow.log_input(mlflow.data.from_pandas(EXAMPLE, name="rows"), context="train")
    (found,) = shared.tracker.runs(name="fluent")
    assert found.id == started.info.run_id
    assert (found.status, found.params, found.metrics) == ("finished", {"depth": "3"}, {"auc": 0.65})
    assert found.tags == {"team": "plain"}
    assert [(use.role, use.ref.name) for use in found.data] == [("train", "rows")]
    assert found.environment is None


def test_a_model_registered_by_plain_mlflow_is_fetched(shared: Any, only_the_uri: None) -> None:
    mlflow.set_experiment("conformance")
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            fitted_model(0.5),
            name="model",
            registered_model_name="plain",
            pip_requirements=["scikit-learn"],
            serialization_format="cloudpickle",
        )
    (found,) = shared.registry.versions("plain")
    assert found.digest is None
    assert (shared.registry.fetch(found) / "MLmodel").is_file()
    again = LoggedModel(uri=found.uri, run_id=found.run_id or "", digest="")
    assert shared.registry.register("plain", again).version == "2"


def test_a_run_whose_notes_were_overwritten_does_not_hide_the_others(
    shared: Any, run: Run, only_the_uri: None
) -> None:
    broken = shared.tracker.start("overwritten", CONTEXT)
    for note in ('{"code": "x", "environment": {"python": 3}}', "not json", '{"code": {"commit": "c"}}'):
        mlflow.MlflowClient().set_tag(broken.id, "modelyard.context", note)
        names = {found.name for found in shared.tracker.runs()}
        assert {"overwritten", "späte flüge"} <= names


def test_the_alias_of_a_promotion_is_mlflows(shared: Any, version: ModelVersion, only_the_uri: None) -> None:
    import modelyard

    yard = modelyard.open(shared.root)
    yard.promote(f"late-flights/{version.version}", to="champion", reason="the only one")
    assert list(mlflow.pyfunc.load_model("models:/late-flights@champion").predict(EXAMPLE)) == [0.25] * 3
