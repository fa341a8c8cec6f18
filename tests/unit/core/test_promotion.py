"""Promotions: gates first, nobody overwritten, and a kill at any moment is repaired."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import modelyard
from modelyard.audit import audit
from modelyard.errors import ConflictError, CorruptStateError, GateError, NotFoundError, UsageError
from modelyard.records import Actor, ModelVersion
from modelyard.testing import ConstantModel
from modelyard.yard import Yard


@pytest.fixture
def yard(modelyard_project: Yard) -> Yard:
    return modelyard_project


@pytest.fixture
def versions(yard: Yard) -> list[ModelVersion]:
    return [train(yard, auc) for auc in (0.70, 0.72, 0.68)]


def train(yard: Yard, auc: float) -> ModelVersion:
    with yard.run("late-flights") as run:
        run.log({"auc": auc})
        return run.log_model(
            ConstantModel(auc), name="late-flights", example=[{"temp": 1.0, "wind speed": 2.0}]
        )


def gate(yard: Yard, text: str) -> None:
    (yard.root / "gates.toml").write_text(text)


def test_a_promotion_says_who_when_from_to_and_why(yard: Yard, versions: list[ModelVersion]) -> None:
    yard.promote(versions[0], to="production", reason="first")
    promotion = yard.promote("late-flights/2", to="production", reason="better")
    assert (promotion.from_version, promotion.to_version, promotion.status) == ("1", "2", "completed")
    assert promotion.actor.user
    assert [p.reason for p in yard.history("late-flights")] == ["better", "first"]
    assert yard.models.get("late-flights@production").version == "2"


def test_a_gate_refuses_and_nothing_moves(yard: Yard, versions: list[ModelVersion]) -> None:
    gate(yard, '[[gate]]\ncheck = "metric"\nmetric = "auc"\nmin = 0.71\n')
    with pytest.raises(GateError) as caught:
        yard.promote(versions[0], to="production", reason="hope")
    assert caught.value.code == "gate-refused"
    assert "metric: auc 0.7 is below 0.71" in caught.value.message
    assert yard.registry.alias("late-flights", "production") is None
    assert yard.promotions_of("late-flights") == []


def test_a_gate_compares_with_the_current_version(yard: Yard, versions: list[ModelVersion]) -> None:
    gate(yard, '[[gate]]\ncheck = "metric"\nmetric = "auc"\ntolerance = 0.01\n')
    yard.promote(versions[1], to="production", reason="first")
    with pytest.raises(GateError, match=r"worse than 0\.72 of version 2"):
        yard.promote(versions[2], to="production", reason="hope")


def test_a_gate_says_value_and_limits(yard: Yard, versions: list[ModelVersion]) -> None:
    gate(yard, '[[gate]]\ncheck = "metric"\nmetric = "auc"\nmin = 0.6\ntolerance = 0.05\n')
    yard.promote(versions[0], to="production", reason="first")
    (result,) = yard.check_gates(versions[1], to="production")
    assert result.values == {"metric": "auc", "value": 0.72, "current": 0.7, "min": 0.6, "tolerance": 0.05}


def test_gates_apply_to_their_alias_and_model_only(yard: Yard, versions: list[ModelVersion]) -> None:
    gate(yard, '[[gate]]\ncheck = "data-published"\nalias = "production"\n')
    assert yard.check_gates(versions[0], to="staging") == ()
    (result,) = yard.check_gates(versions[0], to="production")
    assert not result.passed


def test_an_unknown_gate_or_setting_is_named(yard: Yard, versions: list[ModelVersion]) -> None:
    gate(yard, '[[gate]]\ncheck = "metrics"\n')
    with pytest.raises(modelyard.ModelyardError, match="no gate 'metrics'; did you mean 'metric'"):
        yard.check_gates(versions[0], to="production")
    gate(yard, '[[gate]]\ncheck = "metric"\nmetric = "auc"\nminimum = 3\n')
    with pytest.raises(modelyard.ModelyardError, match=r"unknown key 'gate\.0\.minimum'; did you mean 'min'"):
        yard.check_gates(versions[0], to="production")


def test_the_wrong_expectation_is_told_who_moved_it(yard: Yard, versions: list[ModelVersion]) -> None:
    yard.promote(versions[0], to="production", reason="first")
    yard.promote(versions[1], to="production", reason="faster")
    with pytest.raises(ConflictError) as caught:
        yard.promote(versions[2], to="production", reason="late", expect="1")
    assert caught.value.code == "alias-moved"
    assert "is at version 2, not 1" in caught.value.message
    assert "(faster)" in caught.value.message
    assert "--expect 2" in caught.value.hint


def test_nobody_can_be_expected_too(yard: Yard, versions: list[ModelVersion]) -> None:
    yard.promote(versions[0], to="production", reason="first", expect="")
    with pytest.raises(ConflictError, match="is at version 1, not none"):
        yard.promote(versions[1], to="production", reason="late", expect="")


def test_who_does_it_can_be_said_by_who_knows(yard: Yard, versions: list[ModelVersion]) -> None:
    """A server knows its user better than the machine does."""
    grace = Actor(user="grace", source="authenticated")
    assert yard.promote(versions[0], to="production", reason="first", by=grace).actor == grace
    yard.promote(versions[1], to="production", reason="second")
    assert yard.rollback("late-flights", reason="back", by=grace).actor == grace


def test_a_rollback_of_what_was_seen_says_who_was_faster(yard: Yard, versions: list[ModelVersion]) -> None:
    for version in versions[:2]:
        yard.promote(version, to="production", reason="good")
    with pytest.raises(ConflictError, match="is at version 2, not 1: it was moved by") as fault:
        yard.rollback("late-flights", reason="back", expect="1")
    assert fault.value.code == "alias-moved"
    assert yard.rollback("late-flights", reason="back", expect="2").to_version == "1"


def test_where_a_rollback_would_go_is_known_before(yard: Yard, versions: list[ModelVersion]) -> None:
    assert yard.rolls_back_to("late-flights") is None
    yard.promote(versions[0], to="production", reason="first")
    yard.promote(versions[1], to="production", reason="second")
    assert yard.rolls_back_to("late-flights") == "1"
    assert len(yard.history()) == 2


def test_promoting_what_is_promoted_changes_nothing(yard: Yard, versions: list[ModelVersion]) -> None:
    first = yard.promote(versions[0], to="production", reason="first")
    assert yard.promote(versions[0], to="production", reason="again") == first
    assert len(yard.history()) == 1


def test_a_reason_is_needed(yard: Yard, versions: list[ModelVersion]) -> None:
    with pytest.raises(UsageError, match="needs a reason"):
        yard.promote(versions[0], to="production", reason="  ")


def test_rollback_goes_to_the_version_before_not_to_the_number_before(
    yard: Yard, versions: list[ModelVersion]
) -> None:
    yard.promote(versions[0], to="production", reason="first")
    yard.promote(versions[2], to="production", reason="third")
    promotion = yard.rollback("late-flights", reason="complaints")
    assert (promotion.action, promotion.from_version, promotion.to_version) == ("rollback", "3", "1")


def test_rolling_back_twice_goes_two_back_never_to_what_was_taken_back(
    yard: Yard, versions: list[ModelVersion]
) -> None:
    for number, version in enumerate(versions[:3], 1):
        yard.promote(version, to="production", reason=f"number {number}")
    moved = [yard.rollback("late-flights", reason="complaints").to_version for _ in range(2)]
    assert moved == ["2", "1"]
    with pytest.raises(NotFoundError) as caught:
        yard.rollback("late-flights", reason="still complaints")
    assert caught.value.code == "nothing-to-roll-back"
    yard.promote(versions[2], to="production", reason="repaired")
    assert yard.rollback("late-flights", reason="not quite").to_version == "1"


def test_nothing_to_roll_back_is_one_sentence(yard: Yard, versions: list[ModelVersion]) -> None:
    yard.promote(versions[0], to="production", reason="first")
    with pytest.raises(NotFoundError) as caught:
        yard.rollback("late-flights", reason="complaints")
    assert caught.value.code == "nothing-to-roll-back"


def test_rollback_refuses_changed_files(yard: Yard, versions: list[ModelVersion]) -> None:
    yard.promote(versions[0], to="production", reason="first")
    yard.promote(versions[1], to="production", reason="second")
    (yard.models.path(versions[0]) / "constant.json").write_text("{}")
    with pytest.raises(CorruptStateError) as caught:
        yard.rollback("late-flights", reason="complaints")
    assert caught.value.code == "model-changed"
    assert yard.registry.alias("late-flights", "production") == "2"


_PROMOTE = """
import os, signal, sys
import modelyard
from modelyard.testing.memory.registry import MemoryRegistry
moment, version = sys.argv[1:]
move = MemoryRegistry.set_alias
def killed(self, *arguments):
    if moment == "after":
        move(self, *arguments)
    os.kill(os.getpid(), signal.SIGKILL)
if moment != "never":
    MemoryRegistry.set_alias = killed
modelyard.open().promote(f"late-flights/{version}", to="production", reason=f"by {version}")
"""


def promote_in_a_process(yard: Yard, moment: str, version: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _PROMOTE, moment, version],
        env={**os.environ, "MODELYARD_PROJECT": str(yard.root)},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("moment", "status"), [("before", "abandoned"), ("after", "completed")])
def test_a_killed_promotion_is_found_and_repaired(
    yard: Yard, versions: list[ModelVersion], moment: str, status: str
) -> None:
    killed = promote_in_a_process(yard, moment, "1")
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert [finding["repaired"] for finding in audit(yard)] == [False]
    (finding,) = audit(yard, repair=True)
    assert finding["repaired"]
    assert [p.status for p in yard.history()] == [status]
    assert audit(yard) == []


def test_a_killed_promotion_can_be_run_again(yard: Yard, versions: list[ModelVersion]) -> None:
    promote_in_a_process(yard, "before", "1").communicate(timeout=60)
    promotion = yard.promote("late-flights/1", to="production", reason="again")
    assert promotion.status == "completed"
    assert [p.status for p in yard.history()] == ["completed", "abandoned"]


def test_an_alias_moved_by_another_tool_is_written_down(yard: Yard, versions: list[ModelVersion]) -> None:
    yard.promote(versions[0], to="production", reason="first")
    yard.registry.set_alias("late-flights", "production", "3")
    (finding,) = audit(yard)
    assert "stands at 3, the ledger says 1" in str(finding["message"])
    yard.promote(versions[1], to="production", reason="knowing")
    assert [(p.action, p.from_version, p.to_version) for p in yard.history()] == [
        ("promote", "3", "2"),
        ("external", "1", "3"),
        ("promote", None, "1"),
    ]


def test_promoters_at_once_never_overwrite_each_other(yard: Yard, versions: list[ModelVersion]) -> None:
    promoters = [promote_in_a_process(yard, "never", str(1 + n % 3)) for n in range(6)]
    said = [promoter.communicate(timeout=120)[1] for promoter in promoters]
    for promoter, text in zip(promoters, said):
        assert promoter.returncode == 0 or "ConflictError" in text, text
    history = yard.promotions_of("late-flights")
    assert history
    assert all(p.status == "completed" for p in history)
    assert [p.from_version for p in history] == [None, *(p.to_version for p in history[:-1])]
    assert yard.registry.alias("late-flights", "production") == history[-1].to_version


def test_a_listener_that_fails_is_reported_and_nothing_stops(
    modelyard_project: Yard, versions: list[ModelVersion], capsys: pytest.CaptureFixture[str]
) -> None:
    file = modelyard_project.root / "modelyardfile.py"
    file.write_text(
        file.read_text()
        + "\nimport modelyard\n\n@modelyard.hookimpl\ndef modelyard_after_promote(promotion):\n"
        + "    raise RuntimeError(f'chat is down for {promotion.id}')\n"
    )
    promotion = modelyard.open(modelyard_project.root).promote(versions[0], to="production", reason="x")
    assert promotion.status == "completed"
    assert (
        "modelyard_after_promote failed: RuntimeError: chat is down for late-flights#1"
        in capsys.readouterr().err
    )


def test_lineage_of_a_version_names_person_run_and_metrics(yard: Yard, versions: list[ModelVersion]) -> None:
    yard.promote(versions[0], to="production", reason="first")
    node = yard.lineage("late-flights@production")
    assert [each.kind for each in node.walk()][:3] == ["model", "promotion", "run"]
    assert "auc 0.7" in node.behind[1].title
    assert yard.lineage("late-flights#1").behind[0].id == "late-flights/1"


def test_an_alias_that_no_ledger_knows_is_found(yard: Yard, versions: list[ModelVersion]) -> None:
    yard.registry.set_alias("late-flights", "champion", "2")
    (finding,) = audit(yard)
    assert "'champion' stands at 2, the ledger says none" in finding["message"]
    (noted,) = audit(yard, repair=True)
    assert noted["repaired"]
    assert audit(yard) == []


def test_an_emptied_ledger_is_not_whole(yard: Yard, versions: list[ModelVersion]) -> None:
    yard.promote(versions[0], to="production", reason="first")
    (file,) = (yard.state / "ledger").glob("*.jsonl")
    for lose in (lambda: file.write_text(""), file.unlink):
        lose()
        (finding,) = audit(yard)
        assert "'production' stands at 1, the ledger says none" in finding["message"]


@pytest.mark.parametrize("alias", ["latest", "v3", "prod/x", "", "5", "a b"])
def test_an_alias_that_registries_refuse_leaves_no_trace(
    yard: Yard, versions: list[ModelVersion], alias: str
) -> None:
    with pytest.raises(UsageError) as caught:
        yard.promote(versions[0], to=alias, reason="x")
    assert caught.value.code == "alias-invalid"
    assert yard.promotions_of("late-flights") == []


def test_a_run_whose_values_are_refused_has_failed(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise UsageError("log-refused", "no such names")

    monkeypatch.setattr(yard.tracker, "log", refuse)
    with pytest.raises(UsageError, match="no such names"), yard.run("x") as run:
        run.log({"m": 1.0})
    assert yard.runs.get(run.id).status == "failed"


def test_a_deleted_version_keeps_its_place_in_the_lineage(
    yard: Yard, versions: list[ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.promote(versions[0], to="production", reason="first")

    def gone(name: str, version: str) -> ModelVersion:
        raise NotFoundError("version-not-found", f"there is no version {version} of '{name}'")

    monkeypatch.setattr(yard.registry, "get", gone)
    node = yard.lineage("late-flights#1")
    assert node.tree().splitlines()[1] == "└─ model late-flights, version 1 (not in the registry)"


def test_an_unknown_id_says_where_it_was_looked_for(yard: Yard) -> None:
    with pytest.raises(NotFoundError, match="endpoints, predictions, runs, data"):
        yard.lineage("nothing-like-this")


def test_state_files_are_inside_the_project(yard: Yard, versions: list[ModelVersion]) -> None:
    yard.promote(versions[0], to="production", reason="first")
    assert (yard.root / ".modelyard" / "ledger" / "late-flights.jsonl").is_file()
    assert Path(yard.models.path(versions[0])).is_relative_to(yard.root)
