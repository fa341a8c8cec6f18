"""The prediction log and the labels on disk: Parquet parts, written whole, read by DuckDB."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from modelyard.stages import Label
from modelyard.state import os_errors, read_json, sync_folder, write_json
from modelyard_evidently.events import Row

#: Columns that every part has; a feature's column is `feature.NAME`.
FEATURE = "feature."
_SCHEMA = "schema.json"


def folder_of(state: Path, endpoint: str) -> Path:
    """Where an endpoint's predictions lie."""
    return state / "log" / quote(endpoint, safe="")


def append(state: Path, endpoint: str, rows: Sequence[Row]) -> None:
    """Write rows of one endpoint as a part; a part is there whole or not at all."""
    import pyarrow as pa

    folder = folder_of(state, endpoint)
    kinds = _kinds(folder, rows)
    columns: dict[str, Any] = {
        "prediction_id": pa.array([r.prediction_id for r in rows], pa.string()),
        "row": pa.array([r.row for r in rows], pa.int32()),
        "time": pa.array([r.time for r in rows], pa.timestamp("us", tz="UTC")),
        "model": pa.array([r.model for r in rows], pa.string()),
        "version": pa.array([r.version for r in rows], pa.string()),
        "revision": pa.array([r.revision for r in rows], pa.string()),
        "prediction": pa.array([_number(r.prediction) for r in rows], pa.float64()),
        "decision": pa.array([_text(r.prediction) for r in rows], pa.string()),
        "score": pa.array([r.score for r in rows], pa.float64()),
    }
    for name, kind in kinds.items():
        values = [r.features.get(name) for r in rows]
        if kind == "numeric":
            columns[FEATURE + name] = pa.array([_number(v) for v in values], pa.float64())
        else:
            columns[FEATURE + name] = pa.array([_text(v) for v in values], pa.string())
    _write_part(folder, pa.table(columns))


def set_kinds(state: Path, endpoint: str, kinds: Mapping[str, str]) -> None:
    """Fix the kinds (`numeric` or `categorical`) of columns before traffic comes, from the profile."""
    file = folder_of(state, endpoint) / _SCHEMA
    known: dict[str, str] = read_json(file) or {}
    added = {name: kind for name, kind in kinds.items() if name not in known}
    if added:
        write_json(file, {**known, **added})


def add_labels(state: Path, endpoint: str, labels: Iterable[Label]) -> int:
    """Write labels as a part."""
    import pyarrow as pa

    listed = list(labels)
    if not listed:
        return 0
    sequence = time.time_ns()
    table = pa.table(
        {
            "prediction_id": pa.array([label.prediction_id for label in listed], pa.string()),
            "row": pa.array([label.row for label in listed], pa.int32()),
            "value": pa.array([_number(label.value) for label in listed], pa.float64()),
            "text": pa.array([_text(label.value) for label in listed], pa.string()),
            "sequence": pa.array([sequence + n for n in range(len(listed))], pa.int64()),
        }
    )
    _write_part(state / "labels" / quote(endpoint, safe=""), table)
    return len(listed)


class Reader:
    """Questions to the log of one endpoint."""

    def __init__(self, state: Path, endpoint: str) -> None:
        self._log = folder_of(state, endpoint)
        self._labels = state / "labels" / quote(endpoint, safe="")

    def spans(self, unit: str) -> list[dict[str, Any]]:
        """Per model, version and span of time: `start`, `rows`, `labelled`; and the newest time of all."""
        return self._query(
            f"SELECT model, version, date_trunc('{unit}', time AT TIME ZONE 'UTC') AS start,"
            " count(*) AS n_rows, count(text) AS labelled, max(sequence) AS newest_label FROM joined GROUP BY ALL ORDER BY start"
        )

    def newest(self) -> Any:
        """The newest event time, or None."""
        found = self._query("SELECT max(time) AT TIME ZONE 'UTC' AS newest FROM joined")
        return found[0]["newest"] if found else None

    def frame(self, model: str, version: str, start: Any, end: Any) -> Any:
        """The rows of one version in a span as a DataFrame, labels in `value` and `text`."""
        import duckdb

        with duckdb.connect() as connection:
            if not self._prepare(connection):
                return None
            return connection.execute(
                "SELECT * FROM joined WHERE model = ? AND version = ? AND time >= ? AND time < ?",
                [model, version, start, end],
            ).df()

    def find(self, prediction_id: str) -> dict[str, Any] | None:
        """The call of that id: `time`, `model`, `version`, `revision`, `n_rows`."""
        found = self._query(
            "SELECT min(time) AT TIME ZONE 'UTC' AS time, any_value(model) AS model, "
            "any_value(version) AS version, any_value(revision) AS revision, count(DISTINCT row) AS n_rows "
            "FROM joined WHERE prediction_id = ? HAVING count(*) > 0",
            [prediction_id],
        )
        return found[0] if found else None

    def _query(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        import duckdb

        with duckdb.connect() as connection:
            if not self._prepare(connection):
                return []
            answer = connection.execute(sql, list(values))
            names = [column[0] for column in answer.description]
            return [dict(zip(names, line)) for line in answer.fetchall()]

    def _prepare(self, connection: Any) -> bool:
        """The view `joined`: every row once, with the last label that was given for it."""
        if not any(self._log.glob("part-*.parquet")):
            return False
        connection.execute("SET TimeZone = 'UTC'")
        log = _glob(self._log)
        connection.execute(
            f"CREATE VIEW log AS SELECT DISTINCT ON (prediction_id, row) * "
            f"FROM read_parquet({log}, union_by_name=true)"
        )
        if any(self._labels.glob("part-*.parquet")):
            connection.execute(
                "CREATE VIEW labels AS SELECT prediction_id, row, arg_max(value, sequence) AS value, "
                "arg_max(text, sequence) AS text, max(sequence) AS sequence "
                f"FROM read_parquet({_glob(self._labels)}) GROUP BY prediction_id, row"
            )
        else:
            connection.execute(
                "CREATE VIEW labels AS SELECT NULL::VARCHAR AS prediction_id, NULL::INTEGER AS row, "
                "NULL::DOUBLE AS value, NULL::VARCHAR AS text, NULL::BIGINT AS sequence WHERE false"
            )
        connection.execute(
            "CREATE VIEW joined AS SELECT log.*, labels.value, labels.text, labels.sequence "
            "FROM log LEFT JOIN labels USING (prediction_id, row)"
        )
        return True


def endpoints(state: Path) -> list[str]:
    """The endpoints that have a log."""
    from urllib.parse import unquote

    return sorted(unquote(folder.name) for folder in (state / "log").glob("*") if folder.is_dir())


def _glob(folder: Path) -> str:
    # DuckDB's glob characters are in neither our names (quoted) nor, we ask, the project's path.
    escaped = str(folder).replace("'", "''").replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")
    return f"'{escaped}/part-*.parquet'"


def _write_part(folder: Path, table: Any) -> None:
    import pyarrow.parquet as parquet

    with os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".part-{os.getpid()}-{time.time_ns()}.tmp"
        try:
            parquet.write_table(table, temporary, compression="zstd")
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(folder / f"part-{time.time_ns()}-{os.getpid()}.parquet")
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(folder)


def _kinds(folder: Path, rows: Sequence[Row]) -> dict[str, str]:
    """The kind of every column, decided once: a column must not change its type between parts."""
    known: dict[str, str] = read_json(folder / _SCHEMA) or {}
    new: dict[str, str] = {}
    for row in rows:
        for name, value in row.features.items():
            if name not in known and value is not None:
                numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
                new[name] = "numeric" if numeric and new.get(name) != "categorical" else "categorical"
    if new:
        known = {**known, **new}
        write_json(folder / _SCHEMA, known)
    return known


def _number(value: Any) -> float | None:
    if isinstance(value, (bool, int, float)):
        return float(value)
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
