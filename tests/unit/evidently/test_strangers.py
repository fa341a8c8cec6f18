"""What strangers send to the collector costs their own call at most."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from modelyard_evidently import log
from modelyard_evidently.collector import Collector, application
from modelyard_evidently.values import folder_name, name_of, number_of, text_of

AT = datetime(2013, 4, 1, 12, tzinfo=timezone.utc)
#: As deep as the JSON reader goes, and deeper than Python can print.
DEEP = "[" * 1015 + "1, 2" + "]" * 1015


def headers(kind: str, name: str, model: str = "m", **annotations: str) -> dict[str, str]:
    said = {"modelyard.dev/model": model, "modelyard.dev/version": "1", **annotations}
    return {
        "ce-type": f"org.kubeflow.serving.inference.{kind}",
        "ce-id": name,
        "ce-time": AT.isoformat(),
        "ce-inferenceservicename": "e",
        # As Go writes it: not escaped.
        "ce-annotations": json.dumps(said, ensure_ascii="\ud800" in said.values()),
    }


def call(collector: Collector, name: str, instance: str = '{"x": 1}', **annotations: str) -> None:
    collector.take(headers("request", name, **annotations), f'{{"instances": [{instance}]}}'.encode())
    collector.take(headers("response", name, **annotations), b'{"predictions": [0]}')


def post(collector: Collector, given: dict[str, str], *messages: dict[str, Any]) -> int:
    """The status of the answer to a POST whose body comes in these pieces."""
    pieces, sent = iter(messages), []

    async def receive() -> dict[str, Any]:
        return next(pieces)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [(key.encode(), value.encode()) for key, value in given.items()],
    }
    asyncio.run(application(collector)(scope, receive, send))
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    ("instance", "annotations"),
    [(f'{{"x": {DEEP}, "word": {DEEP}}}', {}), ('{"x": 1}', {"modelyard.dev/revision": "\ud800"})],
    ids=["nested a thousand deep", "a revision that is no text"],
)
def test_a_call_that_no_file_can_hold_costs_no_other(
    tmp_path: Path, instance: str, annotations: dict[str, str]
) -> None:
    collector = Collector(tmp_path)
    log.set_kinds(tmp_path, "e", "m", "1", {"x": "numeric", "word": "categorical"})
    for number in range(4):
        call(collector, f"before-{number}")
    call(collector, "poison", instance, **annotations)
    call(collector, "after")
    said = asyncio.run(collector.flush())
    assert (said["events"]["stored"], said["events"]["invalid"], said["waiting"]) == (10, 2, 0)
    reader = log.Reader(tmp_path, "e")
    assert reader.find("after") is not None
    assert reader.find("poison") is None


def test_an_event_that_broke_off_is_refused_and_taken_when_it_comes_again(tmp_path: Path) -> None:
    collector = Collector(tmp_path)
    asked = headers("request", "p")
    half = {"type": "http.request", "body": b'{"instances": [{"x"', "more_body": True}
    assert post(collector, asked, half, {"type": "http.disconnect"}) == 400
    whole = {"type": "http.request", "body": b'{"instances": [{"x": 1}]}'}
    assert post(collector, asked, whole) == 200
    answer = {"type": "http.request", "body": b'{"predictions": [1]}'}
    assert post(collector, headers("response", "p"), answer) == 200
    said = asyncio.run(collector.flush())["events"]
    assert (said["stored"], said["invalid"], said["duplicate"]) == (2, 1, 0)


def test_names_in_utf8_are_read_as_such(tmp_path: Path) -> None:
    collector = Collector(tmp_path)
    for kind, body in (("request", b'{"instances": [[1]]}'), ("response", b'{"predictions": [1]}')):
        given = headers(kind, "p", model="späte flüge")
        assert post(collector, given, {"type": "http.request", "body": body}) == 200
    asyncio.run(collector.flush())
    found = log.Reader(tmp_path, "e").find("p")
    assert found is not None
    assert found["model"] == "späte flüge"


def test_the_oldest_make_room_and_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelyard_evidently.collector._MOST_EVENTS", 10)
    collector = Collector(tmp_path)
    for number in range(8):
        call(collector, str(number))
    said = asyncio.run(collector.flush())
    assert (said["events"]["dropped"], said["events"]["stored"]) == (6, 10)
    assert said["last_loss"] > 0
    assert log.Reader(tmp_path, "e").find("7") is not None


def test_rows_wait_for_a_disk_and_the_oldest_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelyard_evidently.collector._MOST_ROWS", 5)
    collector = Collector(tmp_path)
    (tmp_path / "log").write_text("a file where a folder has to be")
    for number in range(8):
        call(collector, str(number))
    for _ in range(3):  # what is given up is counted once, however often the disk is tried
        said = asyncio.run(collector.flush())
        assert (said["waiting"], said["events"]["dropped"], said["events"]["stored"]) == (5, 6, 0)
    (tmp_path / "log").unlink()
    said = asyncio.run(collector.flush())
    assert (said["waiting"], said["events"]["dropped"], said["events"]["stored"]) == (0, 6, 10)
    reader = log.Reader(tmp_path, "e")
    assert [reader.find(str(number)) is not None for number in range(8)] == [False] * 3 + [True] * 5


# -- values and names ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((1, 1.0, "1"), "1"),
        ((True, "true"), "true"),
        ((-0.0, 0), "0"),
        ((2.5, "2.5"), "2.5"),
        ((None, float("nan")), None),
    ],
    ids=str,
)
def test_one_value_has_one_spelling(values: tuple[Any, ...], text: str | None) -> None:
    import numpy as np

    numbers = [np.asarray([v])[0] for v in values if isinstance(v, (bool, int, float))]
    assert {text_of(value) for value in (*values, *numbers)} == {text}


@pytest.mark.parametrize("value", [None, "", "viel", "nan", "inf", float("nan"), 10**400, [1], {}, b"\xff"])
def test_what_is_no_number_is_none(value: Any) -> None:
    assert number_of(value) is None


@pytest.mark.parametrize("name", ["a", "..", "a/b", "späte flüge", "a\0b", 'q"\\', "%2E", "🌡", "a-b", "CON."])
def test_every_name_has_a_folder_of_its_own(tmp_path: Path, name: str) -> None:
    folder = folder_name(name)
    assert name_of(folder) == name
    (tmp_path / folder).mkdir()
    assert [found.name for found in tmp_path.iterdir()] == [folder]
