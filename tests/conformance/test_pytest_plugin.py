"""The pytest plugin that ships with Modelyard: light until used, and then a whole project."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from modelyard.errors import NotFoundError
from modelyard.stages import StageContext
from modelyard.testing import ConstantModel, MemoryTracker, TrackSuite
from modelyard.testing.models import ROWS
from modelyard.yard import Yard

pytest_plugins = ["pytester"]


def test_the_plugin_imports_nothing_heavy() -> None:
    code = "import sys, modelyard.testing.pytest_plugin as _; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {"mlflow", "dvc", "kserve", "evidently", "pandas", "numpy", "sklearn", "pydantic", "rich"}
    assert not heavy & loaded
    ours = {name for name in loaded if name.startswith("modelyard")}
    assert ours == {"modelyard", "modelyard.testing", "modelyard.testing.pytest_plugin"}


def test_a_stage_context_opens_a_provider(stage_context: StageContext) -> None:
    assert MemoryTracker(stage_context).runs() == []
    assert stage_context.state.is_relative_to(stage_context.root)
    with pytest.raises(NotFoundError):
        stage_context.resolve_model("models:/late/1")


def test_a_suite_without_an_offer_says_what_to_do(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("from modelyard.testing import TrackSuite\n\nclass TestMine(TrackSuite):\n    pass\n")
    done = pytester.runpytest_subprocess("-k", "offer", "-p", "no:cacheprovider")
    done.stdout.fnmatch_lines(["*TestMine must override the class-scoped fixture `offer`*"])


def test_a_project_of_reference_providers_goes_the_whole_way(modelyard_project: Yard) -> None:
    yard = modelyard_project
    (yard.root / "flights.csv").write_text("temp,wind speed\n1,2\n")
    flights = yard.data.add("flights.csv")
    with yard.run("late-flights", params={"depth": 6}) as run:
        run.use(flights, role="train")
        version = run.log_model(ConstantModel(0.25), name="late-flights")
    yard.promote(version, to="production", reason="the first")
    file = yard.root / "late-flights.yaml"
    file.write_text(
        json.dumps(
            {
                "apiVersion": "serving.kserve.io/v1beta1",
                "kind": "InferenceService",
                "metadata": {"name": "late-flights"},
                "spec": {
                    "predictor": {
                        "logger": {"mode": "all"},
                        "model": {
                            "modelFormat": {"name": "constant"},
                            "storageUri": "models:/late-flights@production",
                        },
                    }
                },
            }
        )
    )
    endpoint = yard.endpoints.apply(file)
    answer = endpoint.predict(list(ROWS))
    assert (answer.model, answer.version, answer.predictions) == ("late-flights", "1", (0.25,) * 3)
    with yard.run("late-flights") as run:
        second = run.log_model(ConstantModel(0.75), name="late-flights")
    yard.promote(second, to="production", reason="better")
    assert yard.endpoints.get("late-flights").predict(list(ROWS)).version == "2"
    yard.rollback("late-flights", reason="worse after all")
    assert yard.endpoints.get("late-flights").predict(list(ROWS)).version == "1"
    assert [p.to_version for p in yard.history("late-flights")] == ["1", "2", "1"]


def test_public_names_are_those_that_exist() -> None:
    import modelyard.testing

    for name in modelyard.testing.__all__:
        assert getattr(modelyard.testing, name).__name__ == name
    assert modelyard.testing.TrackSuite is TrackSuite
    with pytest.raises(AttributeError):
        _ = modelyard.testing.NothingLikeThat
