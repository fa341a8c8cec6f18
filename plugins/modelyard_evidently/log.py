"""The prediction log and the labels on disk: Parquet parts, written whole, read by DuckDB.

    log/ENDPOINT/MODEL/VERSION/YYYY-MM/part-*.parquet    rows, by month of event time
    log/ENDPOINT/MODEL/VERSION/schema.json               the kind of every feature, fixed once
    labels/ENDPOINT/part-*.parquet                       labels in the order they came

A part appears by rename, so it is whole or not there. Rows may lie there twice (a sender that
repeats itself, a merge that was killed): readers take each `(prediction_id, row)` once.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from modelyard.errors import CorruptStateError, EnvironmentFault
from modelyard.stages import Label
from modelyard.state import locked, os_errors, read_json, sync_folder, write_json
from modelyard_evidently.events import Row
from modelyard_evidently.values import folder_name, number_of, text_of

#: A feature's column in the log is `feature.NAME`.
FEATURE = "feature."
_SCHEMA = "schema.json"
_LABELS_AT_ONCE = 200_000
#: So many parts in a month are merged into one, or the number of files would grow for ever.
_MANY_PARTS = 64
_LARGE_PART = 16 * 1024 * 1024


class Place(NamedTuple):
    """Where rows belong: one month of one version behind an endpoint."""

    endpoint: str
    model: str
    version: str
    month: str


def place_of(row: Row) -> Place:
    """Where a row belongs."""
    return Place(row.endpoint, row.model, row.version, f"{row.time:%Y-%m}")


def folder_of(state: Path, endpoint: str, *below: str) -> Path:
    """Where an endpoint's predictions lie, or those of a model, a version, a month."""
    return state.joinpath("log", *(folder_name(name) for name in (endpoint, *below)))


def append(state: Path, place: Place, rows: Sequence[Row]) -> None:
    """Write rows of one place as a part; the part is there whole or not at all.

    Raises:
        EnvironmentFault: the disk did not take it.
    """
    import pyarrow as pa

    kinds = _kinds(folder_of(state, *place[:3]), rows)
    columns: dict[str, Any] = {
        "prediction_id": pa.array([r.prediction_id for r in rows], pa.string()),
        "row": pa.array([r.row for r in rows], pa.int32()),
        "event_time": pa.array([r.time for r in rows], pa.timestamp("us", tz="UTC")),
        "received": pa.array([r.received for r in rows], pa.timestamp("us", tz="UTC")),
        "endpoint": pa.array([r.endpoint for r in rows], pa.string()),
        "revision": pa.array([r.revision for r in rows], pa.string()),
        "model": pa.array([r.model for r in rows], pa.string()),
        "version": pa.array([r.version for r in rows], pa.string()),
        "prediction": pa.array([number_of(r.prediction) for r in rows], pa.float64()),
        "decision": pa.array([text_of(r.prediction) for r in rows], pa.string()),
        "score": pa.array([r.score for r in rows], pa.float64()),
    }
    for name, kind in kinds.items():
        values = (r.features.get(name) for r in rows)
        convert, form = (number_of, pa.float64()) if kind == "numeric" else (text_of, pa.string())
        columns[FEATURE + name] = pa.array([convert(value) for value in values], form)
    folder = folder_of(state, *place[:3]) / place.month
    _write_part(folder, pa.table(columns), time.time_ns())
    _merge(folder, time.time_ns())


def set_kinds(state: Path, endpoint: str, model: str, version: str, kinds: Mapping[str, str]) -> None:
    """Fix the kinds (`numeric` or `categorical`) of columns before traffic comes, from the profile."""
    _fix_kinds(folder_of(state, endpoint, model, version), kinds)


def clean(state: Path) -> None:
    """Remove what a killed writer left half done."""
    for left in itertools.chain(
        (state / "log").rglob(".part-*.tmp"), (state / "labels").rglob(".part-*.tmp")
    ):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > 3600:  # or it belongs to somebody who is writing
                left.unlink()


def add_labels(state: Path, endpoint: str, labels: Iterable[Label]) -> int:
    """Store labels in the order in which they are given; returns how many."""
    import pyarrow as pa

    folder = state / "labels" / folder_name(endpoint)
    listed, count = iter(labels), 0
    while piece := list(itertools.islice(listed, _LABELS_AT_ONCE)):
        with locked(folder / "labels.lock", doing="storing labels"):
            # Later labels win, also after the machine's clock was set back.
            sequence = max(time.time_ns(), _last_sequence(folder) + 1)
            table = pa.table(
                {
                    "prediction_id": pa.array([label.prediction_id for label in piece], pa.string()),
                    "row": pa.array([label.row for label in piece], pa.int32()),
                    "value": pa.array([number_of(label.value) for label in piece], pa.float64()),
                    "text": pa.array([text_of(label.value) for label in piece], pa.string()),
                    "sequence": pa.array(range(sequence, sequence + len(piece)), pa.int64()),
                }
            )
            _write_part(folder, table, sequence + len(piece) - 1)
            _merge(folder, sequence + len(piece) - 1)
        count += len(piece)
    return count


class Reader:
    """Questions to the log of one endpoint. Times go in and come out in UTC."""

    def __init__(self, state: Path, endpoint: str) -> None:
        self._log = state / "log" / folder_name(endpoint)
        self._labels = state / "labels" / folder_name(endpoint)

    def spans(self, unit: str) -> list[dict[str, Any]]:
        """Per model, version and span: `start`, `newest` (event time), `n_rows`, `labelled`, `last_label`."""
        return self._query(
            f"SELECT model, version, date_trunc('{unit}', event_time AT TIME ZONE 'UTC') AS start, "
            "max(event_time) AT TIME ZONE 'UTC' AS newest, count(*) AS n_rows, count(text) AS labelled, "
            "max(sequence) AS last_label FROM joined GROUP BY ALL ORDER BY start, model, version",
            self._parts(),
        )

    def frame(self, model: str, version: str, start: datetime, end: datetime) -> Any:
        """The rows of one version in a span as a DataFrame, labels in `value` and `text`."""
        import duckdb

        folder = self._log / folder_name(model) / folder_name(version)
        months = [m for m in sorted(folder.glob("*-*")) if f"{start:%Y-%m}" <= m.name <= f"{end:%Y-%m}"]
        with duckdb.connect() as connection:
            self._prepare(connection, [part for month in months for part in _parts(month)])
            sql = "SELECT * FROM joined WHERE event_time >= ? AND event_time < ? ORDER BY prediction_id, row"
            return connection.execute(sql, [start, end]).df()

    def find(self, prediction_id: str) -> dict[str, Any] | None:
        """The call of that id: `time`, `model`, `version`, `revision`, `n_rows`."""
        months = sorted({part.parent.name for part in self._parts()}, reverse=True)
        for month in months:  # newest first: that is what people ask for
            found = self._query(
                "SELECT min(event_time) AT TIME ZONE 'UTC' AS time, any_value(model) AS model, "
                "any_value(version) AS version, any_value(revision) AS revision, "
                "count(DISTINCT row) AS n_rows FROM parts WHERE prediction_id = ? HAVING count(*) > 0",
                [part for part in self._parts() if part.parent.name == month],
                [prediction_id],
            )
            if found:
                return found[0]
        return None

    def _parts(self) -> list[Path]:
        return sorted(self._log.glob("*/*/*/part-*.parquet"))

    def _query(self, sql: str, parts: Sequence[Path], values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        import duckdb

        if not parts:
            return []
        with duckdb.connect() as connection:
            self._prepare(connection, parts)
            answer = connection.execute(sql, list(values))
            names = [column[0] for column in answer.description]
            return [dict(zip(names, line)) for line in answer.fetchall()]

    def _prepare(self, connection: Any, parts: Sequence[Path]) -> None:
        """The views `parts` and `joined`: every row once, with the last label that was given for it."""
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            f"CREATE VIEW parts AS SELECT * FROM read_parquet({_listed(parts)}, union_by_name=true, "
            # A folder of the project that is called `version=9` says nothing about rows.
            "hive_partitioning=false)"
        )
        labels = _parts(self._labels)
        given = (
            # `arg_max(value, ...)` passes over NULL: a word that came after a number would not replace it.
            "SELECT prediction_id, row, last.value AS value, last.text AS text, sequence FROM ("
            "SELECT prediction_id, row, arg_max({'value': value, 'text': text}, sequence) AS last, "
            f"max(sequence) AS sequence FROM read_parquet({_listed(labels)}, hive_partitioning=false) "
            "GROUP BY prediction_id, row)"
            if labels
            else "SELECT NULL::VARCHAR AS prediction_id, NULL::INTEGER AS row, NULL::DOUBLE AS value, "
            "NULL::VARCHAR AS text, NULL::BIGINT AS sequence WHERE false"
        )
        connection.execute(f"CREATE VIEW labels AS {given}")
        connection.execute(
            "CREATE VIEW joined AS SELECT once.*, labels.value, labels.text, labels.sequence "
            "FROM (SELECT DISTINCT ON (prediction_id, row) * FROM parts) AS once "
            "LEFT JOIN labels USING (prediction_id, row)"
        )


def read_again(question: Any, tries: int = 5) -> Any:
    """What the question gives; asked again if a part was merged away while it was being read.

    Raises:
        CorruptStateError: `state-corrupt`: a part is damaged; it is left as it is.
    """
    import duckdb

    for left in reversed(range(tries)):
        try:
            return question()
        except (duckdb.IOException, FileNotFoundError):
            if not left:
                raise
            time.sleep(0.1)
        except duckdb.InvalidInputException as fault:
            raise _damaged(fault) from fault
    raise AssertionError("unreachable")


def _damaged(fault: Exception) -> Exception:
    """A sentence about the part that DuckDB could not read; other faults as they are."""
    named = re.search(r"'([^']+\.parquet)'", str(fault))
    if named is None:
        return fault
    file = named.group(1)
    return CorruptStateError(
        "state-corrupt",
        f"{file} is damaged (it is no Parquet file)",
        f"its rows are lost; look at it, then move it away: mv '{file}' '{file}.bad'",
    )


def endpoints(state: Path) -> list[str]:
    """The endpoints that have a log."""
    from modelyard_evidently.values import name_of

    return sorted(name_of(folder.name) for folder in (state / "log").glob("*") if folder.is_dir())


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def _listed(parts: Sequence[Path]) -> str:
    # DuckDB reads *, ? and [ in a name as a pattern; people have such folders.
    names = []
    for part in parts:
        name = str(part).replace("'", "''").replace("[", "\0").replace("*", "[*]").replace("?", "[?]")
        names.append("'" + name.replace("\0", "[[]") + "'")
    return f"[{', '.join(names)}]"


def _last_sequence(folder: Path) -> int:
    names = [part.name for part in _parts(folder)]
    return int(names[-1].split("-")[1]) if names else 0


def _write_part(folder: Path, table: Any, sequence: int) -> Path:
    import pyarrow.parquet as parquet

    with os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".part-{os.getpid()}-{time.time_ns()}.tmp"
        part = folder / f"part-{sequence:020d}-{os.getpid()}.parquet"
        try:
            parquet.write_table(table, temporary, compression="zstd")
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(part)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(folder)
        return part


def _merge(folder: Path, sequence: int) -> None:
    """Make one part of many. Killed between writing and removing, rows lie there twice, which is harmless.

    Where there is no room for it all rows are stored as they are: an error would have the writer store
    them again.
    """
    with contextlib.suppress(EnvironmentFault, OSError):
        small = [part for part in _parts(folder) if part.stat().st_size < _LARGE_PART]
        if len(small) < _MANY_PARTS:
            return
        import pyarrow as pa
        import pyarrow.parquet as parquet

        try:
            tables = [parquet.ParquetFile(part).read() for part in small]
        except pa.ArrowInvalid:
            return  # a damaged part is named where it is read; the others stay as they are
        _write_part(folder, pa.concat_tables(tables, promote_options="default"), sequence)
        for part in small:
            part.unlink()
        sync_folder(folder)


def _kinds(folder: Path, rows: Sequence[Row]) -> dict[str, str]:
    """The kind of every column, decided once: a column must not change its type between parts."""
    known: dict[str, str] = read_json(folder / _SCHEMA) or {}
    new: dict[str, str] = {}
    for name, value in _values(rows):
        if name not in known and value is not None:
            numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
            new[name] = "numeric" if numeric and new.get(name) != "categorical" else "categorical"
    return _fix_kinds(folder, new) if new else known


def _fix_kinds(folder: Path, kinds: Mapping[str, str]) -> dict[str, str]:
    file = folder / _SCHEMA
    with locked(folder / "schema.lock", doing="fixing the kinds of columns"):
        known: dict[str, str] = read_json(file) or {}
        if added := {name: kind for name, kind in kinds.items() if name not in known}:
            write_json(file, known := {**known, **added})
    return known


def _values(rows: Sequence[Row]) -> Iterator[tuple[str, Any]]:
    for row in rows:
        yield from row.features.items()
