"""Odd values are kept as they are or refused in one sentence; never cut, never half written."""

from __future__ import annotations

import math
from typing import Any

import pytest

from modelyard.errors import ModelyardError, NotFoundError, UsageError
from modelyard.records import Metric
from modelyard.testing.models import fitted_model
from modelyard.testing.track import CONTEXT, TRICKY_NAMES

mlflow = pytest.importorskip("mlflow")


@pytest.fixture
def run(shared: Any) -> str:
    return str(shared.tracker.start("values", CONTEXT).id)


@pytest.fixture
def client(shared: Any) -> Any:
    return mlflow.MlflowClient(shared.uri, shared.uri)


def test_the_history_of_a_metric_that_explodes_is_kept(shared: Any, run: str, client: Any) -> None:
    values = [0.5, math.inf, math.nan, -math.inf, 0.4]
    shared.tracker.log(run, metrics=[Metric(name="loss", value=v, step=s) for s, v in enumerate(values)])
    history = {m.step: m.value for m in client.get_metric_history(run, "loss")}
    assert set(history) == set(range(5))
    assert math.isnan(history[2])
    assert shared.tracker.get(run).metrics == {"loss": 0.4}


def test_the_largest_number_that_is_not_infinite_comes_back_finite_or_infinite_never_cut(
    shared: Any, run: str
) -> None:
    shared.tracker.log(run, metrics=[Metric(name="big", value=1.7e308), Metric(name="tiny", value=5e-324)])
    assert shared.tracker.get(run).metrics == {"big": 1.7e308, "tiny": 5e-324}


def test_two_thousand_metrics_in_one_call_are_all_there(shared: Any, run: str) -> None:
    metrics = [Metric(name=f"m/{number}", value=float(number)) for number in range(2000)]
    shared.tracker.log(run, metrics=metrics)
    assert shared.tracker.get(run).metrics == {metric.name: metric.value for metric in metrics}


def test_a_metric_logged_twice_in_one_call_is_no_error(shared: Any, run: str, client: Any) -> None:
    same = Metric(name="auc", value=0.7, step=1)
    shared.tracker.log(run, metrics=[same, same])
    assert shared.tracker.get(run).metrics == {"auc": 0.7}


def test_the_longest_parameter_is_kept_and_a_longer_one_refused_whole(shared: Any, run: str) -> None:
    shared.tracker.log(run, params={"longest": "ä" * 6000})
    assert shared.tracker.get(run).params["longest"] == "ä" * 6000
    with pytest.raises(UsageError, match="parameter 'longer' has 6001 characters") as error:
        shared.tracker.log(run, params={"other": 1, "longer": "x" * 6001}, tags={"a": "b"})
    assert error.value.code == "param-too-long"
    assert set(shared.tracker.get(run).params) == {"longest"}, "nothing of a refused call may be written"


@pytest.mark.parametrize("text", ["", " ", "zwei\nzeilen\ttab", "日本語 🛫", "'; DROP TABLE runs; --", "\\"])
def test_any_text_is_kept_as_parameter_and_as_tag(shared: Any, run: str, text: str) -> None:
    shared.tracker.log(run, params={"text": text}, tags={"text": text})
    found = shared.tracker.get(run)
    assert (found.params["text"], found.tags["text"]) == (text, text)


def test_a_tag_that_is_too_long_is_refused_with_its_name(shared: Any, run: str) -> None:
    with pytest.raises(UsageError, match="note") as error:
        shared.tracker.log(run, tags={"note": "x" * 8001})
    assert error.value.code == "log-refused"


@pytest.mark.parametrize("name", ["zwei\nzeilen", "a=b;c", "../up", "x" * 300, ""])
@pytest.mark.parametrize("kind", ["params", "metrics", "tags"])
def test_a_name_that_mlflow_refuses_is_said_in_one_sentence(
    shared: Any, run: str, name: str, kind: str
) -> None:
    logged: Any = [Metric(name=name, value=1.0)] if kind == "metrics" else {name: "1"}
    with pytest.raises(UsageError) as error:
        shared.tracker.log(run, **{kind: logged})
    assert error.value.code == "log-refused"
    assert "\n" not in error.value.message
    assert len(error.value.message) < 500


def test_a_run_may_have_a_long_name(shared: Any) -> None:
    name = "ein langer name " * 40
    run = shared.tracker.start(name, CONTEXT)
    assert shared.tracker.get(run.id).name == name


def test_a_parameter_called_run_id_is_not_taken_for_a_wrong_run(shared: Any, run: str) -> None:
    shared.tracker.log(run, params={"run_id": 1})
    with pytest.raises(ModelyardError) as error:
        shared.tracker.log(run, params={"run_id": 2})
    assert error.value.code == "param-changed"
    with pytest.raises(UsageError) as refused:
        shared.tracker.log(run, tags={"run_id=": "x"})
    assert refused.value.code == "log-refused"


@pytest.mark.parametrize("run_id", ["", "nothing", "0" * 32, "x" * 200, "../../etc", "zwei\nzeilen"])
def test_a_run_that_is_not_there_is_said_by_every_method(shared: Any, run_id: str) -> None:
    for call in (
        lambda: shared.tracker.get(run_id),
        lambda: shared.tracker.log(run_id, params={"a": 1}),
        lambda: shared.tracker.finish(run_id),
        lambda: shared.tracker.log_model(run_id, fitted_model(0.5)),
    ):
        with pytest.raises(NotFoundError) as error:
            call()
        assert error.value.code == "run-not-found"


@pytest.mark.parametrize("name", TRICKY_NAMES.values())
def test_runs_are_found_by_any_name(shared: Any, name: str) -> None:
    run = shared.tracker.start(name, CONTEXT)
    assert [found.id for found in shared.tracker.runs(name=name)] == [run.id]


@pytest.mark.parametrize("name", ["it's", 'say "late"', 'it\'s "late"', "100% _", "日本語"])
def test_versions_are_found_by_any_name(shared: Any, run: str, name: str) -> None:
    logged = shared.tracker.log_model(run, fitted_model(0.5))
    shared.registry.register(name, logged, tags={"empty": "", "note": "zwei\nzeilen"})
    (version,) = shared.registry.versions(name)
    assert version.name == name
    assert version.tags == {"empty": "", "note": "zwei\nzeilen"}
    shared.registry.set_alias(name, "production", "1")
    assert shared.registry.alias(name, "production") == "1"


@pytest.mark.parametrize("alias", ["latest", "v1", "", "zwei\nzeilen", "x" * 300])
def test_an_alias_that_mlflow_refuses_is_said_in_one_sentence(shared: Any, run: str, alias: str) -> None:
    shared.registry.register("aliased", shared.tracker.log_model(run, fitted_model(0.5)))
    with pytest.raises(UsageError) as error:
        shared.registry.set_alias("aliased", alias, "1")
    assert error.value.code == "name-refused"


@pytest.mark.parametrize("name", ["", "a/b", "a:b"])
def test_a_model_name_that_mlflow_refuses_is_said_in_one_sentence(shared: Any, run: str, name: str) -> None:
    logged = shared.tracker.log_model(run, fitted_model(0.5))
    with pytest.raises(UsageError) as error:
        shared.registry.register(name, logged)
    assert error.value.code == "name-refused"


def test_a_run_deleted_in_mlflow_is_gone_for_every_method(shared: Any, run: str, client: Any) -> None:
    shared.tracker.log(run, params={"a": 1})
    client.delete_run(run)
    assert run not in {found.id for found in shared.tracker.runs()}
    for call in (
        lambda: shared.tracker.get(run),
        lambda: shared.tracker.log(run, params={"b": 1}),
        lambda: shared.tracker.finish(run, "failed"),
        lambda: shared.tracker.log_model(run, fitted_model(0.5)),
    ):
        with pytest.raises(NotFoundError, match="was deleted in MLflow") as error:
            call()
        assert error.value.code == "run-not-found"
    client.restore_run(run)
    assert shared.tracker.get(run).params == {"a": "1"}


def test_an_experiment_deleted_in_mlflow_is_said_with_the_way_out(shared: Any, client: Any) -> None:
    from modelyard_mlflow.tracker import MlflowTracker

    experiment = client.get_experiment_by_name("conformance").experiment_id
    client.delete_experiment(experiment)
    try:
        for tracker in (shared.tracker, MlflowTracker(shared.context)):
            with pytest.raises(UsageError, match="'conformance' was deleted in MLflow") as error:
                tracker.start("again", CONTEXT)
            assert error.value.code == "experiment-deleted"
            assert 'experiment = "conformance-2"' in error.value.hint
    finally:
        client.restore_experiment(experiment)
    assert shared.tracker.start("again", CONTEXT).status == "running"
