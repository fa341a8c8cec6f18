"""What a ship decides, with the reference providers; the real tools are in `tests/integration/ship`."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import modelyard
from modelyard.audit import audit
from modelyard.errors import ConflictError, NotFoundError, UsageError
from modelyard.ledger import Ledger
from modelyard.records import Code, ModelVersion, RunContext
from modelyard.shipping.known import MARK, Known
from modelyard.shipping.records import Progress, Shipment
from modelyard.testing import ConstantModel
from modelyard.testing.memory.data import MemoryDataStore
from modelyard.testing.memory.registry import MemoryRegistry
from modelyard.testing.memory.track import MemoryTracker
from modelyard.yard import Yard

MODEL = "späte-flüge"
TARGETS = """

from pathlib import Path
from modelyard import hookimpl
from modelyard.targets import Address, Target, TargetOffer

STORAGE = str(Path(__file__).with_name("far storage"))


@hookimpl
def modelyard_targets():
    for name in ("cluster", "second"):
        yield TargetOffer(
            name=name,
            summary="for tests",
            connect=lambda name=name: Target(name, find=lambda _: Address(url="http://x", storage=STORAGE)),
        )
"""


@pytest.fixture
def here(modelyard_project: Yard) -> Yard:
    file = modelyard_project.root / "modelyardfile.py"
    file.write_text(file.read_text() + TARGETS)
    return modelyard.open(modelyard_project.root)


def there(here: Yard, target: str = "cluster") -> Yard:
    return modelyard.open(here.root, target=target)


def train(here: Yard, value: float, *, model: str = MODEL, data: Any = None) -> ModelVersion:
    with here.run("ein lauf", params={"depth": 6}) as run:
        if data is not None:
            run.use(data)
        run.log({"loss": value}, step=0)
        run.log({"loss": value / 2}, step=1)
        run.tag({"team": "flüge"})
        note = here.root / "note.txt"
        note.write_text(str(value))
        run.log_file(note, folder="plots")
        return run.log_model(ConstantModel(value), name=model, example=[{"temp": 1.0, "wind speed": 2.0}])


def add(here: Yard, content: str, name: str = "flights") -> Any:
    file = here.root / "data" / f"{name}.csv"
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    return here.data.add(file)


def states(shipped: Shipment) -> dict[str, str]:
    return {version.ref: version.state for version in shipped.versions}


def files_of(version: ModelVersion, yard: Yard) -> Path:
    """Where the reference registry keeps them: to be spoilt."""
    return yard.registry.fetch(version) / "constant.json"


# -- data -------------------------------------------------------------------------------------


def test_the_versions_of_data_behind_the_runs_are_shipped_too(here: Yard) -> None:
    first = add(here, "first")
    train(here, 1.0, data=first)
    second = add(here, "second")
    shipped = here.ship("cluster")
    assert {(item.version, item.state) for item in shipped.data} == {
        (first.version, "new"),
        (second.version, "new"),
    }
    (run,) = there(here).runs.list()
    (use,) = run.data
    assert (use.ref.version, use.ref.published) == (first.version, True)
    assert use.ref.remote == there(here).data.remote()


def test_data_that_is_nowhere_is_said_and_stops_nothing(here: Yard) -> None:
    lost = add(here, "lost")
    train(here, 1.0, data=lost)
    shutil.rmtree(here.state / "memory" / "objects")
    shipped = here.ship("cluster")
    assert [item.state for item in shipped.data] == ["missing"]
    assert states(shipped) == {f"{MODEL}/1": "new"}
    assert there(here).runs.list()[0].data[0].ref.published is False


def test_only_the_named_model_goes_with_the_data_of_its_runs(here: Yard) -> None:
    used, other = add(here, "used", "used"), add(here, "other", "other")
    train(here, 1.0, data=used)
    train(here, 2.0, model="anderes", data=other)
    shipped = here.ship("cluster", models=[MODEL])
    assert [item.version for item in shipped.data] == [used.version]
    assert there(here).models.names() == [MODEL]
    with pytest.raises(NotFoundError) as unknown:
        here.ship("cluster", models=["gibt es nicht"])
    assert unknown.value.code == "model-not-found"


# -- versions ---------------------------------------------------------------------------------


def test_a_changed_version_is_refused_and_names_wait_until_it_is_right(here: Yard) -> None:
    versions = [train(here, value) for value in (1.0, 2.0, 3.0)]
    train(here, 4.0, model="anderes")
    here.promote(versions[2], to="production", reason="best")
    here.promote("anderes/1", to="production", reason="only")
    file = files_of(versions[1], here)
    good = file.read_text()
    file.write_text(good.replace("2.0", "9.9"))
    shipped = here.ship("cluster")
    assert states(shipped) == {
        "anderes/1": "new",
        f"{MODEL}/1": "new",
        f"{MODEL}/2": "refused",
        f"{MODEL}/3": "new",
    }
    assert [(fault["ref"], fault["code"]) for fault in shipped.refused] == [(f"{MODEL}/2", "model-changed")]
    assert not shipped.empty
    far = there(here)
    assert far.registry.alias("anderes", "production") == "1"
    assert far.registry.alias(MODEL, "production") is None
    assert far.promotions_of(MODEL) == []
    assert len(far.models.versions(MODEL)) == 2

    file.write_text(good)
    again = here.ship("cluster")
    assert again.refused == ()
    assert {v.ref: v.there for v in again.versions if v.ref.startswith(MODEL)} == {
        f"{MODEL}/1": f"{MODEL}/1",
        f"{MODEL}/2": f"{MODEL}/3",
        f"{MODEL}/3": f"{MODEL}/2",
    }
    assert far.registry.alias(MODEL, "production") == "2", "the version that is number 3 here"
    assert [p.to_version for p in there(here).promotions_of(MODEL)] == ["2"]
    assert audit(there(here)) == []


def test_a_version_without_a_run_is_shipped_without_one(here: Yard) -> None:
    model = here.tracker.add_model(None, files_of(train(here, 1.0), here).parent)
    here.models.register("ohne lauf", model)
    shipped = here.ship("cluster", models=["ohne lauf"])
    assert states(shipped) == {"ohne lauf/1": "new"}
    (version,) = there(here).models.versions("ohne lauf")
    assert not version.run_id
    assert there(here).runs.list() == []
    assert here.ship("cluster", models=["ohne lauf"]).empty


def test_a_model_that_was_registered_twice_is_stored_once(here: Yard) -> None:
    version = train(here, 1.0)
    here.models.register("noch ein name", run=version.run_id)
    here.ship("cluster")
    (run,) = there(here).runs.list()
    assert len(run.models) == 1
    assert {v.uri for name in there(here).models.names() for v in there(here).models.versions(name)} == set(
        run.models
    )


def test_a_run_that_still_runs_is_completed_by_a_later_ship(here: Yard) -> None:
    run = here.tracker.start("läuft noch", RunContext(user="ada", code=Code(), environment=None))
    folder = files_of(train(here, 1.0), here).parent
    here.models.register("früh", here.tracker.add_model(run.id, folder))
    here.ship("cluster", models=["früh"])
    (copy,) = there(here).runs.list(name="läuft noch")
    assert copy.status == "running"
    here.tracker.log(run.id, params={"late": 1})
    here.tracker.finish(run.id, "failed")
    here.ship("cluster", models=["früh"])
    (copy,) = there(here).runs.list(name="läuft noch")
    assert (copy.status, copy.params) == ("failed", {"late": "1"})
    assert copy.ended == here.runs.get(run.id).ended


def test_versions_of_others_with_the_same_name_are_no_obstacle(here: Yard) -> None:
    """A colleague shipped a model of that name to the same cluster."""
    version = train(here, 1.0)
    here.promote(version, to="staging", reason="good")
    far = there(here)
    folder = files_of(version, here).parent
    far.registry.register(MODEL, far.tracker.add_model(None, folder), tags={MARK: f"{MODEL}/1 (theirs)"})
    shipped = here.ship("cluster")
    assert [(v.ref, v.there) for v in shipped.versions] == [(f"{MODEL}/1", f"{MODEL}/2")]
    assert far.registry.alias(MODEL, "staging") == "2"
    assert [p.to_version for p in far.promotions_of(MODEL)] == ["2"]


# -- names ------------------------------------------------------------------------------------


def test_what_is_promoted_later_is_shipped_later(here: Yard) -> None:
    first, second = train(here, 1.0), train(here, 2.0)
    here.promote(first, to="production", reason="first")
    here.ship("cluster")
    here.promote(second, to="production", reason="second")
    shipped = here.ship("cluster")
    assert [(a.alias, a.version, a.state) for a in shipped.aliases] == [("production", "2", "new")]
    assert shipped.promotions == {MODEL: 2}
    assert [p.reason for p in there(here).history(MODEL)] == ["second", "first"]
    assert here.ship("cluster").empty


def test_an_alias_that_was_promoted_there_stays(here: Yard) -> None:
    first, second = train(here, 1.0), train(here, 2.0)
    here.promote(first, to="production", reason="first")
    here.ship("cluster")
    there(here).promote(f"{MODEL}/2", to="production", reason="on the cluster")
    here.promote(second, to="staging", reason="staging")
    shipped = here.ship("cluster")
    assert {(a.alias, a.version, a.state) for a in shipped.aliases} == {
        ("production", "2", "kept"),
        ("staging", "2", "new"),
    }
    here.promote(second, to="production", reason="here as well")
    here.promote(first, to="production", reason="and back")
    shipped = here.ship("cluster")
    assert ("production", "2", "kept") in {(a.alias, a.version, a.state) for a in shipped.aliases}
    far = there(here)
    head = Ledger(far.state / "ledger", MODEL).head("production")
    assert head is not None
    assert head.reason == "on the cluster"
    assert audit(far) == []


def test_an_alias_that_was_taken_away_here_goes_there_too(here: Yard) -> None:
    here.promote(train(here, 1.0), to="staging", reason="x")
    here.ship("cluster")
    here.registry.set_alias(MODEL, "staging", None)
    shipped = here.ship("cluster")
    assert [(a.alias, a.state) for a in shipped.aliases] == [("staging", "removed")]
    assert there(here).registry.alias(MODEL, "staging") is None
    assert audit(there(here)) == []
    assert here.ship("cluster").empty


def test_a_rollback_there_finds_what_was_shipped(here: Yard) -> None:
    for value in (1.0, 2.0):
        here.promote(train(here, value), to="production", reason=f"version {value}")
    here.ship("cluster")
    far = there(here)
    rolled = far.rollback(MODEL, reason="complaints")
    assert (rolled.from_version, rolled.to_version, rolled.origin) == ("2", "1", None)
    assert here.registry.alias(MODEL, "production") == "2", "nothing moves here"


def test_a_history_that_is_not_the_one_from_before_moves_nothing_there(here: Yard) -> None:
    """Its ledger was brought back from an old backup; the other model goes on."""
    first, second = train(here, 1.0), train(here, 2.0)
    here.promote(first, to="production", reason="first")
    backup = Ledger(here.state / "ledger", MODEL).path.read_bytes()
    here.promote(second, to="production", reason="second")
    here.ship("cluster")
    Ledger(here.state / "ledger", MODEL).path.write_bytes(backup)
    here.promote(first, to="production", reason="again")
    here.promote(train(here, 3.0, model="anderes"), to="production", reason="other")
    shipped = here.ship("cluster")
    assert [(fault["ref"], fault["code"]) for fault in shipped.refused] == [(MODEL, "ledger-diverged")]
    far = there(here)
    assert far.registry.alias(MODEL, "production") == "2"
    assert far.registry.alias("anderes", "production") == "1"
    assert audit(far) == []


def test_it_can_be_shipped_on_to_another_target(here: Yard) -> None:
    here.promote(train(here, 1.0), to="production", reason="first")
    here.ship("cluster")
    there(here).ship("second")
    far = there(here, "second")
    assert [(p.reason, p.origin, p.to_version) for p in far.history(MODEL)] == [("first", "local", "1")]
    assert audit(far) == []
    assert "promoted to production" in far.lineage(f"{MODEL}@production").tree()


# -- again ------------------------------------------------------------------------------------


def test_a_target_that_was_made_anew_gets_everything_again(here: Yard) -> None:
    """The notes of what was shipped are still here, and wrong."""
    data = add(here, "x")
    here.promote(train(here, 1.0, data=data), to="production", reason="first")
    here.ship("cluster")
    shutil.rmtree(there(here).state / "memory")
    shutil.rmtree(here.root / "far storage")
    shipped = here.ship("cluster")
    assert [item.state for item in (*shipped.data, *shipped.versions)] == ["new", "new"]
    assert len(there(here).runs.list()) == 1
    assert here.ship("cluster").empty


def test_lost_notes_double_nothing(here: Yard) -> None:
    here.promote(train(here, 1.0), to="production", reason="first")
    here.ship("cluster")
    (there(here).state / "shipped.json").unlink()
    train(here, 2.0)
    shipped = here.ship("cluster")
    assert states(shipped) == {f"{MODEL}/1": "there", f"{MODEL}/2": "new"}
    assert len(there(here).runs.list()) == 2
    assert [a.state for a in shipped.aliases] == ["there"]


def test_a_dry_run_changes_nothing(here: Yard) -> None:
    data = add(here, "x" * 1000)
    here.promote(train(here, 1.0, data=data), to="production", reason="first")
    shipped = here.ship("cluster", dry_run=True)
    assert shipped.dry_run
    assert [(item.state, item.bytes) for item in shipped.data] == [("new", 1000)]
    assert [(v.state, v.there) for v in shipped.versions] == [("new", None)]
    assert [(a.alias, a.state) for a in shipped.aliases] == [("production", "new")]
    assert shipped.promotions == {MODEL: 2}
    assert shipped.bytes > 1000
    far = there(here)
    assert (far.models.names(), far.runs.list(), far.history()) == ([], [], [])
    assert not (here.root / "far storage").exists()
    assert not (far.state / "shipped.json").exists()
    real = here.ship("cluster")
    assert (real.bytes, real.promotions) == (shipped.bytes, shipped.promotions)


def test_a_second_ship_at_the_same_time_is_told_of_the_first(here: Yard) -> None:
    train(here, 1.0)
    began, go_on = threading.Event(), threading.Event()

    class Waits(Progress):
        def say(self, what: str) -> None:
            began.set()
            assert go_on.wait(30)

    first = threading.Thread(target=lambda: modelyard.open(here.root).ship("cluster", progress=Waits()))
    first.start()
    try:
        assert began.wait(30)
        with pytest.raises(ConflictError, match="shipping to cluster") as busy:
            here.ship("cluster")
        assert busy.value.code == "locked"
    finally:
        go_on.set()
        first.join(60)
    assert here.ship("cluster").empty


@pytest.mark.parametrize(
    ("to", "code"), [("local", "ship-to-itself"), ("nowhere", "target-unknown"), ("cluster", None)]
)
def test_where_to_must_be_another_target(here: Yard, to: str, code: str | None) -> None:
    if code is None:
        with pytest.raises(UsageError) as back:
            there(here).ship("local")
        assert back.value.code == "ship-to-local"
        return
    with pytest.raises((UsageError, NotFoundError)) as refused:
        here.ship(to)
    assert refused.value.code == code


# -- killed -----------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL: nobody catches it."""


class Killer:
    """Ends the process, so to speak, before or after the n-th step that changes something there."""

    #: What changes the target or the notes about it.
    STEPS = (
        (MemoryTracker, ("start", "log", "log_file", "add_model", "finish")),
        (MemoryRegistry, ("register", "set_alias")),
        (MemoryDataStore, ("publish",)),
        (Known, ("_write",)),
        (Ledger, ("_extend",)),
    )

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        #: Steps that still work; None: all.
        self.left: int | None = None
        self.after = False
        self._lock = threading.Lock()
        for kind, names in self.STEPS:
            for name in names:
                monkeypatch.setattr(kind, name, self._deadly(getattr(kind, name)))

    def _deadly(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            with self._lock:
                left = self.left
                if left is not None:
                    self.left = left - 1
            if left is not None and left <= 0:  # the last one, or the process is dead already
                if left == 0 and self.after:
                    step(*args, **named)
                raise Killed
            return step(*args, **named)

        return call


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    return Killer(monkeypatch)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_step_and_run_again_it_is_as_if_nothing_had_happened(
    here: Yard, killer: Killer, after: bool
) -> None:
    data = add(here, "x")
    for value in (1.0, 2.0):
        here.promote(train(here, value, data=data), to="production", reason=f"version {value}")
    killer.after = after
    attempts = 0
    while True:
        attempts += 1
        assert attempts < 200, "it never ends"
        killer.left = attempts
        try:
            modelyard.open(here.root).ship("cluster")
            break
        except Killed:
            continue
    killer.left = None
    assert attempts > 5
    far = there(here)
    copies = {run.tags[MARK]: run for run in far.runs.list()}
    originals = {run.id: run for run in here.runs.list()}
    assert len(far.runs.list()) == 2, "a run was doubled"
    assert copies.keys() == originals.keys()
    for run_id, original in originals.items():
        copy = copies[run_id]
        assert far.tracker.metrics(copy.id) == here.tracker.metrics(run_id), "values were lost or doubled"
        assert len(copy.models) == 1, "a model was doubled"
        assert (copy.status, copy.ended) == (original.status, original.ended)
    assert [v.version for v in far.models.versions(MODEL)] == ["2", "1"], "a version was doubled"
    assert [p.reason for p in far.history(MODEL)] == ["version 2.0", "version 1.0"]
    assert audit(far) == []
    assert json.loads((far.state / "shipped.json").read_text())["local"]["versions"] == {
        f"{MODEL}/1": f"{MODEL}/1",
        f"{MODEL}/2": f"{MODEL}/2",
    }
    assert here.ship("cluster").empty
