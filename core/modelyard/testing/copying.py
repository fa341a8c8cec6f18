"""The part of the suite of trackers that is about whole runs, as a copy of one needs them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from modelyard.digests import canonical_json, manifest, model_digest
from modelyard.errors import NotFoundError
from modelyard.records import Code, Environment, Metric, Run, RunContext
from modelyard.stages import Tracker

CONTEXT = RunContext(
    user="Jörg Größe",
    code=Code(
        commit="4f2c1a" + "0" * 34,
        branch="fix/späte-flüge",
        dirty=True,
        repository="https://git.example/yard.git",
        diff_sha256="d" * 64,
        entry_point="notebooks/erste schritte.ipynb",
        cell="cell-7",
    ),
    environment=Environment(python="3.11.9", platform="Linux-6.1", lock_sha256="e" * 64),
)
LINEAGE = canonical_json({"id": "a" * 64, "run": {"user": "Jörg"}})


class CopyTests:
    """Part of `TrackSuite`, which has the fixtures."""

    @pytest.fixture
    def model_folder(self, tmp_path: Path) -> Path:
        """A model as some tracker stored it."""
        folder = tmp_path / "ein modell"
        (folder / "unter ordner").mkdir(parents=True)
        (folder / "MLmodel").write_text("flavors: {}\n")
        (folder / "lineage.json").write_bytes(LINEAGE)
        (folder / "unter ordner" / "gewichte ü.bin").write_bytes(bytes(range(256)) * 40)
        return folder

    # -- histories --------------------------------------------------------------------------

    def test_every_value_of_a_metric_is_there(
        self, tracker: Tracker, run: Run, reopen: Callable[[], Tracker]
    ) -> None:
        """Not the last one alone: with step and time, also those that are no finite numbers."""
        at = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=timezone.utc)
        values = [0.5, 0.25, math.inf, 0.125]
        curve = [
            Metric(name="verlust ä", value=value, step=step, time=at + timedelta(seconds=step))
            for step, value in enumerate(values)
        ]
        tracker.log(run.id, metrics=[*curve[:2], Metric(name="auc", value=0.7, time=at)])
        tracker.log(run.id, metrics=curve[2:])
        tracker.log(run.id, metrics=[Metric(name="kaputt", value=math.nan, time=at)])
        got = reopen().metrics(run.id)
        assert [metric for metric in got if metric.name == "verlust ä"] == curve, "the history is not whole"
        assert Metric(name="auc", value=0.7, time=at) in got, "a single value belongs to the history too"
        assert len(got) == 6, f"6 values were logged, {len(got)} are there"
        assert any(math.isnan(metric.value) for metric in got), "the value that is not a number was lost"

    def test_a_run_without_metrics_has_no_history(self, tracker: Tracker, run: Run) -> None:
        """An empty list, no error."""
        assert tracker.metrics(run.id) == [], "nothing was logged"

    # -- copies of runs from elsewhere ------------------------------------------------------

    def test_a_copied_run_keeps_when_it_ran(
        self, tracker: Tracker, unique: str, reopen: Callable[[], Tracker]
    ) -> None:
        """To the millisecond."""
        began = datetime(2026, 2, 3, 4, 5, 6, 789_000, tzinfo=timezone.utc)
        ended = began + timedelta(minutes=7)
        run = tracker.start(unique, CONTEXT, at=began)
        tracker.finish(run.id, "failed", at=ended)
        got = reopen().get(run.id)
        assert (run.started, got.started) == (began, began), f"it began {began}, not {got.started}"
        assert got.ended == ended, f"it ended {ended}, not {got.ended}"
        assert got.status == "failed", f"it ended as `failed`, not `{got.status}`"

    def test_tags_can_be_there_from_the_start(
        self, tracker: Tracker, unique: str, reopen: Callable[[], Tracker]
    ) -> None:
        """In the same step: whoever is killed right after must find the run again by them."""
        run = tracker.start(unique, CONTEXT, tags={"woher": "flüge & wetter"})
        assert run.tags.get("woher") == "flüge & wetter", "the returned record lacks the tag"
        assert reopen().get(run.id).tags.get("woher") == "flüge & wetter", "the tag was not stored"

    def test_an_environment_may_be_unknown(self, tracker: Tracker, unique: str) -> None:
        """Runs of other tools tell none."""
        bare = RunContext(user="x", code=Code(), environment=None)
        assert tracker.get(tracker.start(unique, bare).id).environment is None, "None must come back as None"

    # -- files and models -------------------------------------------------------------------

    def test_stored_files_come_back(
        self, tracker: Tracker, run: Run, tmp_path: Path, reopen: Callable[[], Tracker]
    ) -> None:
        """Each below the folder that was named, with what was stored last; and only those."""
        file = tmp_path / "bericht ü.txt"
        for text, below in (("eins", ""), ("zwei", "plots/neu"), ("drei", "plots/neu")):
            file.write_text(text, encoding="utf-8")
            tracker.log_file(run.id, file, folder=below)
        folder = reopen().files(run.id)
        found = {
            each.relative_to(folder).as_posix(): each.read_text(encoding="utf-8")
            for each in folder.rglob("*")
            if each.is_file()
        }
        assert found == {"bericht ü.txt": "eins", "plots/neu/bericht ü.txt": "drei"}, f"not {found}"

    def test_what_a_run_logged_is_had_by_its_name(
        self, tracker: Tracker, run: Run, model_folder: Path, tmp_path: Path, reopen: Callable[[], Tracker]
    ) -> None:
        """A file by its path, the model as `model`; another name is one sentence."""
        (tmp_path / "notes.txt").write_text("eins")
        tracker.log_file(run.id, tmp_path / "notes.txt", folder="plots")
        logged = tracker.add_model(run.id, model_folder)
        other = reopen()
        assert other.artifact(run.id, "plots/notes.txt").read_text() == "eins", "a file is had by its path"
        assert model_digest(other.artifact(run.id, "model")) == logged.digest, "the model is had as `model`"
        for run_id, code in ((run.id, "model-files-missing"), ("0" * 32, "run-not-found")):
            with pytest.raises(NotFoundError) as caught:
                other.artifact(run_id, "nichts")
            assert caught.value.code == code, f"the code is {code}, not {caught.value.code}"

    def test_a_run_without_files_has_an_empty_folder(self, tracker: Tracker, run: Run) -> None:
        """A folder all the same."""
        folder = tracker.files(run.id)
        assert folder.is_dir(), "there must be a folder"
        assert list(folder.iterdir()) == [], "nothing was stored"

    def test_a_model_folder_is_stored_as_it_is(
        self, tracker: Tracker, run: Run, model_folder: Path, reopen: Callable[[], Tracker]
    ) -> None:
        """The same bytes, so the same digest; and the run names it."""
        before = manifest(model_folder)
        logged = tracker.add_model(run.id, model_folder)
        other = reopen()
        assert logged.digest == model_digest(model_folder), "the digest must be that of the folder"
        assert logged.lineage_id == json.loads(LINEAGE)["id"], "lineage_id must come from lineage.json"
        assert logged.run_id == run.id, "the model must name its run"
        assert other.get(run.id).models == (logged.uri,), "`Run.models` must hold the model's URI"
        assert other.logged_model(logged.uri) == logged, "`logged_model` must give what `add_model` gave"
        assert manifest(model_folder) == before, "the folder must stay as it was"

    def test_a_model_may_belong_to_no_run(self, tracker: Tracker, model_folder: Path) -> None:
        """Its run was deleted, or never known."""
        logged = tracker.add_model(None, model_folder)
        assert tracker.logged_model(logged.uri) == logged, "`logged_model` must give what `add_model` gave"
        assert logged.run_id == "", f"there is no run, not {logged.run_id!r}"
