"""Ask an endpoint about any number of rows, and write down what it answered."""

from __future__ import annotations

import contextlib
import csv
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Literal

from modelyard import client
from modelyard.client import Answer
from modelyard.errors import UsageError
from modelyard.records import Endpoint
from modelyard.state import os_errors
from modelyard.tables import arrow, batches, is_table

#: Rows of one request.
BATCH = 1000
OUTPUTS = (".csv", ".json", ".parquet")
_Row = dict[str, Any]


def ask(
    endpoint: Endpoint,
    rows: Any,
    *,
    protocol: Literal["v1", "v2"] = "v1",
    params: Mapping[str, Any] | None = None,
    batch: int = BATCH,
    delimiter: str = ",",
) -> Iterator[Answer]:
    """The answers to rows, one per batch, in their order; see `Endpoints.invoke`."""
    table, inputs = is_table(rows), {}
    if table:
        inputs = client.inputs_of(endpoint.address, endpoint.name, headers=endpoint.authorization)
    for part in batches(rows, inputs, batch, delimiter=delimiter):
        given = _matrix(part.rows) if table and not inputs else part.rows
        try:
            answer = endpoint.predict(given, protocol=protocol, params=params)
        except UsageError as fault:
            if fault.code == "prediction-refused" and part.lacking:
                raise UsageError(
                    "prediction-refused",
                    f"{rows} lacks the column '{part.lacking[0]}', which {endpoint.name} takes",
                    f"it takes: {', '.join(inputs)}",
                ) from None
            if fault.code == "prediction-refused" and part.first > 1:
                said = f"from row {part.first} on: {fault.message}"
                raise UsageError(fault.code, said, fault.hint) from None
            raise
        yield replace(answer, first=part.first)


def _matrix(rows: Sequence[Any]) -> list[Any]:
    """Rows of a file for a model that takes values without names."""
    return [list(row.values()) if isinstance(row, Mapping) and _numeric(row) else row for row in rows]


def _numeric(row: Mapping[str, Any]) -> bool:
    return all(value is None or isinstance(value, (int, float)) for value in row.values())


@contextlib.contextmanager
def written(file: Path) -> Iterator[Callable[[Answer], None]]:
    """Gives what writes answers to a CSV, JSON or Parquet file: one line per row, with the prediction's id
    and the row's place in its request, by which labels find it. The file is there when all are.

    Raises:
        UsageError: `output-unknown`.
        EnvironmentFault: the file can't be written.
    """
    kind = file.suffix.lower()
    if kind not in OUTPUTS:
        raise UsageError(
            "output-unknown", f"{file} ends in none of {', '.join(OUTPUTS)}", "-o predictions.csv"
        )
    if not file.absolute().parent.is_dir():
        raise UsageError("output-unknown", f"there is no folder {file.parent}", f"mkdir '{file.parent}'")
    if kind == ".parquet":
        arrow()
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(6)}.tmp")
    try:
        with os_errors(file), {".csv": _csv, ".json": _json, ".parquet": _parquet}[kind](temporary) as write:
            yield lambda answer: write(_lines(answer))
        with os_errors(file):
            temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _lines(answer: Answer) -> list[_Row]:
    return [
        {"prediction_id": answer.id, "row": row, **_values(value), "version": answer.version}
        for row, value in enumerate(answer.predictions)
    ]


def _values(value: Any) -> _Row:
    """A prediction as columns: one, or one per class.

    Example:
        >>> _values(0.5), _values([0.1, 0.9])
        ({'prediction': 0.5}, {'prediction_0': 0.1, 'prediction_1': 0.9})
    """
    if isinstance(value, Mapping):
        return {f"prediction_{key}": item for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return {f"prediction_{number}": item for number, item in enumerate(value)}
    return {"prediction": value}


@contextlib.contextmanager
def _csv(file: Path) -> Iterator[Callable[[list[_Row]], None]]:
    with file.open("x", encoding="utf-8", newline="") as opened:
        yield _table(opened)


def _table(opened: IO[str]) -> Callable[[list[_Row]], None]:
    header: list[str] = []
    writer = csv.writer(opened, lineterminator="\n")

    def write(rows: list[_Row]) -> None:
        if not header and rows:
            header.extend(rows[0])
            writer.writerow(header)
        writer.writerows([[row.get(name) for name in header] for row in rows])

    return write


@contextlib.contextmanager
def _json(file: Path) -> Iterator[Callable[[list[_Row]], None]]:
    with file.open("x", encoding="utf-8") as opened:
        before = "[\n"

        def write(rows: list[_Row]) -> None:
            nonlocal before
            for row in rows:
                opened.write(before + json.dumps(row, ensure_ascii=False))
                before = ",\n"

        yield write
        opened.write("\n]\n" if before == ",\n" else "[]\n")


@contextlib.contextmanager
def _parquet(file: Path) -> Iterator[Callable[[list[_Row]], None]]:
    parquet, pyarrow = arrow()
    opened: list[Any] = []

    def write(rows: list[_Row]) -> None:
        table = pyarrow.Table.from_pylist(rows)
        if not opened:
            opened.append(parquet.ParquetWriter(file, table.schema))
        opened[0].write_table(table.cast(opened[0].schema))

    try:
        yield write
    finally:
        for writer in opened:
            writer.close()
