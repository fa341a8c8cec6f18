"""Errors that users see: one sentence, where it happened, and what to do next.

Every expected failure is a `ModelyardError`. It carries a stable `code` (for scripts and for
searching the docs) and belongs to a class that fixes the exit status of the command line.
Anything else that reaches the user is a bug of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class ModelyardError(Exception):
    """An expected failure, said in one sentence.

    Args:
        code: stable kebab-case name, e.g. `project-not-found`.
        message: what happened, to which thing (a path, a field, a name).
        hint: what to do next, usually a command; empty when there is nothing to do.
        details: JSON-able facts for `--json`, e.g. the names that would have been right.

    Example:
        >>> error = NotFoundError("model-not-found", "no model named 'late'", "modelyard models list")
        >>> error.exit_status, error.code, str(error)
        (4, 'model-not-found', "no model named 'late'")
    """

    exit_status: ClassVar[int] = 1

    def __init__(
        self, code: str, message: str, hint: str = "", *, details: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.details = dict(details or {})

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with required arguments must say how to be rebuilt, or they die in worker processes.
        return _rebuild, (type(self), self.code, self.message, self.hint, self.details)

    def to_dict(self) -> dict[str, object]:
        """The error as the JSON object that `--json` prints."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "exit_status": self.exit_status,
            "details": self.details,
        }


class UsageError(ModelyardError):
    """The command or call was put together wrongly."""

    exit_status = 2


class ConfigError(ModelyardError):
    """A file that the user writes (project, gates, InferenceService, plugin) is wrong."""

    exit_status = 3


class NotFoundError(ModelyardError):
    """A project, run, model, version, endpoint, data set or file that is named does not exist."""

    exit_status = 4


class ConflictError(ModelyardError):
    """Somebody else got there first: a lock, a taken name or port, a moved alias."""

    exit_status = 5


class GateError(ModelyardError):
    """A gate refused a promotion."""

    exit_status = 6


class MissingRequirementError(ModelyardError):
    """An extra, a plugin or a program that the work needs is not installed."""

    exit_status = 7


class EnvironmentFault(ModelyardError):
    """The machine does not let us: disk, rights, network, memory, a process that died."""

    exit_status = 8


class CorruptStateError(ModelyardError):
    """A state file is damaged; nothing was written and nothing is lost."""

    exit_status = 9


#: Exit statuses of the command line, in one place for the reference page and its test.
EXIT_STATUSES: dict[int, str] = {
    0: "the work was done",
    1: "an unexpected failure (a bug: run again with `--debug` and report it)",
    2: "the command was put together wrongly",
    3: "a file that you write (project, gates, InferenceService, plugin) is wrong",
    4: "something that you named does not exist",
    5: "somebody else got there first (lock, name, port, moved alias)",
    6: "a gate refused the promotion",
    7: "an extra, a plugin or a program is not installed",
    8: "the machine did not let us (disk, rights, network, a process that died)",
    9: "a state file is damaged",
    130: "interrupted with Ctrl-C; the same command goes on where it stopped",
}


def _rebuild(
    kind: type[ModelyardError], code: str, message: str, hint: str, details: dict[str, object]
) -> ModelyardError:
    return kind(code, message, hint, details=details)
