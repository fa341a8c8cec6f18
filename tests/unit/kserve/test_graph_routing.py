"""A request on its way through a graph, among steps that answer, refuse and fail: as KServe routes it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from modelyard_kserve.local.graph.routing import Failed, Routing
from modelyard_kserve.local.graph.spec import Step, graph_of

#: What services answer: a status and a value (bytes as they are), or an error.
Answers = dict[str, Any]


class Services:
    """Answers for services, and what they were asked, in that order."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.asked: list[tuple[str, Any]] = []

    async def __call__(self, node: str, place: int, step: Step, body: bytes) -> tuple[int, bytes]:
        self.asked.append((step.service, json.loads(body) if body[:1] in (b"{", b"[", b'"') else body))
        answer = self._answers[step.service]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = await answer()
        status, value = answer
        return status, value if isinstance(value, bytes) else json.dumps(value).encode()


def routed(
    nodes: dict[str, Any], answers: Answers, body: Any = None, point: int | None = None
) -> tuple[int, Any, list[tuple[str, Any]]]:
    """Status and value of the answer, and who was asked what."""
    spec = {"nodes": {name: {"routerType": kind, "steps": steps} for name, (kind, *steps) in nodes.items()}}
    services = Services(answers)
    sent = (
        body if isinstance(body, bytes) else json.dumps({"instances": [1]} if body is None else body).encode()
    )
    status, answer = asyncio.run(Routing(graph_of(spec), services, point).answer(sent))
    try:
        return status, json.loads(answer), services.asked
    except ValueError:
        return status, answer, services.asked


def to(service: str, **more: Any) -> dict[str, Any]:
    return {"serviceName": service, **more}


FINE: Answers = {
    "a": (200, {"predictions": ["dog"]}),
    "b": (200, {"predictions": ["beagle"]}),
    "wrong": (404, {"error": "no"}),
}
ASKED = {"instances": [1]}


# -- sequences ------------------------------------------------------------------------------


def test_every_step_gets_the_request_unless_it_wants_the_answer_before() -> None:
    steps = ("Sequence", to("a"), to("b"), to("a", data="$response"), to("b", data="$request"))
    status, answer, asked = routed({"root": steps}, FINE)
    assert (status, answer) == (200, {"predictions": ["beagle"]})
    assert asked == [("a", ASKED), ("b", ASKED), ("a", {"predictions": ["beagle"]}), ("b", ASKED)]


def test_the_first_step_has_no_answer_before_it() -> None:
    assert routed({"root": ("Sequence", to("a", data="$response"))}, FINE)[2] == [("a", ASKED)]


@pytest.mark.parametrize(("condition", "asked"), [("dog", ["a", "b"]), ("cat", ["a"])])
def test_a_condition_that_is_not_met_ends_a_sequence_with_the_answer_so_far(
    condition: str, asked: list[str]
) -> None:
    step = to("b", condition=f'[@this].#(predictions.0=="{condition}")')
    status, answer, by = routed({"root": ("Sequence", to("a"), step)}, FINE)
    assert status == 200
    assert answer == {"predictions": ["beagle" if condition == "dog" else "dog"]}
    assert [service for service, _ in by] == asked


def test_a_condition_on_what_is_no_json_is_an_invalid_response() -> None:
    nodes = {"root": ("Sequence", to("a"), to("b", condition="predictions"))}
    with pytest.raises(Failed, match="invalid response") as failed:
        routed(nodes, {**FINE, "a": (200, b"<html>")})
    assert failed.value.status == 500
    with pytest.raises(Failed, match="invalid response"):
        routed({"root": ("Sequence", to("b", condition="predictions"))}, FINE)


@pytest.mark.parametrize(
    ("dependency", "status", "asked"), [("Hard", 404, 1), ("Soft", 200, 2), (None, 200, 2)]
)
def test_only_a_hard_dependency_ends_a_sequence(dependency: str | None, status: int, asked: int) -> None:
    first = to("wrong", **({"dependency": dependency} if dependency else {}))
    got, answer, by = routed({"root": ("Sequence", first, to("b"))}, FINE)
    assert (got, len(by)) == (status, asked)
    assert answer == ({"error": "no"} if status == 404 else {"predictions": ["beagle"]})


def test_the_last_step_says_the_status() -> None:
    assert routed({"root": ("Sequence", to("a"), to("wrong"))}, FINE)[:2] == (404, {"error": "no"})


def test_a_step_that_can_not_be_asked_ends_everything_even_if_it_is_soft() -> None:
    with pytest.raises(Failed, match="gone") as failed:
        routed(
            {"root": ("Sequence", to("lost", dependency="Soft"), to("a"))},
            {**FINE, "lost": Failed(500, "gone")},
        )
    assert failed.value.status == 500


@pytest.mark.parametrize(
    ("answer", "given"),
    [
        ({"predictions": [1, 2]}, {"instances": [1, 2]}),
        ({"predictions": [], "x": 1}, {"predictions": [], "x": 1}),
        ({"outputs": [1]}, {"outputs": [1]}),
        ({"predictions": {"a": 1}}, {"predictions": {"a": 1}}),
        ([1], [1]),
        (b"plain", b"plain"),
    ],
)
def test_predictions_become_instances(answer: Any, given: Any) -> None:
    second = to("b", data="$response", mapPredictionsToInstances=True)
    _, _, asked = routed({"root": ("Sequence", to("a"), second)}, {**FINE, "a": (200, answer)})
    assert asked[1] == ("b", given)


# -- switches -------------------------------------------------------------------------------

SWITCH = (
    "Switch",
    to("wrong", condition="[@this].#(decision_picker==ERROR)"),
    to("a", condition="[@this].#(decision_picker==SUCCESS)"),
    to("b", condition="decision_picker"),
)


@pytest.mark.parametrize(
    ("picker", "service", "status"), [("ERROR", "wrong", 404), ("SUCCESS", "a", 200), ("x", "b", 200)]
)
def test_the_first_step_whose_condition_fits_is_asked(picker: str, service: str, status: int) -> None:
    got, _, asked = routed({"root": SWITCH}, FINE, {"decision_picker": picker})
    assert (got, [by for by, _ in asked]) == (status, [service])


@pytest.mark.parametrize("body", [{"other": 1}, b"no json", b""])
def test_none_that_fits_is_not_found(body: Any) -> None:
    with pytest.raises(Failed, match="None of the routes matched with the switch condition") as failed:
        routed({"root": SWITCH}, FINE, body)
    assert failed.value.status == 404


def test_a_step_without_a_condition_is_never_asked() -> None:
    with pytest.raises(Failed):
        routed({"root": ("Switch", to("a"))}, FINE)


def test_a_switch_behind_another_node_that_finds_nobody_is_an_error() -> None:
    nodes = {"root": ("Sequence", {"nodeName": "by"}), "by": SWITCH}
    with pytest.raises(Failed, match="None of the routes") as failed:
        routed(nodes, FINE, {"other": 1})
    assert failed.value.status == 500


# -- ensembles ------------------------------------------------------------------------------


def test_answers_are_merged_by_the_steps_names_or_numbers() -> None:
    nodes = {"root": ("Ensemble", to("b", name="second"), to("a"), to("wrong", name="third"))}
    status, answer, asked = routed(nodes, FINE)
    assert status == 200
    assert answer == {
        "1": {"predictions": ["dog"]},
        "second": {"predictions": ["beagle"]},
        "third": {"error": "no"},
    }
    assert all(given == ASKED for _, given in asked)


def test_its_steps_are_asked_at_the_same_time() -> None:
    arrived: list[asyncio.Event] = []

    async def meet() -> tuple[int, Any]:
        arrived.append(asyncio.Event())
        if len(arrived) == 2:
            arrived[0].set()
            return 200, {}
        await asyncio.wait_for(arrived[0].wait(), 5)
        return 200, {}

    assert routed({"root": ("Ensemble", to("x"), to("y"))}, {"x": meet, "y": meet})[1] == {"0": {}, "1": {}}


def test_the_first_hard_dependency_that_fails_answers() -> None:
    steps = (to("a"), to("wrong", dependency="Hard"), to("worse", dependency="Hard"))
    answers = {**FINE, "worse": (500, {"error": "worse"})}
    assert routed({"root": ("Ensemble", *steps)}, answers)[:2] == (404, {"error": "no"})


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Failed(500, "nobody is there"), "nobody is there"),
        ((200, [1]), "step 1 of node root, x: its answer is a list, not an object"),
        ((200, b"<html>"), "step 1 of node root, x: its answer is not JSON"),
    ],
)
def test_one_without_an_answer_to_merge_fails_them_all(answer: Any, said: str) -> None:
    with pytest.raises(Failed, match="^" + said) as failed:
        routed({"root": ("Ensemble", to("a"), to("x"))}, {**FINE, "x": answer})
    assert failed.value.status == 500


def test_who_is_asked_still_is_let_go_when_one_fails() -> None:
    ended: list[str] = []

    async def slow() -> tuple[int, Any]:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("slow")
        return 200, {}

    with pytest.raises(Failed):
        routed({"root": ("Ensemble", to("slow"), to("x"))}, {"slow": slow, "x": Failed(500, "gone")})
    assert ended == ["slow"]


def test_nothing_is_null_as_in_go() -> None:
    assert routed({"root": ("Ensemble", to("a"))}, {"a": (200, None)})[1] == {"0": None}


# -- splitters and nodes --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "service"), [(0, "a"), (59, "a"), (60, "b"), (99, "b"), (100, "a"), (160, "b")]
)
def test_a_point_decides_a_split(point: int, service: str) -> None:
    split = ("Splitter", to("a", weight=60), to("b", weight=40))
    assert [by for by, _ in routed({"root": split}, FINE, point=point)[2]] == [service]


def test_chance_splits_by_weight() -> None:
    split = {"root": ("Splitter", to("a", weight=25), to("b", weight=75))}
    to_a = sum(routed(split, FINE)[2][0][0] == "a" for _ in range(1200))
    sigma = 15
    assert abs(to_a - 300) < 5 * sigma


def test_nodes_lead_to_nodes() -> None:
    nodes = {
        "root": (
            "Sequence",
            to("a"),
            {"nodeName": "both", "data": "$response", "dependency": "Hard"},
            to("b"),
        ),
        "both": ("Ensemble", {"nodeName": "split", "name": "x"}, to("b", name="y")),
        "split": ("Splitter", to("wrong", weight=100)),
    }
    status, answer, asked = routed(nodes, FINE)
    assert (status, answer) == (200, {"predictions": ["beagle"]})
    assert sorted(by for by, _ in asked) == ["a", "b", "b", "wrong"]
    assert all(given == {"predictions": ["dog"]} for _, given in asked[1:3])
