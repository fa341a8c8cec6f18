"""What every tracker must do: the conformance suite of the stage `track`."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from modelyard.errors import ConflictError, NotFoundError, UsageError
from modelyard.records import (
    Code,
    DataRef,
    DataUse,
    LoggedModel,
    Metric,
    Run,
    RunContext,
    RunStatus,
    now,
)
from modelyard.stages import Tracker
from modelyard.testing.base import StageSuite, at_once, refusal
from modelyard.testing.copying import CONTEXT, LINEAGE, CopyTests
from modelyard.testing.models import ROWS, Unstorable, fitted_model

TRICKY_NAMES = {
    "quotes": 'it\'s "late"',
    "wildcards": "100% _",
    "backslash": "back\\slash",
    "path": "ein name/mit: zeichen",
    "kanji": "日本語",
}
UNKNOWN = "0123456789abcdef0123456789abcdef"


def data_ref(name: str = "flights") -> DataRef:
    """A data version as a store would give it."""
    return DataRef(
        name=name,
        scheme="dvc",
        path=f"data/{name}.parquet",
        version=hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(),
        digest=hashlib.sha256(name.encode()).hexdigest(),
        size=123456,
        files=1,
        remote="/mnt/daten speicher",
        published=True,
    )


class TrackSuite(CopyTests, StageSuite):
    """Subclass it and give the fixture `offer`; override `model` if your tracker takes other models."""

    stage = "track"
    protocol = Tracker
    reads = "runs"

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls) -> Any:
        """A fitted model that the tracker can store."""
        return fitted_model(0.25)

    @pytest.fixture(scope="class")
    @classmethod
    def example(cls) -> Any:
        """A few rows of input for the model."""
        import pandas as pd

        return pd.DataFrame(list(ROWS))

    @pytest.fixture
    def tracker(self, provider: Tracker) -> Tracker:
        """The tracker under test."""
        return provider

    @pytest.fixture
    def run(self, tracker: Tracker, unique: str) -> Run:
        """A run that was just started."""
        return tracker.start(unique, CONTEXT)

    # -- starting ---------------------------------------------------------------------------

    def test_a_new_run_is_running_and_knows_its_name(self, run: Run, unique: str) -> None:
        """The record that `start` returns."""
        assert run.id, "a run needs an id"
        assert run.name == unique, f"the run was started as '{unique}', not '{run.name}'"
        assert run.status == "running", f"a new run is `running`, not `{run.status}`"
        assert run.ended is None, "a new run has not ended"
        assert run.started.tzinfo is not None, "the start must be an aware time"
        assert abs(now() - run.started) < timedelta(minutes=1), f"it started now, not {run.started}"

    def test_the_context_is_stored_at_once(self, run: Run, reopen: Callable[[], Tracker]) -> None:
        """A crash right after `start` must not lose who ran what."""
        got = reopen().get(run.id)
        assert got.user == CONTEXT.user, f"the user is {CONTEXT.user}, not {got.user!r}"
        assert got.code == CONTEXT.code, "the code is not what was given"
        assert got.environment == CONTEXT.environment, "the environment is not what was given"

    def test_code_outside_git_stays_unknown(self, tracker: Tracker, unique: str) -> None:
        """None must not come back as an empty text."""
        bare = RunContext(user="x", code=Code(entry_point="train.py"), environment=CONTEXT.environment)
        got = tracker.get(tracker.start(unique, bare).id)
        assert got.code == bare.code, "code without a commit must come back as it was given"

    def test_two_runs_of_one_name_are_two_runs(self, tracker: Tracker, run: Run) -> None:
        """Names are for people; ids tell runs apart."""
        other = tracker.start(run.name, CONTEXT)
        assert other.id != run.id, "two runs got the same id"

    def test_a_run_can_have_a_parent(self, tracker: Tracker, run: Run) -> None:
        """A child is a run like any other."""
        child = tracker.start(f"{run.name} child", CONTEXT, parent=run.id)
        assert tracker.get(child.id).status == "running", "a child run must be there like any other"

    # -- logging ----------------------------------------------------------------------------

    def test_parameters_come_back_as_text(self, tracker: Tracker, run: Run) -> None:
        """Whatever their type, `str` of it is kept."""
        params = {
            "depth": 6,
            "rate": 0.1,
            "on": True,
            "none": None,
            "wörter": "ein paar wörter",
            "l": [1, 2],
        }
        tracker.log(run.id, params=params)
        got = tracker.get(run.id).params
        for name, value in params.items():
            assert got.get(name) == str(value), f"parameter '{name}' must be {str(value)!r}"

    def test_a_long_parameter_is_kept_whole(self, tracker: Tracker, run: Run) -> None:
        """SQL, feature lists and prompts are long."""
        text = "spalte_ä, " * 400
        tracker.log(run.id, params={"columns": text})
        assert tracker.get(run.id).params["columns"] == text, "a parameter of 4,000 characters was cut"

    def test_the_same_parameter_again_changes_nothing(self, tracker: Tracker, run: Run) -> None:
        """A cell that runs twice is no error."""
        tracker.log(run.id, params={"depth": 6})
        tracker.log(run.id, params={"depth": 6})
        assert tracker.get(run.id).params["depth"] == "6", "logging the same value again must keep it"

    def test_a_changed_parameter_is_refused(self, tracker: Tracker, run: Run) -> None:
        """The first value stays, and the error names the parameter."""
        tracker.log(run.id, params={"depth": 6})
        error = refusal(ConflictError, "param-changed", tracker.log, run.id, params={"depth": 7})
        assert "depth" in error.message, f"the message must name the parameter: {error}"
        assert tracker.get(run.id).params["depth"] == "6", "the first value must stay"

    def test_the_last_value_of_a_metric_counts(self, tracker: Tracker, run: Run) -> None:
        """Steps in one call and in several."""
        tracker.log(run.id, metrics=[Metric(name="auc", value=v, step=s) for s, v in enumerate((0.5, 0.6))])
        tracker.log(run.id, metrics=[Metric(name="auc", value=0.55, step=2, time=now())])
        got = tracker.get(run.id).metrics
        assert got.get("auc") == 0.55, f"the last value of 'auc' is 0.55, not {got.get('auc')}"

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_nan_and_infinity_are_kept(self, tracker: Tracker, run: Run, value: float) -> None:
        """A loss that exploded is a result."""
        tracker.log(run.id, metrics=[Metric(name="loss", value=value)])
        got = tracker.get(run.id).metrics.get("loss")
        assert got is not None, f"a metric of {value} was lost"
        assert got == value or (math.isnan(value) and math.isnan(got)), f"{value} came back as {got}"

    def test_everything_can_be_logged_in_one_call(
        self, tracker: Tracker, run: Run, reopen: Callable[[], Tracker]
    ) -> None:
        """Parameters, metrics, tags and data, seen by another instance."""
        use = DataUse(role="train", ref=data_ref())
        tracker.log(
            run.id,
            params={"depth": 3},
            metrics=[Metric(name="auc", value=0.7)],
            tags={"team": "flüge & wetter"},
            data=[use],
        )
        got = reopen().get(run.id)
        assert got.params["depth"] == "3", "the parameter was lost"
        assert got.metrics["auc"] == 0.7, "the metric was lost"
        assert got.tags.get("team") == "flüge & wetter", "the tag was lost"
        assert got.data == (use,), "the data version was lost or changed"

    def test_hundreds_of_values_in_one_call_are_all_kept(self, tracker: Tracker, run: Run) -> None:
        """Servers limit the size of a batch; the tracker must split it."""
        params = {f"p{n}": n for n in range(230)}
        metrics = [Metric(name=f"m{n % 60}", value=float(n), step=n) for n in range(1200)]
        tracker.log(run.id, params=params, metrics=metrics, tags={f"t{n}": "x" for n in range(120)})
        got = tracker.get(run.id)
        assert len(got.params) == 230, f"230 parameters were logged, {len(got.params)} are there"
        assert len(got.metrics) == 60, f"60 metrics were logged, {len(got.metrics)} are there"
        assert got.metrics["m59"] == 1199.0, "the last value of a metric was lost in a big batch"
        assert sum(name.startswith("t") for name in got.tags) >= 120, "tags were lost in a big batch"

    def test_data_keeps_its_role_and_all_its_fields(self, tracker: Tracker, run: Run) -> None:
        """One version may play two parts; several calls add up."""
        uses = [
            DataUse(role="train", ref=data_ref("flüge")),
            DataUse(role="test", ref=data_ref("flüge")),
        ]
        tracker.log(run.id, data=uses[:1])
        tracker.log(run.id, data=uses[1:])
        tracker.log(run.id, data=[DataUse(role="valid", ref=data_ref("wetter"))])
        got = {(use.role, use.ref.name): use.ref for use in tracker.get(run.id).data}
        assert set(got) == {("train", "flüge"), ("test", "flüge"), ("valid", "wetter")}, (
            "each role of each data version must be kept"
        )
        assert got["train", "flüge"] == data_ref("flüge"), "the data version came back changed"

    def test_a_tag_can_be_changed(self, tracker: Tracker, run: Run) -> None:
        """Tags are notes, not results."""
        tracker.log(run.id, tags={"state": "draft", "note": "mit\nzwei zeilen"})
        tracker.log(run.id, tags={"state": "good"})
        got = tracker.get(run.id).tags
        assert got["state"] == "good", "the new value of a tag must win"
        assert got["note"] == "mit\nzwei zeilen", "the other tag must stay as it was"

    def test_a_bare_run_is_empty(self, tracker: Tracker, run: Run) -> None:
        """What the tracker adds for itself must not look like the user's results."""
        tracker.log(run.id)
        got = tracker.get(run.id)
        assert (dict(got.params), dict(got.metrics), got.data, got.models) == ({}, {}, (), ()), (
            "a bare run must show no parameters, metrics, data or models"
        )

    # -- files and models -------------------------------------------------------------------

    def test_a_file_can_be_stored(self, tracker: Tracker, run: Run, tmp_path: Path) -> None:
        """Any name, any folder; the original stays."""
        file = tmp_path / "konfusions matrix ü.txt"
        file.write_text("1 2\n3 4", encoding="utf-8")
        tracker.log_file(run.id, file)
        tracker.log_file(run.id, file, folder="plots/neu")
        assert file.read_text(encoding="utf-8") == "1 2\n3 4", "the original must stay as it was"

    def test_a_model_is_stored_and_found_again(
        self, tracker: Tracker, run: Run, model: Any, example: Any, reopen: Callable[[], Tracker]
    ) -> None:
        """`Run.models` holds its URI, and the URI gives the same record."""
        logged = tracker.log_model(run.id, model, example=example, files={"lineage.json": LINEAGE})
        other = reopen()
        assert logged.run_id == run.id, "the logged model must name its run"
        assert len(logged.digest) == 64, f"the digest must be a SHA-256 in hex, not {logged.digest!r}"
        assert logged.lineage_id in (json.loads(LINEAGE)["id"], hashlib.sha256(LINEAGE).hexdigest()), (
            f"lineage_id must come from lineage.json, not {logged.lineage_id!r}"
        )
        assert other.get(run.id).models == (logged.uri,), "`Run.models` must hold the model's URI"
        assert other.logged_model(logged.uri) == logged, "`logged_model` must give what `log_model` gave"

    def test_a_model_needs_no_example_and_no_files(self, tracker: Tracker, run: Run, model: Any) -> None:
        """And then has no lineage."""
        logged = tracker.log_model(run.id, model)
        assert tracker.logged_model(logged.uri) == logged, "`logged_model` must give what `log_model` gave"
        assert logged.lineage_id is None, "without lineage.json there is no lineage_id"

    def test_two_models_of_a_run_are_both_kept(
        self, tracker: Tracker, run: Run, model: Any, example: Any
    ) -> None:
        """Each with its own URI."""
        uris = [tracker.log_model(run.id, model, example=example).uri for _ in range(2)]
        assert sorted(tracker.get(run.id).models) == sorted(uris), "a run may log several models"
        assert len(set(uris)) == 2, "two models got the same URI"

    def test_a_model_that_nothing_can_store_is_refused(self, tracker: Tracker, run: Run) -> None:
        """With the name of its type."""
        error = refusal(UsageError, "model-not-serialisable", tracker.log_model, run.id, Unstorable())
        assert "Unstorable" in error.message, f"the message must name the type: {error}"
        assert tracker.get(run.id).models == (), "a model that was refused must not be listed"

    def test_an_unknown_model_uri_is_not_found(self, tracker: Tracker) -> None:
        """A URI of the right shape, and nonsense."""
        refusal(NotFoundError, "logged-model-not-found", tracker.logged_model, f"models:/m-{UNKNOWN}")
        refusal(NotFoundError, "logged-model-not-found", tracker.logged_model, "kein modell")

    # -- ending -----------------------------------------------------------------------------

    @pytest.mark.parametrize("status", ["finished", "failed", "killed"])
    def test_a_run_ends_with_its_status(self, tracker: Tracker, run: Run, status: RunStatus) -> None:
        """The returned record and the stored one agree."""
        tracker.finish(run.id, status)
        ended = tracker.get(run.id)
        assert ended.status == status, f"it ended as `{status}`, not `{ended.status}`"
        assert ended.ended is not None, "an ended run has an end"
        assert ended.ended >= ended.started, "a run ends after its start"
        assert tracker.get(run.id) == ended, "`get` must give what `finish` returned"

    def test_ending_a_run_twice_changes_nothing(self, tracker: Tracker, run: Run) -> None:
        """Not even the time."""
        tracker.finish(run.id)
        first = tracker.get(run.id)
        tracker.finish(run.id)
        assert tracker.get(run.id) == first, "ending an ended run again must change nothing"

    # -- finding ----------------------------------------------------------------------------

    def test_an_unknown_run_is_not_found(
        self, tracker: Tracker, model: Any, model_folder: Path, tmp_path: Path
    ) -> None:
        """By every method that takes a run id."""
        file = tmp_path / "file.txt"
        file.write_text("x")
        for run_id in (UNKNOWN, "kein lauf"):
            refusal(NotFoundError, "run-not-found", tracker.get, run_id)
            refusal(NotFoundError, "run-not-found", tracker.log, run_id, params={"a": 1})
            refusal(NotFoundError, "run-not-found", tracker.log_file, run_id, file)
            refusal(NotFoundError, "run-not-found", tracker.log_model, run_id, model)
            refusal(NotFoundError, "run-not-found", tracker.finish, run_id)
            refusal(NotFoundError, "run-not-found", tracker.metrics, run_id)
            refusal(NotFoundError, "run-not-found", tracker.files, run_id)
            refusal(NotFoundError, "run-not-found", tracker.add_model, run_id, model_folder)

    def test_the_newest_runs_come_first(self, tracker: Tracker, unique: str) -> None:
        """Also when they start within the same millisecond."""
        started = [tracker.start(unique, CONTEXT).id for _ in range(4)]
        listed = [run.id for run in tracker.runs(name=unique)]
        assert listed == started[::-1], "runs must be listed newest first"
        everything = [run.id for run in tracker.runs(limit=4)]
        assert everything == started[::-1], "without a name the newest of all runs must come first"

    def test_the_limit_keeps_the_newest(self, tracker: Tracker, unique: str) -> None:
        """Not any two."""
        started = [tracker.start(unique, CONTEXT).id for _ in range(3)]
        listed = [run.id for run in tracker.runs(name=unique, limit=2)]
        assert listed == [started[2], started[1]], "a limit of 2 must keep the two newest"

    def test_listed_runs_are_whole(self, tracker: Tracker, run: Run) -> None:
        """The list gives the same records as `get`."""
        use = DataUse(role="train", ref=data_ref())
        tracker.log(run.id, params={"a": 1}, metrics=[Metric(name="m", value=2.0)], data=[use])
        assert tracker.runs(name=run.name) == [tracker.get(run.id)], "`runs` and `get` must agree"

    @pytest.mark.parametrize("name", TRICKY_NAMES.values(), ids=TRICKY_NAMES)
    def test_a_name_may_hold_any_character(self, tracker: Tracker, unique: str, name: str) -> None:
        """Names reach queries; quotes and wildcards must not mean anything there."""
        name = f"{name} {unique}"
        run = tracker.start(name, CONTEXT)
        tracker.start(f"{name} not", CONTEXT)
        assert [found.id for found in tracker.runs(name=name)] == [run.id], f"runs(name={name!r})"
        assert tracker.get(run.id).name == name, "the name came back changed"

    def test_a_new_project_has_no_runs(self, fresh: Tracker) -> None:
        """Empty lists, no errors."""
        assert fresh.runs() == [], "a new project has no runs"
        assert fresh.runs(name="irgendeiner") == [], "a name that nobody used gives an empty list"

    # -- several at once --------------------------------------------------------------------

    def test_two_instances_see_each_other(
        self, tracker: Tracker, run: Run, reopen: Callable[[], Tracker]
    ) -> None:
        """A notebook and a terminal work on one project."""
        other = reopen()
        other.log(run.id, metrics=[Metric(name="auc", value=0.9)])
        tracker.log(run.id, params={"depth": 2})
        other.finish(run.id)
        ended = other.get(run.id)
        assert ended.params == {"depth": "2"}, "what the first instance logged is lost to the second"
        assert tracker.get(run.id) == ended, "the first instance does not see what the second did"

    def test_runs_at_the_same_time_lose_nothing(
        self, tracker: Tracker, unique: str, reopen: Callable[[], Tracker]
    ) -> None:
        """Four runs from two instances, in threads."""
        other = reopen()

        def work(through: Tracker) -> str:
            run = through.start(unique, CONTEXT)
            for step in range(3):
                through.log(run.id, metrics=[Metric(name="loss", value=float(step), step=step)])
            through.finish(run.id)
            return run.id

        made = at_once(*(lambda t=t: work(t) for t in (tracker, other, tracker, other)))
        found = {run.id: run for run in tracker.runs(name=unique)}
        assert set(found) == set(made), "runs that were made at the same time got lost"
        assert all(run.metrics == {"loss": 2.0} for run in found.values()), "metrics got lost"

    def test_runs_that_read_the_same_new_data_at_once_all_say_so(
        self, tracker: Tracker, unique: str, reopen: Callable[[], Tracker]
    ) -> None:
        """A sweep over one data set."""
        use = DataUse(role="train", ref=data_ref(unique))

        def work(through: Tracker) -> str:
            run = through.start(unique, CONTEXT)
            through.log(run.id, data=[use])
            return run.id

        made = at_once(*(lambda t=t: work(t) for t in (tracker, reopen(), tracker, reopen())))
        assert [tracker.get(run_id).data for run_id in made] == [(use,)] * 4, "a data version got lost"

    def test_logging_into_one_run_at_once_loses_nothing(
        self, tracker: Tracker, run: Run, reopen: Callable[[], Tracker]
    ) -> None:
        """Two writers, different names."""
        other = reopen()

        def work(through: Tracker, word: str) -> None:
            for n in range(5):
                through.log(run.id, params={f"{word}{n}": n}, metrics=[Metric(name=f"{word}{n}", value=n)])

        at_once(lambda: work(tracker, "a"), lambda: work(other, "b"))
        got, wanted = tracker.get(run.id), {f"{word}{n}" for word in "ab" for n in range(5)}
        assert set(got.params) == wanted, f"parameters got lost: {sorted(wanted - set(got.params))}"
        assert set(got.metrics) == wanted, f"metrics got lost: {sorted(wanted - set(got.metrics))}"

    def test_records_survive_json(self, tracker: Tracker, run: Run, model: Any) -> None:
        """`--json` prints them, and other tools read that."""
        logged = tracker.log_model(run.id, model)
        tracker.finish(run.id)
        ended = tracker.get(run.id)
        assert Run.from_dict(json.loads(json.dumps(ended.to_dict()))) == ended, (
            "the run does not survive JSON"
        )
        assert LoggedModel.from_dict(json.loads(json.dumps(logged.to_dict()))) == logged, (
            "the logged model does not survive JSON"
        )
