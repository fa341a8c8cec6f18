"""Rows out of CSV, Parquet and JSON files, in batches, with the types that a model's signature states."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from modelyard.errors import MissingRequirementError, NotFoundError, UsageError
from modelyard.state import os_errors

#: Name of a column -> its datatype in V2's words (`FP64`, `INT64`, `BOOL`, `BYTES`).
Inputs = Mapping[str, str]
#: Endings of files whose rows have named columns.
_CSV, _PARQUET = (".csv",), (".parquet", ".pq")
_REPAIR = "repair the file, then ask again"
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


@dataclass(frozen=True)
class Batch:
    """Some rows of a file.

    Attributes:
        first: the number of its first row, counted from 1.
        rows: the rows, as `client.predict` takes them.
        lacking: columns of the model that the file does not have.
    """

    first: int
    rows: Any
    lacking: tuple[str, ...] = ()


def batches(rows: Any, inputs: Inputs, size: int, *, delimiter: str = ",") -> Iterator[Batch]:
    """Rows in batches.

    Args:
        rows: a DataFrame, a NumPy array, a list, or the path of a CSV, Parquet or JSON file (`-`: JSON on
            standard input).
        inputs: what the model takes; empty: one matrix.
        size: rows of a batch.
        delimiter: between the values of a CSV file.

    Raises:
        NotFoundError: `file-not-found`.
        UsageError: `rows-invalid`, `rows-missing`.
        MissingRequirementError: `extra-missing`: Parquet needs pyarrow.
    """
    if not isinstance(rows, (str, Path)):
        yield from _sliced(rows, size)
        return
    file = Path(rows)
    if file == Path("-"):
        yield from _sliced(parsed(sys.stdin.buffer.read()), size)
        return
    if not file.is_file():
        raise NotFoundError("file-not-found", f"there is no file {file}", "--file FILE")
    ending = file.suffix.lower()
    with os_errors(file):
        if file.stat().st_size == 0:
            raise UsageError("rows-missing", f"{file} is empty", "give a file with rows")
        if ending in _CSV:
            yield from _of_csv(file, inputs, size, delimiter)
        elif ending in _PARQUET:
            yield from _of_parquet(file, inputs, size)
        else:
            yield from _sliced(parsed(file.read_bytes()), size)


def is_table(rows: Any) -> bool:
    """Whether it is a file whose columns have names; JSON says itself what its values are.

    Example:
        >>> is_table("rows.csv"), is_table("rows.json"), is_table([[1]])
        (True, False, False)
    """
    return isinstance(rows, (str, Path)) and Path(rows).suffix.lower() in (*_CSV, *_PARQUET)


def parsed(text: str | bytes) -> list[Any] | dict[str, Any]:
    """Rows out of JSON: a list, or V1's `{"instances": [...]}`. With more than that it is a whole request,
    and comes as it is, as one of V2's does.

    Raises:
        UsageError: `rows-invalid`.
    """
    rows = _json(text, "rows", "give a list of objects or of lists")
    if isinstance(rows, dict):
        if "inputs" in rows or ("instances" in rows and len(rows) > 1):
            return rows
        rows = rows.get("instances", rows)
    if not isinstance(rows, list):
        raise UsageError("rows-invalid", "the rows are not a list", "give a list of objects or of lists")
    return rows


def params_in(text: str) -> dict[str, Any]:
    """What is said beside the rows, out of JSON.

    Raises:
        UsageError: `params-invalid`.
    """
    params = _json(text, "params", """give an object: '{"quantile": 0.9}'""")
    if not isinstance(params, dict):
        said = "the params are not an object"
        raise UsageError("params-invalid", said, """give names and values: '{"quantile": 0.9}'""")
    return params


def _json(text: str | bytes, what: str, hint: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as fault:
        raise UsageError(f"{what}-invalid", f"the {what} are not JSON: {fault}", hint) from None


def _sliced(rows: Any, size: int) -> Iterator[Batch]:
    """Of something that knows its length; what does not is one batch, and whoever takes it says so."""
    if not hasattr(rows, "__len__") or isinstance(rows, Mapping):
        yield Batch(1, rows)
        return
    part = rows.iloc if hasattr(rows, "iloc") else rows
    for start in range(0, max(len(rows), 1), size):  # no rows are a batch as well: the endpoint answers
        yield Batch(start + 1, part[start : start + size])


def _of_csv(file: Path, inputs: Inputs, size: int, delimiter: str) -> Iterator[Batch]:
    with file.open(encoding="utf-8-sig", newline="") as opened:
        reader = csv.reader(opened, delimiter=delimiter)
        try:
            header = next(reader, [])
            _require_header(file, header, inputs, delimiter)
            reads = _readers(header, inputs)
            lines = (_typed(file, reader.line_num, line, header, reads) for line in reader if line)
            yield from _gathered(file, lines, size, _lacking(header, inputs))
        except UnicodeDecodeError as fault:
            raise UsageError(
                "rows-invalid", f"{file} is not UTF-8 text: {fault}", "save it as UTF-8"
            ) from None
        except csv.Error as fault:
            said = f"{file}, line {reader.line_num}: {fault}"
            raise UsageError("rows-invalid", said, _REPAIR) from None


def _require_header(file: Path, header: Sequence[str], inputs: Inputs, delimiter: str) -> None:
    if not any(header):
        said = f"{file} has no header in its first line"
        raise UsageError("rows-missing", said, "name the columns there")
    twice = [name for name in header if header.count(name) > 1 and name in inputs]
    if twice:
        raise UsageError("rows-invalid", f"{file} has the column '{twice[0]}' twice", "name them apart")
    if inputs and not set(inputs) & set(header):
        for other in (",", ";", "\t", "|"):
            if other != delimiter and any(other in name for name in header):
                raise UsageError(
                    "rows-invalid",
                    f"the values in {file} stand between {other!r}, not {delimiter!r}",
                    f"--delimiter {other!r}" if other != "\t" else "--delimiter $'\\t'",
                )


def _readers(header: Sequence[str], inputs: Inputs) -> dict[int, Callable[[str], Any]]:
    """What makes a value out of each column's text; columns that the model does not take are left out."""
    if not inputs:
        return dict.fromkeys(range(len(header)), _number)
    return {place: _reader(inputs[name]) for place, name in enumerate(header) if name in inputs}


def _reader(datatype: str) -> Callable[[str], Any]:
    if datatype == "BOOL":
        return lambda text: _BOOLEANS[text.strip().lower()]
    if datatype == "BYTES":
        return str
    return _whole if "INT" in datatype else float


def _whole(text: str) -> int | float:
    """A number with a fraction stays one: the endpoint has a sentence for it."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
        return int(number) if number.is_integer() else number


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _typed(
    file: Path,
    number: int,
    line: Sequence[str],
    header: Sequence[str],
    reads: Mapping[int, Callable[[str], Any]],
) -> dict[str, Any]:
    if len(line) != len(header):
        said = f"{file}, line {number} has {len(line)} values, its header has {len(header)}"
        raise UsageError("rows-invalid", said, _REPAIR)
    row = {}
    for place, read in reads.items():
        try:
            row[header[place]] = read(line[place]) if line[place] else None
        except (ValueError, KeyError):
            wanted = "a number" if read is float or read is _whole else "true or false"
            said = f"{file}, line {number}, column '{header[place]}': {line[place]!r:.60} is not {wanted}"
            raise UsageError("rows-invalid", said, _REPAIR) from None
    return row


def _of_parquet(file: Path, inputs: Inputs, size: int) -> Iterator[Batch]:
    parquet, pyarrow = arrow()
    try:
        with parquet.ParquetFile(file) as opened:
            header = opened.schema_arrow.names
            wanted = [name for name in header if name in inputs] or header
            rows = (
                row
                for part in opened.iter_batches(batch_size=size, columns=wanted)
                for row in part.to_pylist()
            )
            yield from _gathered(file, rows, size, _lacking(header, inputs))
    except pyarrow.ArrowException as fault:
        said = " ".join(str(fault).split())
        raise UsageError("rows-invalid", f"{file} is not a Parquet file: {said}", _REPAIR) from None


def arrow() -> tuple[Any, Any]:
    """What reads and writes Parquet.

    Raises:
        MissingRequirementError: `extra-missing`.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingRequirementError(
            "extra-missing", "Parquet files need pyarrow", "pip install pyarrow"
        ) from None
    return pyarrow.parquet, pyarrow


def _gathered(
    file: Path, rows: Iterable[dict[str, Any]], size: int, lacking: tuple[str, ...]
) -> Iterator[Batch]:
    remaining, first = iter(rows), 1
    while part := list(islice(remaining, size)):
        yield Batch(first, part, lacking)
        first += len(part)
    if first == 1:
        raise UsageError("rows-missing", f"{file} has a header and no rows", "give a file with rows")


def _lacking(header: Sequence[str], inputs: Inputs) -> tuple[str, ...]:
    return tuple(name for name in inputs if name not in header)
