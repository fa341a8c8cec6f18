"""Rows out of files, in batches, with the model's types; what is wrong with a file is one sentence."""

from __future__ import annotations

import csv
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from modelyard import asking, tables
from modelyard.client import Answer
from modelyard.errors import ModelyardError, UsageError

INPUTS = {"temp": "FP64", "code": "BYTES", "stops": "INT64", "late": "BOOL"}
GOOD = 'id,temp,code,stops,late\n1,20.5,007,2,true\n2,,12,,\n\n3,-4,"a,b",1.0,0\n'


def table(tmp_path: Path, text: str, name: str = "rows.csv") -> Path:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def rows_of(file: Path, inputs: Any = INPUTS, size: int = 100, **more: Any) -> list[Any]:
    return [row for part in tables.batches(file, inputs, size, **more) for row in part.rows]


def test_values_of_csv_have_the_types_of_the_signature(tmp_path: Path) -> None:
    assert rows_of(table(tmp_path, GOOD)) == [
        {"temp": 20.5, "code": "007", "stops": 2, "late": True},  # digits that the model calls text stay text
        {"temp": None, "code": "12", "stops": None, "late": None},
        {"temp": -4.0, "code": "a,b", "stops": 1, "late": False},
    ]


def test_without_a_signature_numbers_are_numbers(tmp_path: Path) -> None:
    assert rows_of(table(tmp_path, "a,b\n1,x\n"), {}) == [{"a": 1.0, "b": "x"}]


def test_excels_csv_and_another_delimiter(tmp_path: Path) -> None:
    file = tmp_path / "excel.csv"
    file.write_text("temp;code\n1;a\n", encoding="utf-8-sig")
    assert rows_of(file, {"temp": "FP64", "code": "BYTES"}, delimiter=";") == [{"temp": 1.0, "code": "a"}]


def test_batches_are_bounded_and_know_their_place(tmp_path: Path) -> None:
    file = table(tmp_path, "temp\n" + "1\n" * 25)
    found = list(tables.batches(file, {"temp": "FP64", "gone": "FP64"}, 10))
    assert [(part.first, len(part.rows)) for part in found] == [(1, 10), (11, 10), (21, 5)]
    assert found[0].lacking == ("gone",)


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("", "rows-missing", "rows.csv is empty"),
        ("temp,code,stops,late\n", "rows-missing", "has a header and no rows"),
        ("\n1,2\n", "rows-missing", "has no header in its first line"),
        ("temp;code;stops;late\n1;a;2;1\n", "rows-invalid", "stand between ';', not ','"),
        ("temp\tcode\n1\ta\n", "rows-invalid", r"stand between '\\t', not ','"),
        ("temp,code,stops\n1,a\n", "rows-invalid", "line 2 has 2 values, its header has 3"),
        ("temp,temp\n1,2\n", "rows-invalid", "the column 'temp' twice"),
        ("temp\n1\nwarm\n", "rows-invalid", "line 3, column 'temp': 'warm' is not a number"),
        ("stops\ntwo\n", "rows-invalid", "line 2, column 'stops': 'two' is not a number"),
        ("late\nmaybe\n", "rows-invalid", "line 2, column 'late': 'maybe' is not true or false"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_csv_file_is_one_sentence(
    tmp_path: Path, text: str, code: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        rows_of(table(tmp_path, text))
    assert refused.value.code == code
    assert refused.value.hint


def test_csv_that_is_no_utf_8(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("code\nsp\xe4t\n".encode("latin-1"))
    with pytest.raises(UsageError, match="is not UTF-8 text"):
        rows_of(tmp_path / "latin.csv")


def test_parquet_is_read_with_the_model_s_columns_alone(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"temp": [1.0, None, 3.0], "code": ["a", "b", None], "id": [1, 2, 3]}
    parquet.write_table(arrow.table(columns), tmp_path / "rows.parquet")
    found = list(tables.batches(tmp_path / "rows.parquet", INPUTS, 2))
    assert [part.first for part in found] == [1, 3]
    assert found[0].rows == [{"temp": 1.0, "code": "a"}, {"temp": None, "code": "b"}]
    assert found[0].lacking == ("stops", "late")
    with pytest.raises(UsageError, match="is not a Parquet file"):
        rows_of(table(tmp_path, GOOD, "wrong.parquet"))


def test_tables_and_lists_are_cut_into_batches() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": range(5)})
    assert [len(part.rows) for part in tables.batches(frame, {}, 2)] == [2, 2, 1]
    assert [len(part.rows) for part in tables.batches(frame.to_numpy(), {}, 3)] == [3, 2]
    assert [part.rows for part in tables.batches([[1], [2], [3]], {}, 2)] == [[[1], [2]], [[3]]]
    assert [part.rows for part in tables.batches({"a": 1}, {}, 2)] == [{"a": 1}]  # `predict` says why not


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelyardError) as refused:
        rows_of(tmp_path / "gone.csv")
    assert refused.value.code == "file-not-found"


# -- what was answered -----------------------------------------------------------------------


def answer(name: str, *predictions: Any, version: str = "1") -> Answer:
    return Answer(id=name, predictions=predictions, model="flights", version=version, revision="r")


def test_answers_are_written_with_ids_and_rows(tmp_path: Path) -> None:
    for name in ("out.csv", "out.json"):
        with asking.written(tmp_path / name) as write:
            write(answer("a", 0.25, 0.5))
            write(answer("b", 0.75, version="2"))
    with (tmp_path / "out.csv").open() as opened:
        found = list(csv.DictReader(opened))
    assert [(r["prediction_id"], r["row"], r["prediction"], r["version"]) for r in found] == [
        ("a", "0", "0.25", "1"),
        ("a", "1", "0.5", "1"),
        ("b", "0", "0.75", "2"),
    ]
    assert json.loads((tmp_path / "out.json").read_text())[2] == {
        "prediction_id": "b",
        "row": 0,
        "prediction": 0.75,
        "version": "2",
    }


def test_probabilities_are_columns(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("out.csv", "out.parquet"):
        with asking.written(tmp_path / name) as write:
            write(answer("a", [0.25, 0.75]))
            write(answer("b", [1, 0]))  # whole numbers, in a column of others
    assert (tmp_path / "out.csv").read_text().startswith("prediction_id,row,prediction_0,prediction_1,")
    assert parquet.read_table(tmp_path / "out.parquet").column("prediction_1").to_pylist() == [0.75, 0.0]


def test_no_answers_are_a_file_without_lines(tmp_path: Path) -> None:
    with asking.written(tmp_path / "out.json"):
        pass
    assert json.loads((tmp_path / "out.json").read_text()) == []


def test_what_fails_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("old")

    def interrupted() -> None:
        with asking.written(tmp_path / "out.csv") as write:
            write(answer("a", 1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("out.csv", "old")]


@pytest.mark.parametrize("name", ["out.xlsx", "out", "gone/out.csv"])
def test_where_nothing_can_be_written_nobody_is_asked(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as refused, asking.written(tmp_path / name):
        pytest.fail("it must be said before the endpoint is asked")
    assert refused.value.code == "output-unknown"


def test_times_are_sent_as_text() -> None:
    from modelyard.client import as_instances

    assert as_instances([{"t": datetime(2026, 3, 1)}]) == [{"t": "2026-03-01T00:00:00"}]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('{"instances": [1]}', [1]),
        ("[1]", [1]),
        ('{"instances": [1], "source": "app"}', {"instances": [1], "source": "app"}),
        ('{"inputs": []}', {"inputs": []}),
    ],
)
def test_json_is_rows_or_a_whole_request(text: str, rows: object) -> None:
    assert tables.parsed(text) == rows
