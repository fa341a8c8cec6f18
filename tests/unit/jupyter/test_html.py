"""Records in notebooks: tables in plain HTML, escaped, with words beside the marks."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser

import pytest

from modelyard import html
from modelyard import records as r

WHEN = datetime(2013, 7, 4, 12, 30, tzinfo=timezone.utc)
EVIL = "<script>alert('x')</script>\" onload=\"y"
REF = r.DataRef(name=EVIL, scheme="dvc", path=EVIL, version=EVIL, digest="0" * 64, size=3000, files=1)
RUN = r.Run(
    id="3f2a91c0ffee",
    name=EVIL,
    status="failed",
    started=WHEN,
    ended=WHEN + timedelta(seconds=90),
    user=EVIL,
    params={EVIL: EVIL},
    metrics={"auc": 0.71234, "loss": float("nan")},
    data=(r.DataUse(role=EVIL, ref=REF),),
    code=r.Code(entry_point=EVIL, cell="ab", execution_count=4),
)
VERSION = r.ModelVersion(name=EVIL, version="3", uri=EVIL, created=WHEN, aliases=(EVIL,), signature=True)
MOVE = r.Promotion(
    id="m#1",
    model="m",
    alias=EVIL,
    action="promote",
    from_version="1",
    to_version="2",
    time=WHEN,
    actor=r.Actor(user=EVIL),
    reason=EVIL,
    status="completed",
    gates=(r.GateResult(gate="auc", passed=False, message=EVIL),),
)
REVISION = r.Revision(
    name="e-1",
    number=1,
    model=EVIL,
    version="2",
    storage_uri="models:/m/2",
    traffic=80,
    ready=False,
    created=WHEN,
    message=EVIL,
)
ENDPOINT = r.Endpoint(
    name=EVIL, url=None, ready=False, storage_uri="models:/m@production", revisions=(REVISION,), created=WHEN
)
SCORE = r.ColumnScore(column=EVIL, method="psi", score=0.4, threshold=0.2, drifted=True)
WINDOW = r.Window(
    endpoint=EVIL,
    model="m",
    version="2",
    start=WHEN,
    end=WHEN,
    rows=100,
    columns=(SCORE,),
    quality={"auc": 0.6},
    quality_reference={"auc": 0.7},
)
EVERY = [RUN, VERSION, MOVE, ENDPOINT, WINDOW, REF, r.Check(name="disk", status="warning", message=EVIL)]


class Elements(HTMLParser):
    """Names of the elements, and whether each that was opened is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.open.append(tag)
        assert {name for name, _ in attrs} <= {"scope", "style"}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("record", EVERY, ids=lambda record: type(record).__name__)
def test_whatever_a_record_holds_nothing_of_it_becomes_an_element(record: r.Record) -> None:
    for page in (
        record._repr_html_(),
        html.records([record] * 60, title=EVIL),
        html.answer({EVIL: [record]}),
    ):
        assert page is not None
        found = Elements(page)
        assert not found.open
        assert found.seen <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}


def test_a_run_is_a_table_whose_rows_have_headers() -> None:
    page = RUN._repr_html_()
    assert 'scope="row"' in page
    for said in ("3f2a91c0", "✗ failed", "90.0 s", "auc 0.7123, loss not a number", "cell [4]"):
        assert said in page


def test_states_and_drift_are_words_with_a_mark() -> None:
    assert "✗ not ready" in ENDPOINT._repr_html_()
    assert "80 %" in ENDPOINT._repr_html_()
    assert "▲ 1 of 1" in WINDOW._repr_html_()
    assert "auc 0.6 (reference 0.7)" in WINDOW._repr_html_()
    assert "✗ refused auc" in MOVE._repr_html_()


def test_long_lists_say_how_much_they_leave_out_and_empty_columns_are_not_there() -> None:
    page = html.records([VERSION] * 60)
    assert "50 of 60 shown" in page
    assert page.count("<tr>") == 51
    assert ">sha256<" not in page


def test_lists_of_something_else_are_nobodys_tables() -> None:
    assert html.answer([]) is None
    assert html.answer([1, 2]) is None
    assert html.answer([RUN, VERSION]) is None
    assert html.answer({"root": "x"}) is None


def test_records_are_imported_without_what_shows_them() -> None:
    code = "import sys, modelyard.records; print({'html', 'modelyard.html', 'IPython'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"
