"""The conditions of graphs: what GJSON finds is found, and what is not understood is refused."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard_kserve.local.graph.paths import compares_nothing, exists, parsed

ASKED: dict[str, Any] = {
    "decision_picker": "ERROR",
    "instances": [
        {"kind": "cat", "age": 3, "seen": True, "tags": ["a", "b"]},
        {"kind": "dog", "age": 7.5, "seen": False, "nothing": None},
    ],
    "predictions": [0.2, 0.8, "dog"],
    "with.dot": {"x": [1]},
    "7": "seven",
    "empty": [],
    "null": None,
}


@pytest.mark.parametrize(
    "path",
    [
        "decision_picker",
        "[@this].#(decision_picker==ERROR)",
        '[@this].#(decision_picker=="ERROR")',
        "@this.instances.1.kind",
        "instances.0",
        "instances.#",
        "instances.#.kind",
        "instances.#.lost",  # a list without anything in it is something
        'instances.#(kind=="cat")',
        'instances.#(kind="cat").age',
        'instances.#(kind=="bird")#',
        "instances.#(age>3)",
        "instances.#(age>=7.5)#.kind",
        'instances.#(age=="3")',  # numbers are compared as numbers, whatever is quoted
        "instances.#(seen==true)",
        "instances.#(seen!=true)",
        'instances.#(kind%"c?t")',
        'instances.#(kind!%"c*").age',
        "instances.#(nothing)",
        'instances.#(tags.#(=="b")).kind',
        "[@this].#(predictions.0<0.5)",
        "[@this].#(predictions.#>2)",
        'predictions.#(=="dog")',
        r"with\.dot.x.0",
        "with?dot.*",
        "deci*",
        "7",
        "null",
        "empty.#",
    ],
)
def test_what_is_there_is_found(path: str) -> None:
    assert exists(ASKED, path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "lost",
        "instances.2",
        "instances.kind",
        "instances.01x",
        "decision_picker.0",
        "decision_picker.#",
        'instances.#(kind=="bird")',
        'instances.#(kind=="cat").lost',
        "instances.#(age>8)",
        "instances.#(age>three).kind.lost",
        "instances.#(nothing==null)",
        "instances.#(seen>true)",
        "instances.#(kind==true)",
        "[@this].#(decision_picker==SUCCESS)",
        "predictions.0==0.2",
        "with.dot.x",
        r"deci\*",
        "predictions.²",
    ],
)
def test_what_is_not_there_is_not(path: str) -> None:
    assert not exists(ASKED, path)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("instances|0", "pipes"),
        ("instances.@reverse", "the modifier '@reverse'"),
        ("[instances,predictions]", "no multipaths"),
        ('{"a":instances}', "no multipaths"),
        ("!true", "no multipaths"),
        ("instances.#(age>3", "is not closed"),
        ('instances.#(kind=="cat)', "is not closed"),
        ("instances.##", "# or #(...)"),
        ("instances.#(age>3)x", "is no query"),
        ("instances.#(seen==~true)", "'~true' is not understood"),
        ("a\\", "is not closed"),
    ],
)
def test_what_is_not_understood_is_refused(path: str, said: str) -> None:
    with pytest.raises(ValueError) as refused:
        parsed(path)
    assert said in str(refused.value)


def test_a_comparison_outside_of_a_query_is_noticed() -> None:
    assert compares_nothing("predictions.0==1")
    assert not compares_nothing('[@this].#(predictions.0=="a.b==c")')


@settings(max_examples=300, deadline=None)
@given(path=st.text(alphabet='ab.#()[]{}@=<>!%"\\*?|0~', max_size=14))
def test_any_text_is_followed_or_refused(path: str) -> None:
    with contextlib.suppress(ValueError):
        assert exists(ASKED, path) in (True, False)
