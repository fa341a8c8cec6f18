"""The part of PromQL that our rules need, as data: printed for Prometheus, and evaluated here.

Both come from the same objects, so that what fires without Prometheus is what fires with it.
Evaluation is of one moment; sets of labels are matched as Prometheus matches them.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Labels = frozenset[tuple[str, str]]
Vector = Mapping[Labels, float]
#: Samples of one moment: metric name, labels, value.
Snapshot = Sequence[tuple[str, Mapping[str, str], float]]

_ARITHMETIC: dict[str, Callable[[float, float], float]] = {"-": operator.sub, "*": operator.mul}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "==": operator.eq,
}


class Expression(Protocol):
    """Something that has a value for each set of labels, or one value (a float) for all."""

    def promql(self) -> str:
        """As Prometheus reads it."""

    def at(self, snapshot: Snapshot, now: float) -> Vector | float:
        """Its value at `now` (seconds since 1970)."""


@dataclass(frozen=True)
class Metric:
    """A metric by name; `labels` that must be equal."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()

    def promql(self) -> str:
        """As Prometheus reads it."""
        chosen = ", ".join(f"{key}={json.dumps(value)}" for key, value in self.labels)
        return f"{self.name}{{{chosen}}}" if chosen else self.name

    def at(self, snapshot: Snapshot, now: float) -> Vector:  # noqa: ARG002
        """Its samples."""
        return {
            frozenset(labels.items()): value
            for name, labels, value in snapshot
            if name == self.name and all(labels.get(k) == v for k, v in self.labels)
        }


@dataclass(frozen=True)
class Number:
    """A constant."""

    value: float

    def promql(self) -> str:
        """As Prometheus reads it."""
        return f"{self.value:g}" if abs(self.value) < 1e5 else repr(self.value)

    def at(self, snapshot: Snapshot, now: float) -> float:  # noqa: ARG002
        """Itself."""
        return self.value


@dataclass(frozen=True)
class Now:
    """The time."""

    def promql(self) -> str:
        """As Prometheus reads it."""
        return "time()"

    def at(self, snapshot: Snapshot, now: float) -> float:  # noqa: ARG002
        """Seconds since 1970."""
        return now


@dataclass(frozen=True)
class Binary:
    """`-` and `*`, or a comparison, which keeps those samples of the left side for which it holds."""

    left: Expression
    sign: str
    right: Expression

    def promql(self) -> str:
        """As Prometheus reads it."""
        return f"({self.left.promql()} {self.sign} {self.right.promql()})"

    def at(self, snapshot: Snapshot, now: float) -> Vector | float:
        """Its samples; a comparison of two constants is none of ours."""
        left, right = self.left.at(snapshot, now), self.right.at(snapshot, now)
        pairs = _matched(left, right)
        if self.sign in _COMPARISONS:
            holds = _COMPARISONS[self.sign]
            return {labels: a for labels, (a, b) in pairs.items() if holds(a, b)}
        combine = _ARITHMETIC[self.sign]
        return {labels: combine(a, b) for labels, (a, b) in pairs.items()}


@dataclass(frozen=True)
class And:
    """Those samples of the left side for which the right side has any with the same values of `on`."""

    left: Expression
    on: tuple[str, ...]
    right: Expression

    def promql(self) -> str:
        """As Prometheus reads it."""
        return f"{self.left.promql()} and on({', '.join(self.on)}) {self.right.promql()}"

    def at(self, snapshot: Snapshot, now: float) -> Vector:
        """Its samples."""
        left, right = self.left.at(snapshot, now), self.right.at(snapshot, now)
        assert not isinstance(left, float)
        assert not isinstance(right, float)
        there = {self._key(labels) for labels in right}
        return {labels: value for labels, value in left.items() if self._key(labels) in there}

    def _key(self, labels: Labels) -> tuple[str, ...]:
        values = dict(labels)
        return tuple(values.get(name, "") for name in self.on)


def _matched(left: Vector | float, right: Vector | float) -> dict[Labels, tuple[float, float]]:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return {labels: (value, right[labels]) for labels, value in left.items() if labels in right}
    if isinstance(left, Mapping):
        assert isinstance(right, float)
        return {labels: (value, right) for labels, value in left.items()}
    assert isinstance(right, Mapping)
    return {labels: (left, value) for labels, value in right.items()}
