"""`promote`, `rollback`, `history`, `audit`, `lineage`."""

from __future__ import annotations

import click

from modelyard import console
from modelyard.cli.base import Session, json_option
from modelyard.records import Promotion


@click.command()
@click.argument("version")
@click.option("--to", "alias", required=True, help="The alias, e.g. production.")
@click.option("--reason", required=True, help="Why; it goes into the ledger.")
@click.option("--expect", help="The version that must hold the alias now.")
@json_option
def promote(session: Session, version: str, alias: str, reason: str, expect: str | None) -> None:
    """Give an alias to MODEL/VERSION, if its gates pass; endpoints that follow it move too.

    \b
    Example:
      modelyard promote late-flights/2 --to production --reason "knows summer weather"
    """
    with console.waiting(f"promoting {version}"):
        promotion = session.yard.promote(version, to=alias, reason=reason, expect=expect)
    if promotion.reason == reason:
        session.show(promotion, lambda: _print_move(promotion))
    else:  # it stands already, by an earlier promotion
        said = f"{version} is {alias} already: {promotion.id} ({promotion.reason}); nothing moved"
        session.show(promotion, lambda: click.echo(said))


@click.command()
@click.argument("model")
@click.option("--alias", default="production", show_default=True, help="The alias.")
@click.option("--reason", required=True, help="Why; it goes into the ledger.")
@click.option("--expect", help="The version that must hold the alias now.")
@json_option
def rollback(session: Session, model: str, alias: str, reason: str, expect: str | None) -> None:
    """Give the alias back to the version that was last deployed well before the current one.

    \b
    Example:
      modelyard rollback late-flights --reason "complaints from the tower"
    """
    with console.waiting(f"rolling back {model}"):
        promotion = session.yard.rollback(model, alias=alias, reason=reason, expect=expect)
    session.show(promotion, lambda: _print_move(promotion))


@click.command()
@click.argument("model", required=False)
@json_option
def history(session: Session, model: str | None) -> None:
    """Who moved which alias, when and why; newest first.

    \b
    Example:
      modelyard history late-flights
    """
    found = session.bare_yard.history(model)
    rows = [
        (
            p.time,
            p.model,
            p.alias,
            p.action,
            p.from_version,
            p.to_version,
            p.actor.user,
            _state(p),
            p.reason,
        )
        for p in found
    ]
    headers = ("WHEN (UTC)", "MODEL", "ALIAS", "ACTION", "FROM", "TO", "BY", "STATE", "WHY")
    empty = "no promotions yet: modelyard promote MODEL/VERSION --to production --reason ..."
    session.show(found, lambda: console.table(headers, rows, empty=empty))


@click.command()
@click.option("--repair", is_flag=True, help="Finish what a killed promotion began; note outside moves.")
@json_option
def audit(session: Session, repair: bool) -> int:
    """Verify the ledger's chain, and that every alias stands where it says. Exit status 9 if not.

    \b
    Example:
      modelyard audit --repair
    """
    from modelyard.audit import audit as run_audit

    findings = run_audit(session.yard, repair=repair)

    def human() -> None:
        for finding in findings:
            click.echo(f"{'repaired' if finding['repaired'] else 'FAULT'}  {finding['message']}")
        if not findings:
            click.echo("the ledger is whole and every alias stands where it says")

    session.show(findings, human)
    return 9 if any(not finding["repaired"] for finding in findings) else 0


@click.command()
@click.argument("id")
@json_option
def lineage(session: Session, id: str) -> None:
    """Data, code, run and person behind a prediction id, endpoint, MODEL/VERSION, run or data set.

    \b
    Example:
      modelyard lineage late-flights@production
    """
    node = session.yard.lineage(id)
    session.show(node, lambda: click.echo(node.tree()))


def _print_move(promotion: Promotion) -> None:
    moved = f"{promotion.from_version or 'none'} -> {promotion.to_version}"
    click.echo(f"{promotion.alias} of {promotion.model}: {moved} ({_state(promotion)}), {promotion.id}")
    for gate in promotion.gates:
        click.echo(f"  passed {gate.gate}: {gate.message}")


def _state(promotion: Promotion) -> str:
    if promotion.origin is not None:
        return f"{promotion.status}, from {promotion.origin}"
    if promotion.status != "completed" or promotion.deployed is None:
        return promotion.status
    return "deployed" if promotion.deployed else "deployment failed"
