"""When a model is called in a thread, and when on the loop."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from modelyard_kserve.local import calling
from modelyard_kserve.local.calling import Caller


class Model:
    """Notes in which thread it was called; takes as many seconds as a row says."""

    def __init__(self) -> None:
        self.threads: list[bool] = []

    def __call__(self, rows: list[float]) -> list[float]:
        self.threads.append(threading.current_thread() is not threading.main_thread())
        if rows[0] < 0:
            raise ValueError("no")
        if rows[0]:
            time.sleep(rows[0])
        return rows


async def proven(model: Model, rows: list[float]) -> Caller:
    call = Caller(model)
    for _ in range(10 * calling._PROVEN):
        await call(rows)
        if not model.threads[-1]:
            return call
    raise AssertionError("it never proved itself")


def test_a_fast_model_is_called_at_once_but_not_with_more_rows_than_it_proved() -> None:
    async def run() -> None:
        model = Model()
        call = await proven(model, [0.0, 0.0])
        assert model.threads.count(True) >= calling._PROVEN
        assert await call([0.0]) == [0.0]
        assert model.threads[-1] is False
        await call([0.0] * 3)
        assert model.threads[-1] is True

    asyncio.run(run())


def test_one_that_is_slow_goes_back_to_the_thread_each_time_for_longer() -> None:
    async def run() -> None:
        model = Model()
        call = await proven(model, [0.0])
        for times in (1, 2, 4):
            await call([2 * calling._SLOW])
            assert model.threads[-1] is False
            model.threads.clear()
            while not model.threads or model.threads[-1]:
                await call([0.0])
            assert len(model.threads) >= times * calling._PROVEN

    asyncio.run(run())


def test_a_busy_machine_proves_it_as_well() -> None:
    async def run() -> None:
        model = Model()
        call = Caller(model)
        for number in range(10 * calling._PROVEN):
            await call([0.002 if number % 50 == 0 else 0.0])
            if model.threads[-1] is False:
                return
        raise AssertionError("it never proved itself")

    asyncio.run(run())


@pytest.mark.parametrize("seconds", [0.002, 0.025])
def test_one_that_waits_for_something_never_stands_in_the_way(seconds: float) -> None:
    async def run() -> None:
        model = Model()
        call = Caller(model)
        for _ in range(int(calling._PROVEN * 1.2)):
            await call([seconds])
        assert set(model.threads) == {True}

    asyncio.run(run())


def test_callers_who_never_pause_do_not_keep_it_in_the_thread() -> None:
    async def run() -> None:
        model = Model()
        call = Caller(model)

        async def caller() -> None:
            for _ in range(4 * calling._PROVEN):
                await call([0.0])

        await asyncio.gather(*(caller() for _ in range(8)))
        assert model.threads.count(False) > 10 * calling._PROVEN

    asyncio.run(run())


def test_what_the_model_raises_comes_out_either_way() -> None:
    async def run() -> None:
        model = Model()
        call = await proven(model, [0.0])
        for rows in ([-1.0], [-1.0, 0.0]):
            with pytest.raises(ValueError, match="no"):
                await call(rows)
        assert model.threads[-2:] == [False, True]

    asyncio.run(run())


def test_more_rows_than_it_proved_itself_with_may_be_slow() -> None:
    async def run() -> None:
        model = Model()
        call = await proven(model, [0.0])
        assert call.most() == calling._FEW
        for _ in range(2 * calling._PROVEN // calling._SLOW_ONES):
            await call([0.0025, 0.0])
        await call([0.0])
        assert model.threads[-2:] == [True, False]

    asyncio.run(run())


def test_a_fast_model_gets_twice_the_rows_until_it_is_slow() -> None:
    async def run() -> None:
        call = await proven(Model(), [0.0] * 100)
        assert call.most() == 200
        while (rows := call.most()) < calling._MANY:
            await call([0.0] * rows)
        assert rows == calling._MANY

    asyncio.run(run())


def test_calls_do_not_overlap() -> None:
    async def run() -> None:
        inside, most = 0, 0

        def answer(rows: list[float]) -> list[float]:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            time.sleep(0.0002)
            inside -= 1
            return rows

        call = Caller(answer)
        for _ in range(20):
            await asyncio.gather(*(call([0.0]) for _ in range(20)))
        assert most == 1

    asyncio.run(run())
