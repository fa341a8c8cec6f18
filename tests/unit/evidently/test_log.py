"""The prediction log: each row once, the last label of each, and parts that are whole or not there."""

from __future__ import annotations

import os
import random
import string
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from modelyard.errors import EnvironmentFault
from modelyard.stages import Label
from modelyard.state import read_json
from modelyard_evidently import log
from modelyard_evidently.events import Row

AT = datetime(2013, 4, 1, 12, tzinfo=timezone.utc)
#: Writes parts, fewer than are merged, and says so after the first few.
_WRITER = """
import sys, time
from datetime import datetime, timezone
from pathlib import Path
from modelyard_evidently import log
from modelyard_evidently.events import Row
at = datetime(2013, 4, 1, 12, tzinfo=timezone.utc)
for number in range(log._MANY_PARTS - 1):
    rows = [Row(f"{number}", n, at, at, "e", "m", "1", "r", {"x": float(n)}, 1, None) for n in range(50)]
    log.append(Path(sys.argv[1]), log.place_of(rows[0]), rows)
    if number == 5:
        print("begun", flush=True)
time.sleep(60)
"""


def row(name: str = "p", number: int = 0, *, time: datetime = AT, version: str = "1", **features: Any) -> Row:
    return Row(name, number, time, time, "e", "m", version, "r", features or {"x": 1.0}, number % 2, 0.5)


def put(state: Path, *rows: Row) -> None:
    log.append(state, log.place_of(rows[0]), rows)


def frame(state: Path, days: int = 1, version: str = "1") -> Any:
    reader = log.Reader(state, "e")
    return reader.frame("m", version, AT - timedelta(hours=12), AT + timedelta(days=days))


def label(value: Any, name: str = "p", number: int = 0) -> Label:
    return Label(prediction_id=name, row=number, value=value)


def parts(state: Path) -> list[Path]:
    return sorted(state.rglob("part-*.parquet"))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    put(tmp_path, row("a", 0, x=1, word="ä", flag=True), row("a", 1, x=None, word=None, flag=False))
    found = frame(tmp_path)
    assert found["feature.x"].tolist()[0] == 1.0
    assert found["feature.x"].isna().tolist() == [False, True]
    assert found["feature.word"].tolist() == ["ä", None]
    assert found["feature.flag"].tolist() == ["true", "false"]
    assert log.Reader(tmp_path, "e").find("a") == {
        "time": AT.replace(tzinfo=None),
        "model": "m",
        "version": "1",
        "revision": "r",
        "n_rows": 2,
    }
    assert log.Reader(tmp_path, "e").find("b") is None
    assert log.Reader(tmp_path, "nobody").spans("day") == []
    assert log.endpoints(tmp_path) == ["e"]


def test_a_row_that_was_written_twice_is_there_once(tmp_path: Path) -> None:
    for _ in range(3):
        put(tmp_path, row("a", 0), row("a", 1))
    (span,) = log.Reader(tmp_path, "e").spans("day")
    assert (span["n_rows"], len(frame(tmp_path))) == (2, 2)


def test_a_killed_writer_leaves_nothing_half_done(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"begun\n"
    writer.kill()
    writer.wait(10)
    writer.stdout.close()
    written = len(parts(tmp_path))
    assert written >= 5
    assert len(frame(tmp_path)) == 50 * written, "every part that is there is whole"
    put(tmp_path, row("after"))
    assert log.Reader(tmp_path, "e").find("after") is not None


def test_what_is_half_written_is_no_part_and_is_removed_when_it_is_old(tmp_path: Path) -> None:
    put(tmp_path, row())
    folder = parts(tmp_path)[0].parent
    young, old = folder / ".part-1-1.tmp", folder / ".part-2-2.tmp"
    for file in (young, old):
        file.write_bytes(parts(tmp_path)[0].read_bytes()[:100])
    os.utime(old, (0, 0))
    assert len(frame(tmp_path)) == 1
    log.clean(tmp_path)
    assert (young.exists(), old.exists()) == (True, False)


def test_many_parts_become_one_that_holds_every_row_once(tmp_path: Path) -> None:
    for number in range(70):
        put(tmp_path, row(str(number), 0), row(str(number - 1), 0))
    assert len(parts(tmp_path)) < 10
    assert sorted(frame(tmp_path)["prediction_id"], key=int) == [str(n) for n in range(-1, 70)]


def test_a_merge_that_was_killed_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "_MANY_PARTS", 3)
    with monkeypatch.context() as killed:
        killed.setattr(Path, "unlink", lambda *_, **__: None)  # it dies before it removes what it merged
        for number in range(3):
            put(tmp_path, row(str(number)))
    assert len(parts(tmp_path)) == 4
    assert len(frame(tmp_path)) == 3
    put(tmp_path, row("3"))
    assert (len(parts(tmp_path)), len(frame(tmp_path))) == (1, 4)


def test_rows_are_stored_also_where_there_is_no_room_to_merge(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error would have the collector store them again, and again, until the disk is full of them."""
    monkeypatch.setattr(log, "_MANY_PARTS", 3)
    chosen = random.Random(0)
    for number in range(3):
        put(small_disk, row(str(number), word="".join(chosen.choices(string.printable, k=30_000))))
    assert len(parts(small_disk)) == 3
    assert len(frame(small_disk)) == 3
    assert list(small_disk.rglob(".part-*.tmp")) == []


def test_a_full_disk_is_an_error_and_leaves_no_part(small_disk: Path) -> None:
    put(small_disk, row("before"))
    noise = "".join(random.Random(0).choices(string.printable, k=200_000))
    with pytest.raises(EnvironmentFault) as caught:
        put(small_disk, row("large", word=noise))
    assert caught.value.code == "disk-full"
    assert frame(small_disk)["prediction_id"].tolist() == ["before"]
    put(small_disk, row("after"))
    assert len(frame(small_disk)) == 2


def test_a_folder_that_can_not_be_written_is_named(read_only_folder: Path) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        put(read_only_folder, row())
    assert str(read_only_folder) in caught.value.message


@pytest.mark.parametrize("name", ["version=9", "it's [a] *?", "späte flüge"])
def test_the_name_of_a_folder_above_changes_nothing(tmp_path: Path, name: str) -> None:
    state = tmp_path / name
    put(state, row("a"))
    log.add_labels(state, "e", [label(1, "a")])
    (span,) = log.Reader(state, "e").spans("day")
    assert (span["model"], span["version"], span["labelled"]) == ("m", "1", 1)


# -- kinds --------------------------------------------------------------------------------------


def schema(state: Path) -> Any:
    (file,) = state.rglob("schema.json")
    return read_json(file)


def test_a_column_keeps_the_kind_that_it_had_first(tmp_path: Path) -> None:
    put(tmp_path, row("a", x=1.5, y="one"))
    put(tmp_path, row("b", x="word", y=2))
    assert schema(tmp_path) == {"x": "numeric", "y": "categorical"}
    found = frame(tmp_path)
    assert found["feature.x"].isna().tolist() == [False, True]
    assert found["feature.y"].tolist() == ["one", "2"]


def test_words_among_the_first_numbers_make_a_column_categorical(tmp_path: Path) -> None:
    put(tmp_path, row("a", 0, x=None), row("a", 1, x=1), row("a", 2, x="word"), row("a", 3, x=2))
    assert schema(tmp_path) == {"x": "categorical"}
    assert frame(tmp_path)["feature.x"].tolist() == [None, "1", "word", "2"]


def test_the_profile_decides_before_traffic_does(tmp_path: Path) -> None:
    log.set_kinds(tmp_path, "e", "m", "1", {"x": "categorical"})
    log.set_kinds(tmp_path, "e", "m", "1", {"x": "numeric"})
    put(tmp_path, row(x=3))
    assert frame(tmp_path)["feature.x"].tolist() == ["3"]


def test_versions_may_disagree_about_a_column(tmp_path: Path) -> None:
    put(tmp_path, row("a", version="1", x=1.5))
    put(tmp_path, row("b", version="2", x="word"))
    assert [span["n_rows"] for span in log.Reader(tmp_path, "e").spans("day")] == [1, 1]
    assert frame(tmp_path, version="2")["feature.x"].tolist() == ["word"]


# -- spans and labels ---------------------------------------------------------------------------


def test_spans_follow_the_calendar_and_rows_the_month_of_their_event(tmp_path: Path) -> None:
    for name, time in {"a": AT, "b": AT.replace(month=3, day=31, hour=23), "c": AT.replace(day=2)}.items():
        put(tmp_path, row(name, time=time))
    starts = {
        unit: [f"{span['start']:%m-%d}" for span in log.Reader(tmp_path, "e").spans(unit)]
        for unit in ("day", "week", "month")
    }
    assert starts == {
        "day": ["03-31", "04-01", "04-02"],
        "week": ["03-25", "04-01"],  # 1 April 2013 was a Monday
        "month": ["03-01", "04-01"],
    }
    assert sorted(frame(tmp_path, days=2)["prediction_id"]) == ["a", "c"]


@pytest.mark.parametrize(
    ("given", "value", "text"),
    [
        ([0, 1], 1.0, "1"),
        ([1, "late"], None, "late"),
        (["late", 0], 0.0, "0"),
        ([True, "x", 2.5], 2.5, "2.5"),
    ],
    ids=str,
)
def test_the_last_label_replaces_all_of_those_before(
    tmp_path: Path, given: list[Any], value: float | None, text: str
) -> None:
    put(tmp_path, row())
    for each in given:
        assert log.add_labels(tmp_path, "e", [label(each)]) == 1
    (found,) = frame(tmp_path)[["value", "text"]].to_dict("records")
    assert found["text"] == text
    assert (None if found["value"] != found["value"] else found["value"]) == value


def test_within_one_file_the_last_label_wins_too(tmp_path: Path) -> None:
    put(tmp_path, row("p", 0), row("p", 1))
    log.add_labels(tmp_path, "e", [label(0), label(5, number=1), label(1)])
    assert frame(tmp_path)["value"].tolist() == [1.0, 5.0]


def test_labels_win_in_their_order_also_when_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, row())
    log.add_labels(tmp_path, "e", [label(0)])
    with monkeypatch.context() as back:
        back.setattr(log.time, "time_ns", lambda: 10**9)
        log.add_labels(tmp_path, "e", [label(1)])
    assert frame(tmp_path)["value"].tolist() == [1.0]


def test_labels_that_come_one_by_one_do_not_become_a_file_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "_MANY_PARTS", 8)
    put(tmp_path, *(row("p", n) for n in range(5)))
    for number in range(30):
        log.add_labels(tmp_path, "e", [label(number, number=number % 5)])
    assert len(list((tmp_path / "labels").rglob("part-*"))) < 8
    assert frame(tmp_path)["value"].tolist() == [25.0, 26.0, 27.0, 28.0, 29.0]
