"""`modelyard sandbox doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from modelyard import console
from modelyard.cli.base import Session, json_option
from modelyard.errors import ModelyardError
from modelyard_sandbox.doctor import report as reports
from modelyard_sandbox.doctor.catalogue import CHECKS
from modelyard_sandbox.doctor.facts import Facts
from modelyard_sandbox.doctor.findings import Finding, examine
from modelyard_sandbox.folder import DEFAULT, SandboxFolder

_ORDER = ("error", "warning", "ok", "skipped")


@click.command()
@click.option("--name", default=DEFAULT, show_default=True, help="Which sandbox.")
@click.option("--fix", is_flag=True, help="Do what can do no harm: limits, rights, left locks, taken ports.")
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write all of it into this file, without secrets."
)
@json_option
def doctor(session: Session, name: str, fix: bool, report: Path | None) -> None:
    """Look for what keeps a sandbox from working on this machine, and say what to do.

    Needs neither Docker nor a sandbox nor a network.  Exit status: 0 nothing is broken, 1 something is.

    \b
    Example:
      modelyard sandbox doctor
      modelyard sandbox doctor --fix --report doctor.json
    """
    folder = SandboxFolder(name)
    facts = Facts(folder)
    with console.waiting("looking at this machine"):
        found = examine(facts, CHECKS)
    fixed = _repair(facts, found) if fix else {}
    if fixed:
        facts = Facts(folder)
        found = examine(facts, CHECKS)
    if report is not None:
        reports.write(report.expanduser(), facts, found)
    found.sort(key=lambda one: _ORDER.index(one.level))
    broken = sum(one.level == "error" for one in found)
    result = {"ok": not broken, "fixed": fixed, "report": report, "findings": found}
    session.show(result, lambda: _print(found, fixed, report))
    raise click.exceptions.Exit(1 if broken else 0)


def _repair(facts: Facts, found: list[Finding]) -> dict[str, str]:
    """Do what can be done; check -> what was done, or why it could not be."""
    done = {}
    for one, finding in zip(CHECKS, found):
        if finding.fixable and one.repair is not None:
            try:
                done[one.id] = one.repair(facts)
            except ModelyardError as fault:
                done[one.id] = f"could not: {fault.message}"
    return done


def _print(found: list[Finding], fixed: dict[str, str], report: Path | None) -> None:
    for name, said in fixed.items():
        click.echo(f"fix {name}: {said}")
    rows = [
        (one.id, one.level, one.evidence, _shown(one) if one.level in ("warning", "error") else "")
        for one in found
    ]
    console.table(("CHECK", "STATE", "EVIDENCE", "FIX"), rows)
    counts = {level: sum(one.level == level for one in found) for level in _ORDER}
    click.echo(", ".join(f"{count} {level}" for level, count in counts.items() if count))
    if report is not None:
        click.echo(f"written, without secrets: {report}")


def _shown(finding: Finding) -> str:
    return f"{finding.fix} (--fix does it)" if finding.fixable else finding.fix
