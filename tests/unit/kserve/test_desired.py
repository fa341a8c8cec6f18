"""The arithmetic of traffic: who gets how much, when is a revision rolled out."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from modelyard.errors import CorruptStateError
from modelyard_kserve.local import desired as states
from modelyard_kserve.local.desired import Canary, Component, Desired, Wanted
from modelyard_kserve.local.scaling import Scaling


def wanted(number: int, /, **changed: object) -> Wanted:
    made = Wanted(
        number=number,
        name=f"late-flights-{number:05d}",
        model="late-flights",
        version=str(number),
        path=f"/models/{number}",
        digest=f"{number}",
        storage_uri=f"models:/late-flights/{number}",
        spec_digest="s",
        created="2013-04-01T06:00:00+00:00",
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def endpoint(canary: int | None, *, rolled_out: int = 1, revisions: int = 2) -> Desired:
    return Desired(
        name="late-flights",
        namespace="default",
        generation=7,
        manifest="text",
        storage_uri="models:/late-flights/2",
        canary=canary,
        rolled_out=rolled_out,
        revisions=tuple(wanted(number) for number in range(1, revisions + 1)),
        created="2013-04-01T06:00:00+00:00",
    )


BOTH = {1: True, 2: True}


@pytest.mark.parametrize(
    ("ready", "split"),
    [
        ({1: True, 3: True, 4: True}, {1: 70, 3: 30}),
        ({1: True, 4: True}, {1: 100}),
        ({3: True}, {1: 70, 3: 30}),
        ({}, {1: 100}),
    ],
)
def test_canaries_that_are_ready_get_theirs_and_the_revision_of_the_file_the_rest(
    ready: dict[int, bool], split: dict[int, int]
) -> None:
    beside = (Canary(wanted(3), 30, 2), Canary(wanted(4), 0, 1))
    made = replace(endpoint(None, revisions=1), canaries=beside)
    assert made.split(ready) == split
    assert made.needed == {1, 3, 4}, "one without traffic shall be ready as well"
    assert [revision.number for revision in made.everything] == [1, 3, 4]
    assert made.scaling_of(wanted(3).key).most == 2
    assert made.scaling_of(wanted(1).key) == made.scaling


@pytest.mark.parametrize(
    ("canary", "ready", "split"),
    [
        (20, BOTH, {2: 20, 1: 80}),
        (1, BOTH, {2: 1, 1: 99}),
        (0, BOTH, {1: 100}),
        (100, BOTH, {2: 100}),
        (None, BOTH, {2: 100}),
        (20, {1: True}, {1: 100}),
        (100, {1: True, 2: False}, {1: 100}),
        (None, {1: True, 2: False}, {1: 100}),
        (20, {2: True}, {2: 100}),
        (0, {2: True}, {2: 100}),
        (20, {}, {1: 100}),
    ],
)
def test_traffic_is_split_between_the_newest_and_the_one_before(
    canary: int | None, ready: dict[int, bool], split: dict[int, int]
) -> None:
    assert endpoint(canary).split(ready) == split


@pytest.mark.parametrize("canary", [None, *range(101)])
def test_the_shares_add_up_to_a_hundred_and_none_is_nothing(canary: int | None) -> None:
    shares = endpoint(canary).split(BOTH)
    assert sum(shares.values()) == 100
    assert all(shares.values())


@pytest.mark.parametrize("canary", [None, 0, 20, 100])
def test_a_single_revision_gets_everything_even_before_it_is_ready(canary: int | None) -> None:
    alone = endpoint(canary, revisions=1)
    assert alone.split({}) == alone.split({1: True}) == {1: 100}


def test_a_revision_in_the_middle_gets_nothing() -> None:
    assert endpoint(30, rolled_out=1, revisions=3).split({1: True, 2: True, 3: True}) == {3: 30, 1: 70}


@pytest.mark.parametrize(("canary", "needed"), [(None, {2}), (100, {2}), (0, {1}), (20, {1, 2})], ids=str)
def test_needed_are_those_that_get_traffic_once_all_are_ready(canary: int | None, needed: set[int]) -> None:
    assert endpoint(canary).needed == needed


@pytest.mark.parametrize("canary", [None, 100])
def test_a_ready_revision_with_all_traffic_is_rolled_out(canary: int | None) -> None:
    assert endpoint(canary).settled({2: True}).rolled_out == 2
    assert endpoint(canary).settled({1: True}).rolled_out == 1, "not before it is ready"


@pytest.mark.parametrize("canary", [0, 20, 99])
def test_a_canary_is_not_rolled_out(canary: int) -> None:
    before = endpoint(canary)
    assert before.settled(BOTH) is before


def test_revisions_of_the_same_model_and_environment_share_a_process() -> None:
    assert wanted(1).key == wanted(1, number=9, name="other", spec_digest="t").key
    assert wanted(1, env={"A": "1", "B": "2"}).key == wanted(1, env={"B": "2", "A": "1"}).key
    for other in (wanted(1, digest="x"), wanted(1, path="/other"), wanted(1, env={"A": "1"})):
        assert other.key != wanted(1).key
    assert wanted(1, trust_pickle=True).key != wanted(1).key, "the setting was changed so that it loads"
    assert wanted(1, env={"A": "1,B=2"}).key != wanted(1, env={"A": "1", "B": "2"}).key
    assert "geheim" not in wanted(1, env={"A": "geheim"}).key


def test_components_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    around = {"transformer": Component("python -m ours", env={"A": "1"}, scaling=Scaling(least=0, most=3))}
    before = endpoint(20)
    made = replace(before, revisions=(*before.revisions[:-1], replace(before.newest, components=around)))
    states.save(tmp_path, made)
    assert states.load(tmp_path) == made


def test_the_state_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    made = replace(
        endpoint(20),
        notes=("eine Notiz",),
        logger={"mode": "all", "url": None, "metadata_headers": ["X-Event-Time"]},
    )
    made = replace(made, revisions=(wanted(1), wanted(2, env={"A": "ä"}, trust_pickle=True)))
    states.save(tmp_path, made)
    assert states.load(tmp_path) == made
    assert (tmp_path / states.DESIRED).stat().st_mode & 0o077 == 0, "it may hold what env holds"


def test_no_state_is_none_and_a_torn_one_is_said(tmp_path: Path) -> None:
    assert states.load(tmp_path) is None
    assert states.observed(tmp_path) == {"generation": 0, "revisions": {}}
    whole = json.dumps(asdict(endpoint(20)))
    lacking = whole.replace('"rolled_out": 1', '"rolled_out": 9')
    for content in ('{"name": "la', "null", "[]", "{}", '{"revisions": [], "notes": []}', lacking):
        (tmp_path / states.DESIRED).write_text(content)
        with pytest.raises(CorruptStateError, match=r"desired\.json is damaged"):
            states.load(tmp_path)
    for content in ("{", "[]", '{"generation": "x", "revisions": {}}', '{"generation": 1, "revisions": [1]}'):
        (tmp_path / states.OBSERVED).write_text(content)
        assert states.observed(tmp_path) == {"generation": 0, "revisions": {}}


def test_sockets_lie_on_a_short_path_that_is_each_endpoints_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("ein sehr langer Ordner " * 8)
    assert len(str(states.run_folder(deep) / "12345.sock").encode()) < 100
    assert states.run_folder(deep) == states.run_folder(deep) != states.run_folder(tmp_path)
    long = tmp_path / ("ü" * 80)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert len(str(states.run_folder(deep) / "12345.sock").encode()) < 100


def test_a_folder_that_others_can_enter_is_not_private(tmp_path: Path) -> None:
    folder = tmp_path / "sockets"
    assert not states.is_private(folder)
    folder.mkdir(mode=0o700)
    assert states.is_private(folder)
    folder.chmod(0o755)
    assert not states.is_private(folder)
    link = tmp_path / "link"
    folder.chmod(0o700)
    link.symlink_to(folder)
    assert not states.is_private(link), "a link may lead to somebody else's folder"


def test_a_process_that_gathers_requests_is_another_one() -> None:
    batched = wanted(1, batcher={"maxBatchSize": 8, "maxLatency": 20})
    assert batched.key != wanted(1).key
    assert batched.key != wanted(1, batcher={"maxBatchSize": 8, "maxLatency": 30}).key
