"""Records to MLflow's entities and back."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.records import Code, DataUse, Environment, RunContext
from modelyard.testing.track import CONTEXT, data_ref
from modelyard_mlflow import convert


def found(tags: dict[str, str], **more: Any) -> Any:
    """An MLflow run as its store gives it."""
    info = {"run_id": "r", "run_name": "n", "status": "RUNNING", "start_time": 1000, "end_time": None}
    data = SimpleNamespace(tags=tags, params={}, metrics=more.pop("metrics", {}))
    inputs = SimpleNamespace(dataset_inputs=more.pop("inputs", []))
    outputs = SimpleNamespace(model_outputs=more.pop("outputs", []))
    return SimpleNamespace(
        info=SimpleNamespace(**{**info, "user_id": "", **more}), data=data, inputs=inputs, outputs=outputs
    )


def tagged(source: str, *, name: str = "rows", kind: str = "code") -> Any:
    """A dataset input with a source that anybody may have written."""
    dataset = SimpleNamespace(name=name, digest="12345678", source_type=kind, source=source)
    return SimpleNamespace(dataset=dataset, tags=[SimpleNamespace(key=convert.ROLE_TAG, value="train")])


@given(
    st.builds(
        Code,
        commit=st.none() | st.text(max_size=50),
        branch=st.none() | st.text(max_size=50),
        dirty=st.booleans(),
        entry_point=st.text(max_size=50),
        cell=st.none() | st.text(max_size=20),
    )
)
def test_any_context_comes_back_from_its_tags(code: Code) -> None:
    environment = Environment(python="3.11", platform="x", lock_sha256="0" * 64)
    run = convert.run_of(
        found(convert.context_tags("n", RunContext(user="u", code=code, environment=environment), None))
    )
    assert (run.code, run.environment, run.user, run.tags) == (code, environment, "u", {})


def test_no_tag_is_empty_or_longer_than_mlflow_takes() -> None:
    code = Code(entry_point="x" * 20_000)
    context = RunContext(user="u", code=code, environment=CONTEXT.environment)
    tags = convert.context_tags("n" * 9000, context, None)
    assert all(0 < len(value) <= convert.TAG_LIMIT for value in tags.values())
    assert "mlflow.parentRunId" not in tags
    assert convert.run_of(found(tags)).code.entry_point == "x" * convert.TAG_LIMIT


def test_a_parent_is_mlflows_own_tag() -> None:
    assert convert.context_tags("n", CONTEXT, "p" * 32)["mlflow.parentRunId"] == "p" * 32


@pytest.mark.parametrize(
    ("entry_point", "kind"), [("a.ipynb", "NOTEBOOK"), ("train.py", "LOCAL"), ("", "LOCAL")]
)
def test_the_kind_of_source_is_that_of_the_entry_point(entry_point: str, kind: str) -> None:
    context = RunContext(user="u", code=Code(entry_point=entry_point), environment=CONTEXT.environment)
    assert convert.context_tags("n", context, None)["mlflow.source.type"] == kind


@pytest.mark.parametrize("note", ["", "x", "[]", "{}", '{"code": 3}', '{"code": null, "environment": "x"}'])
def test_a_note_that_is_not_ours_is_passed_over(note: str) -> None:
    tags = {"modelyard.context": note, "mlflow.source.git.commit": "c", "mlflow.source.name": "train.py"}
    run = convert.run_of(found(tags))
    assert run.code == Code(commit="c", entry_point="train.py")
    assert run.environment is None


@pytest.mark.parametrize("status", ["running", "finished", "failed", "killed"])
def test_each_status_has_a_number_of_mlflow_and_comes_back(status: Any) -> None:
    from mlflow.entities import RunStatus

    name = RunStatus.to_string(convert.status_number(status))
    assert convert.run_of(found({}, status=name)).status == status


def test_a_data_version_comes_back_whole() -> None:
    use = DataUse(role="train", ref=data_ref("flüge"))
    assert convert.run_of(found({}, inputs=[convert.dataset_input(use)])).data == (use,)


@pytest.mark.parametrize(
    ("source", "path"),
    [
        (json.dumps({"uri": "s3://b/k"}), "s3://b/k"),
        ("{}", "rows"),
        ("not json", "rows"),
        ("[1]", "rows"),
        (json.dumps({"scheme": "x", "path": "p", "version": "v", "digest": "d"}), "p"),
    ],
)
def test_a_dataset_of_plain_mlflow_keeps_what_there_is(source: str, path: str) -> None:
    (use,) = convert.run_of(found({}, inputs=[tagged(source)])).data
    assert (use.role, use.ref.name, use.ref.path, use.ref.version) == ("train", "rows", path, "12345678")


def test_infinities_come_back_from_the_largest_numbers() -> None:
    largest = 1.7976931348623157e308
    metrics = {"up": largest, "down": -largest, "nan": math.nan, "plain": 1e300}
    got = convert.run_of(found({}, metrics=metrics)).metrics
    assert (got["up"], got["down"], got["plain"]) == (math.inf, -math.inf, 1e300)
    assert math.isnan(got["nan"])


def test_tags_of_the_tools_are_not_the_users() -> None:
    run = convert.run_of(found({"mlflow.user": "me", "modelyard.x": "y", "team": "z", "empty": ""}))
    assert (run.user, run.tags) == ("me", {"team": "z", "empty": ""})


def test_models_are_named_by_their_uri() -> None:
    run = convert.run_of(found({}, outputs=[SimpleNamespace(model_id="m-1")]))
    assert run.models == ("models:/m-1",)
