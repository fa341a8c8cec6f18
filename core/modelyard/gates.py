"""Gates: checks that a promotion must pass, named in `gates.toml`, run the same everywhere."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from modelyard.errors import ConfigError, GateError, ModelyardError
from modelyard.hookspecs import hookimpl
from modelyard.offers import Candidate, GateOffer
from modelyard.records import GateResult

if TYPE_CHECKING:
    from pydantic import BaseModel

    from modelyard.config import GateTable
    from modelyard.plugins import Offered


def check(
    candidate: Candidate, tables: Sequence[GateTable], offered: Sequence[Offered], where: str
) -> tuple[GateResult, ...]:
    """Run the gates that apply to a candidate; a gate that fails to run has not passed.

    Args:
        candidate: the version that wants an alias.
        tables: the gates of `gates.toml`.
        offered: the gates that the core and the plugins offer.
        where: the file's path, for messages.

    Raises:
        ConfigError: a table names a gate that nobody offers, or has wrong settings.
    """
    applicable = [
        (number, table)
        for number, table in enumerate(tables)
        if table.alias in (None, candidate.alias) and table.model in (None, candidate.version.name)
    ]
    prepared = [_prepared(table, offered, where, number) for number, table in applicable]
    return tuple(_checked(offer, settings, candidate) for offer, settings in prepared)


def require(candidate: Candidate, results: Iterable[GateResult]) -> None:
    """Let the candidate pass, or say which gates refused it.

    Raises:
        GateError: `gate-refused`.
    """
    refused = [result for result in results if not result.passed]
    if refused:
        raise GateError(
            "gate-refused",
            f"{candidate.version.ref} may not become '{candidate.alias}': "
            + "; ".join(f"{r.gate}: {r.message}" for r in refused),
            f"modelyard gates check {candidate.version.ref} --to {candidate.alias}",
            details={"gates": [result.to_dict() for result in results]},
        )


def _prepared(
    table: GateTable, offered: Sequence[Offered], where: str, number: int
) -> tuple[GateOffer, BaseModel | None]:
    from modelyard.config import validate

    by_name = {o.offer.name: o.offer for o in offered}
    if table.check not in by_name:
        near = difflib.get_close_matches(table.check, by_name, n=1)
        meant = f"; did you mean '{near[0]}'?" if near else f"; offered: {', '.join(sorted(by_name))}"
        raise ConfigError(
            "gate-unknown",
            f"{where}: gate.{number}.check: no gate '{table.check}'{meant}",
            f"edit {where}",
        )
    offer: GateOffer = by_name[table.check]
    values = table.model_extra or {}
    if offer.settings is None:
        if values:
            raise ConfigError(
                "config-unknown-key",
                f"{where}: gate.{number}: unknown key '{next(iter(values))}': "
                f"'{table.check}' takes no settings",
                f"edit {where}",
            )
        return offer, None
    return offer, validate(offer.settings(), values, where, f"gate.{number}")


def _checked(offer: GateOffer, settings: Any, candidate: Candidate) -> GateResult:
    try:
        result = offer.check(candidate, settings)
        if not isinstance(result, GateResult):
            raise TypeError(f"it returned a {type(result).__name__}, not a GateResult")
        return result
    except ModelyardError as fault:
        return GateResult(gate=offer.name, passed=False, message=fault.message)
    except Exception as fault:
        said = f"the gate itself failed: {type(fault).__name__}: {fault}"
        return GateResult(gate=offer.name, passed=False, message=said)


# -- the core's own gates, offered as any plugin would ------------------------------------------


@hookimpl
def modelyard_gates() -> Iterable[GateOffer]:
    """The gates that need nothing but the records."""
    yield GateOffer(
        name="metric",
        summary="a metric of the run lies within bounds, and is not worse than the current version's",
        check=_metric,
        settings=_metric_settings,
    )
    yield GateOffer(name="signature", summary="the model states its inputs and outputs", check=_signature)
    yield GateOffer(
        name="data-published",
        summary="all data of the run was pushed to the remote",
        check=_data_published,
    )
    yield GateOffer(
        name="code-committed", summary="the code of the run was committed to git", check=_code_committed
    )


def _metric_settings() -> type[BaseModel]:
    from pydantic import BaseModel, ConfigDict, Field

    class MetricGate(BaseModel):
        model_config = ConfigDict(extra="forbid")
        metric: str = Field(description="The metric's name, as the run logged it.")
        min: float | None = Field(None, description="At least this.")
        max: float | None = Field(None, description="At most this.")
        tolerance: float | None = Field(
            None, ge=0, description="At most this much worse than the version that holds the alias now."
        )
        better: Literal["higher", "lower"] = Field("higher", description="Which way is better.")

    return MetricGate


def _metric(candidate: Candidate, settings: Any) -> GateResult:
    name = settings.metric
    measured = dict(candidate.run.metrics) if candidate.run else {}
    if name not in measured:
        return GateResult(
            gate="metric",
            passed=False,
            message=f"the run has no metric '{name}'",
            values={"metric": name},
        )
    value = measured[name]
    before = candidate.current_run.metrics.get(name) if candidate.current_run else None
    faults = []
    if settings.min is not None and not value >= settings.min:
        faults.append(f"below {settings.min:g}")
    if settings.max is not None and not value <= settings.max:
        faults.append(f"above {settings.max:g}")
    if settings.tolerance is not None and before is not None:
        worse = before - value if settings.better == "higher" else value - before
        if not worse <= settings.tolerance:
            faults.append(
                f"worse than {before:.4g} of version {candidate.current and candidate.current.version}"
            )
    message = f"{name} {value:.4g}" + (f" is {' and '.join(faults)}" if faults else "")
    values = {"metric": name, "value": value, "current": before, **limits(settings)}
    return GateResult(gate="metric", passed=not faults, message=message, values=values)


def limits(settings: BaseModel) -> dict[str, float]:
    """The bounds that a gate's settings name, for its result: who reads it sees how near the value came.

    Args:
        settings: of a gate with some of `min`, `max` and `tolerance`; those that are None are left out.
    """
    return settings.model_dump(include={"min", "max", "tolerance"}, exclude_none=True)


def _signature(candidate: Candidate, _: Any) -> GateResult:
    there = candidate.version.signature
    message = "stated" if there else "missing: log the model with example=X[:5]"
    return GateResult(gate="signature", passed=there, message=message)


def _data_published(candidate: Candidate, _: Any) -> GateResult:
    uses = candidate.run.data if candidate.run else ()
    if not uses:
        return GateResult(
            gate="data-published",
            passed=False,
            message="the run names no data: run.use(ref, role='train')",
        )
    local = [use.ref.name for use in uses if not candidate.published(use.ref)]
    message = f"not pushed: {', '.join(local)}" if local else f"{len(uses)} data versions pushed"
    return GateResult(gate="data-published", passed=not local, message=message)


def _code_committed(candidate: Candidate, _: Any) -> GateResult:
    code = candidate.run.code if candidate.run else None
    if code is None or code.commit is None:
        return GateResult(gate="code-committed", passed=False, message="the run was not in a git repository")
    values = {"commit": code.commit, "changed": list(code.changed)}
    return GateResult(gate="code-committed", passed=not code.dirty, message=code.state, values=values)
