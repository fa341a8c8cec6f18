"""So many requests at once, the others in turn; and what is said when nothing moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from modelyard_kserve.local import limited
from modelyard_kserve.local.limited import Limited
from modelyard_kserve.local.messages import Answer, Request

ASK = Request("POST", "/v1/models/a:predict", b"", {}, b"{}")
LIVE = Request("GET", "/v2/health/live", b"", {}, b"")


class Model:
    """Answers when it is told to; knows how many it worked on at once."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.go = asyncio.Event()

    async def __call__(self, request: Request) -> Answer:
        if request.method == "GET":
            return Answer(200, {"live": True})
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.go.wait()
        await asyncio.sleep(0)
        self.inside -= 1
        return Answer(200, {})


def test_so_many_at_once_and_everybody_has_a_turn() -> None:
    async def run(most: int) -> tuple[int, set[int]]:
        model = Model()
        app = Limited(model, most, 300.0)
        asked = [asyncio.create_task(app(ASK)) for _ in range(9)]
        await asyncio.sleep(0.01)
        model.go.set()
        return model.most, {answer.status for answer in await asyncio.gather(*asked)}

    assert asyncio.run(run(2)) == (2, {200})
    assert asyncio.run(run(0)) == (9, {200})


def test_a_full_queue_refuses_and_a_caller_who_leaves_frees_a_place() -> None:
    async def run() -> None:
        model = Model()
        app = Limited(model, 1, 300.0)
        waiting = [asyncio.create_task(app(ASK)) for _ in range(1 + limited._QUEUE)]
        await asyncio.sleep(0)
        busy = await app(ASK)
        assert (busy.status, busy.headers["retry-after"]) == (503, "1")
        assert "wait for this model" in busy.value["error"]
        assert (await app(LIVE)).status == 200, "health does not wait"
        waiting[-1].cancel()
        await asyncio.sleep(0)
        late = asyncio.create_task(app(ASK))
        model.go.set()
        assert (await late).status == 200
        assert {answer.status for answer in await asyncio.gather(*waiting[:-1])} == {200}

    asyncio.run(run())


def test_it_is_not_live_when_nothing_was_finished_for_as_long_as_an_answer_may_take() -> None:
    async def run() -> None:
        model = Model()
        app = Limited(model, 0, 1.0)
        assert (await app(LIVE)).status == 200
        stuck = asyncio.create_task(app(ASK))
        await asyncio.sleep(0.01)
        assert (await app(LIVE)).status == 200
        await asyncio.sleep(1.1)
        assert (await app(LIVE)).value == {"live": False}
        model.go.set()
        await stuck
        assert (await app(LIVE)).status == 200

    asyncio.run(run())


def test_a_queue_that_moves_is_live_however_long_it_is() -> None:
    async def run() -> None:
        async def slow(request: Request) -> Answer:
            if request.method == "POST":
                await asyncio.sleep(0.2)
            return Answer(200, {"live": True})

        app = Limited(slow, 1, 1.0)
        asked = [asyncio.create_task(app(ASK)) for _ in range(8)]
        while not all(task.done() for task in asked):
            assert (await app(LIVE)).status == 200
            await asyncio.sleep(0.01)

    asyncio.run(run())


def test_an_answer_in_pieces_has_its_turn_until_the_last() -> None:
    async def run() -> None:
        go = asyncio.Event()

        async def pieces() -> AsyncIterator[str]:
            yield "one"
            await go.wait()
            yield "two"

        async def streams(_: Request) -> Answer:
            return Answer(200, None, pieces=pieces())

        app = Limited(streams, 1, 300.0)
        first = (await app(ASK)).pieces
        assert first is not None
        assert await anext(first) == "one"
        second = asyncio.create_task(app(ASK))
        await asyncio.sleep(0.01)
        assert not second.done(), "the model still works on the first"
        go.set()
        assert [piece async for piece in first] == ["two"]
        left = (await second).pieces
        assert left is not None
        assert await anext(left) == "one"
        await left.aclose()  # type: ignore[attr-defined]
        assert (await asyncio.wait_for(app(ASK), 5)).status == 200, "a caller who leaves gives his turn back"

    asyncio.run(run())
