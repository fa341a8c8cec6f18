"""What a check answers, and how checks are run: one that fails hides no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modelyard.errors import ModelyardError
from modelyard.records import Record

if TYPE_CHECKING:
    from modelyard_sandbox.doctor.facts import Facts

Level = Literal["ok", "warning", "error", "skipped"]


class Absent(Exception):
    """What a check would look at is not there; the text says why. The check is skipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(Record):
    """What one check found.

    Attributes:
        id: of the check, stable, e.g. `inotify`.
        title: what is looked at.
        level: `ok`; `warning`: works for now; `error`: does not work; `skipped`: there is nothing to look at.
        evidence: what was read and where, or why the check was skipped.
        fix: what to do, a sentence or commands.
        fixable: `doctor --fix` does it.
        refuses: `up` does not begin because of it, unless it is forced.
    """

    id: str
    title: str
    level: Level
    evidence: str
    fix: str = ""
    fixable: bool = False
    refuses: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a check's function returns; `ok`, `warning` and `error` make one."""

    level: Level
    evidence: str
    fix: str = ""
    fixable: bool = False
    refuses: bool = False


def ok(evidence: str) -> Answer:
    """All is well."""
    return Answer("ok", evidence)


def warning(evidence: str, fix: str, *, fixable: bool = False) -> Answer:
    """It works for now."""
    return Answer("warning", evidence, fix, fixable)


def error(evidence: str, fix: str, *, fixable: bool = False, refuses: bool = False) -> Answer:
    """It does not work."""
    return Answer("error", evidence, fix, fixable, refuses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that can go wrong.

    Attributes:
        id: unique and stable.
        title: what is looked at.
        look: gives the answer from the facts.
        before_up: the preflight of `up` looks, too: it is quick, and matters before anything is changed.
        repair: does what the fix says, where that can do no harm; done twice it changes nothing more. It
            returns what it did.
    """

    id: str
    title: str
    look: Callable[[Facts], Answer]
    before_up: bool = False
    repair: Callable[[Facts], str] | None = None


def check(
    id: str, title: str, *, before_up: bool = False, repair: Callable[[Facts], str] | None = None
) -> Callable[[Callable[[Facts], Answer]], Check]:
    """Make a check of a function."""
    return lambda look: Check(id=id, title=title, look=look, before_up=before_up, repair=repair)


def examine(facts: Facts, checks: Iterable[Check]) -> list[Finding]:
    """What the checks find, in their order, without secrets."""
    return [_found(facts, one) for one in checks]


def _found(facts: Facts, one: Check) -> Finding:
    try:
        answer = one.look(facts)
    except Absent as fault:
        answer = Answer("skipped", str(fault))
    except ModelyardError as fault:
        answer = Answer("skipped", fault.message, fault.hint)
    except Exception as fault:
        said = f"the check itself failed: {type(fault).__name__}: {fault}"
        answer = warning(said, "report this, with the file of: modelyard sandbox doctor --report FILE")
    return Finding(
        id=one.id,
        title=one.title,
        level=answer.level,
        evidence=facts.redactor.text(answer.evidence),
        fix=facts.redactor.text(answer.fix),
        fixable=answer.fixable,
        refuses=answer.refuses,
    )
