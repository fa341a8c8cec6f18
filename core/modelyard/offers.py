"""The records that hooks yield: what a plugin offers, before anything of it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

    from modelyard.ledger import Ledger
    from modelyard.records import Check, DataRef, GateResult, ModelVersion, Run
    from modelyard.stages import StageContext

P_co = TypeVar("P_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer(Generic[P_co]):
    """A provider that a project can choose for a stage.

    Attributes:
        name: what `modelyard.toml` says, lower case, e.g. `mlflow`.
        summary: one line for `modelyard plugins list`.
        factory: opens the provider; heavy imports belong inside it.
        settings: returns the pydantic model of `[providers.NAME]`; None: it takes no settings.
        requires: import names that must be there, e.g. `("mlflow",)`.
        install: what brings them, e.g. `modelyard[mlflow]`.
    """

    name: str
    summary: str
    factory: Callable[[StageContext], P_co]
    settings: Callable[[], type[BaseModel]] | None = None
    requires: tuple[str, ...] = ()
    install: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What a gate looks at: a model version that wants an alias.

    Attributes:
        version: the version, and `run` behind it (None if it is unknown).
        alias: the alias it wants; `reason` is what the person gave.
        current: the version that holds the alias now, with `current_run`; None for the first.
        ledger: the model's history so far.
        path: returns the folder with the model's files.
        published: says whether a data version lies in its remote now.
    """

    version: ModelVersion
    run: Run | None
    alias: str
    reason: str
    current: ModelVersion | None
    current_run: Run | None
    ledger: Ledger
    path: Callable[[], Path]
    published: Callable[[DataRef], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOffer:
    """A check that a promotion must pass where `gates.toml` names it.

    Attributes:
        name: what `gates.toml` says in `check = "..."`.
        summary: one line for `modelyard gates list`.
        check: looks at the candidate; `settings` is the validated rest of the gate's table.
        settings: returns the pydantic model of that table; None: it takes no settings.
    """

    name: str
    summary: str
    check: Callable[[Candidate, Any], GateResult]
    settings: Callable[[], type[BaseModel]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOffer:
    """A check for `modelyard doctor`; `run` gets the project's folder, or None outside a project."""

    name: str
    run: Callable[[Path | None], Check | Iterable[Check]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """What `modelyard plugins list` shows. `status`: `ok`, `disabled`, `needs extra`, `conflict`
    (another plugin offers the same name), `broken`."""

    name: str
    distribution: str
    version: str
    status: str
    hooks: tuple[str, ...] = ()
    message: str = ""
    import_seconds: float = 0.0
    offers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
