"""Run every `bench_*.py` beside this file; write `build/bench.json` and print the table.

A module has `measure() -> list[dict]` with the keys id, what, ours, peer, ratio, goal, command. `ratio`
and `goal` are None for what is only reported. Names given as arguments choose modules
(`make bench ARGS=cli`).
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).parent
KEYS = {"id", "what", "ours", "peer", "ratio", "goal", "command"}


def main(chosen: list[str]) -> int:
    from modelyard.processes import child_env
    from modelyard.state import write_json

    os.environ.update(child_env())
    out = HERE.parents[1] / "build" / "bench.json"
    rows: list[dict[str, Any]] = []
    for file in sorted(HERE.glob("bench_*.py")):
        if chosen and file.stem.removeprefix("bench_") not in chosen:
            continue
        started = time.monotonic()
        print(f"{file.name} ...", end=" ", file=sys.stderr, flush=True)
        measured = _module(file).measure()
        print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
        for row in measured:
            if not row.keys() >= KEYS:
                raise SystemExit(f"{file.name}: a row lacks {sorted(KEYS - row.keys())}")
        rows += measured
        write_json(out, sorted(rows, key=_order))
    _print(sorted(rows, key=_order))
    print(f"\nwritten to {out.relative_to(HERE.parents[1])}")
    return 1 if any(_missed(row) for row in rows) else 0


def _module(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _order(row: dict[str, Any]) -> tuple[int, str]:
    digits = "".join(c for c in row["id"] if c.isdigit())
    return int(digits or 0), row["id"]


def _missed(row: dict[str, Any]) -> bool:
    return row["goal"] is not None and row["ratio"] > row["goal"]


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("id", "what", "ours", "peer", "ratio", "goal", "")
    for row in rows:
        judged = "" if row["goal"] is None else "MISSED" if _missed(row) else "ok"
        cells = (_shown(row[key]) for key in ("ours", "peer", "ratio"))
        goal = "reported" if row["goal"] is None else f"<= {row['goal']:g}"
        table.add_row(row["id"], row["what"], *cells, goal, judged)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _shown(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)


if __name__ == "__main__":
    # Benchmarks write to a home of their own, like the tests.
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as home:
        os.environ["HOME"] = home
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or everything would be compiled at each start
        Path(home, ".gitconfig").write_text("[user]\n\tname = Bench\n\temail = bench@example.org\n")
        sys.exit(main(sys.argv[1:]))
