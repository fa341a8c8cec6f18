"""Requests asked of a model in one call: `spec.predictor.batcher` waits for more, `Together` does not."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from modelyard_kserve.local.runtimes import Spec


@dataclass(frozen=True)
class Batching:
    """How requests are gathered.

    Attributes:
        rows: as many are in one call of the model at most, unless one request alone has more.
        seconds: the first request of a call waits so long for others.
    """

    rows: int
    seconds: float


class Batched(NamedTuple):
    """What one caller gets.

    Attributes:
        answers: of the model, for this caller's rows.
        id: of the call of the model, if it has one; callers who were asked for together have the same.
        rows: of that call, for one of its callers; None for the others.
    """

    answers: Any
    id: str
    rows: int | None


class Unsplittable(Exception):
    """There is not one answer a row."""


@dataclass
class _Caller:
    rows: Any
    size: int
    answer: asyncio.Future[Batched]


@dataclass
class _Gathering:
    """Callers whose rows can be joined, and when they are asked for at the latest."""

    timer: asyncio.TimerHandle
    callers: list[_Caller] = field(default_factory=list)
    size: int = 0


class Batches:
    """Gathers rows for a model, and hands its answers out again.

    Only rows of the same kind are joined (`kind_of`), so a model sees of a caller what it would see of that
    caller alone. When a joined call fails, or answers another number of rows than it was given, each caller
    is asked for alone: nobody gets an error for somebody else's rows.

    Args:
        call: the model; takes rows, gives answers.
        batching: how requests are gathered.
    """

    def __init__(self, call: Callable[[Any], Awaitable[Any]], batching: Batching) -> None:
        self._call, self._batching = call, batching
        self._gathered: dict[Hashable, _Gathering] = {}
        self._asking: set[asyncio.Task[None]] = set()

    async def __call__(self, rows: Any) -> Batched:
        """The model's answers to these rows; raises what it raises about them."""
        kind, size = kind_of(rows), size_of(rows)
        if kind is None or size >= self._batching.rows:
            return Batched(await self._call(rows), new_id(), size)
        there = self._gathered.get(kind)
        if there is not None and there.size + size > self._batching.rows:
            self._send(kind)
        loop = asyncio.get_running_loop()
        if kind not in self._gathered:
            timer = loop.call_later(self._batching.seconds, self._send, kind)
            self._gathered[kind] = _Gathering(timer)
        caller = _Caller(rows, size, loop.create_future())
        gathering = self._gathered[kind]
        gathering.callers.append(caller)
        gathering.size += size
        if gathering.size >= self._batching.rows:
            self._send(kind)
        return await caller.answer

    def _send(self, kind: Hashable) -> None:
        gathering = self._gathered.pop(kind)
        gathering.timer.cancel()
        # Who hung up is not asked for any more.
        callers = [caller for caller in gathering.callers if not caller.answer.done()]
        if callers:
            asking = asyncio.get_running_loop().create_task(_ask(self._call, callers, new_id))
            self._asking.add(asking)  # a loop alone would not keep it
            asking.add_done_callback(self._asking.discard)


class Together:
    """Requests that wait for a model at the same time, asked of it in one call.

    What a call of scikit-learn costs, it costs once, for one row or for fifty. Nobody waits for others to
    come: the first is asked for at once, and who comes while the model works is in its next call. Faults are
    found as in `Batches`.

    Args:
        call: the model; takes rows, gives answers.
        most: how many rows a call may have, unless one request alone has more; it may change.
    """

    def __init__(self, call: Callable[[Any], Awaitable[Any]], most: Callable[[], int]) -> None:
        self._call, self._most = call, most
        self._waiting: list[_Caller] = []
        self._asking: asyncio.Task[None] | None = None

    async def __call__(self, rows: Any) -> Batched:
        """The model's answers to these rows; raises what it raises about them."""
        loop = asyncio.get_running_loop()
        caller = _Caller(rows, size_of(rows), loop.create_future())
        self._waiting.append(caller)
        if self._asking is None:
            self._asking = loop.create_task(self._ask_all())
        return await caller.answer

    async def _ask_all(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # who came meanwhile is read first
            if callers := self._next():
                await _ask(self._call, callers, lambda: "")
        self._asking = None

    def _next(self) -> list[_Caller]:
        """Who is asked for next: the first, and whose rows can be joined with the first one's."""
        # Who hung up is not asked for any more.
        waiting = [caller for caller in self._waiting if not caller.answer.done()]
        chosen, left, self._waiting = waiting[:1], waiting[1:], []
        if not left:
            return chosen
        kind, room = kind_of(chosen[0].rows), self._most() - chosen[0].size
        for caller in left:
            if kind is not None and caller.size <= room and kind_of(caller.rows) == kind:
                chosen.append(caller)
                room -= caller.size
            else:
                self._waiting.append(caller)
        return chosen


async def _ask(
    call: Callable[[Any], Awaitable[Any]], callers: Sequence[_Caller], name: Callable[[], str]
) -> None:
    """Give everybody an answer; where a fault lies is found by asking for each alone."""
    if len(callers) > 1 and await _asked_together(call, callers, name):
        return
    for caller in callers:
        try:
            made = Batched(await call(caller.rows), name(), caller.size)
        except Exception as fault:
            if not caller.answer.done():
                caller.answer.set_exception(fault)
        else:
            _give(caller, made)


async def _asked_together(
    call: Callable[[Any], Awaitable[Any]], callers: Sequence[_Caller], name: Callable[[], str]
) -> bool:
    """Whether everybody got an answer."""
    sizes = [caller.size for caller in callers]
    try:
        parts = split(await call(joined([caller.rows for caller in callers])), sizes)
    except Exception:
        return False
    made, first = name(), True
    for caller, part in zip(callers, parts):
        _give(caller, Batched(part, made, sum(sizes) if first else None))
        first = False
    return True


def new_id() -> str:
    """Of a call of the model."""
    return str(uuid.uuid4())


def _give(caller: _Caller, made: Batched) -> None:
    if not caller.answer.done():
        caller.answer.set_result(made)


def joinable(inputs: Iterable[Spec]) -> bool:
    """Whether a model with such inputs takes any number of rows; some exported graphs take exactly one."""
    return all(spec.shape is None or spec.shape[:1] == (-1,) for spec in inputs)


# -- rows -----------------------------------------------------------------------------------


def size_of(rows: Any) -> int:
    """How many rows a model is asked for."""
    if isinstance(rows, Mapping):
        return next((len(values) for values in rows.values() if getattr(values, "ndim", 1)), 1)
    return len(rows)


def kind_of(rows: Any) -> Hashable:
    """What must be equal for rows to be joined: names, datatypes, and all sizes but the number of rows.
    None: they can't be joined with any others.

    Example:
        >>> import numpy as np
        >>> kind_of(np.ones((2, 3))) == kind_of(np.ones((5, 3)))
        True
        >>> kind_of(np.ones((2, 3))) == kind_of(np.ones((2, 3), np.float32))
        False
    """
    import numpy as np

    if hasattr(rows, "columns"):
        return ("table", tuple(rows.columns), tuple(rows.dtypes)) if len(rows) else None
    if isinstance(rows, np.ndarray):
        return ("array", rows.dtype.str, rows.shape[1:]) if rows.ndim and len(rows) else None
    if not isinstance(rows, Mapping) or not rows:
        return None
    kinds = [(name, kind_of(values)) for name, values in rows.items()]
    lengths = {len(values) if kind else -1 for values, (_, kind) in zip(rows.values(), kinds)}
    return ("arrays", tuple(kinds)) if len(lengths) == 1 and lengths != {-1} else None


def joined(parts: Sequence[Any]) -> Any:
    """Rows of one kind, one part after the other."""
    import numpy as np

    first = parts[0]
    if isinstance(first, Mapping):
        return {name: np.concatenate([part[name] for part in parts]) for name in first}
    if not hasattr(first, "columns"):
        return np.concatenate(parts)
    import pandas as pd

    kinds = set(first.dtypes)
    if len(kinds) == 1 and isinstance(next(iter(kinds)), np.dtype):  # one array, which costs a fifth
        values = np.concatenate([part.to_numpy() for part in parts])
        return pd.DataFrame(values, columns=first.columns, copy=False)
    return pd.concat(parts, ignore_index=True)


def split(answers: Any, sizes: Sequence[int]) -> list[Any]:
    """A model's answers, a part for each caller.

    Args:
        answers: an array, a table, a list, or several of them by name.
        sizes: how many rows each caller gave.

    Raises:
        Unsplittable: they are not one answer a row.

    Example:
        >>> split(["a", "b", "c"], [2, 1])
        [['a', 'b'], ['c']]
    """
    if isinstance(answers, Mapping):
        by_name = {name: split(values, sizes) for name, values in answers.items()}
        return [{name: parts[n] for name, parts in by_name.items()} for n in range(len(sizes))]
    if hasattr(answers, "toarray"):  # sparse ones, of which some can't be cut
        answers = answers.toarray()
    listed, total = isinstance(answers, (list, tuple)), sum(sizes)
    has_rows = listed or (hasattr(answers, "shape") and len(answers.shape) > 0)
    if not has_rows or len(answers) != total:
        raise Unsplittable
    if listed and all(hasattr(one, "__len__") and len(one) == total for one in answers):
        raise Unsplittable  # as many answers as each is long: who knows which of the two are the rows
    rows = answers.iloc if hasattr(answers, "iloc") else answers
    parts, start = [], 0
    for size in sizes:
        parts.append(rows[start : start + size])
        start += size
    return parts
