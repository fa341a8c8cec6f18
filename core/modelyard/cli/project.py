"""`init`, `up`, `down`, `status`, `logs`, `open`, `doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from modelyard import console
from modelyard.cli.base import Session, json_option
from modelyard.errors import NotFoundError
from modelyard.records import Check, Service


@click.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path))
@click.option("--name", help="The project's name.  [default: the folder's]")
@json_option
def init(session: Session, folder: Path, name: str | None) -> None:
    """Make FOLDER a project: writes modelyard.toml, leaves everything else alone.

    \b
    Example:
      modelyard init late-flights
    """
    from modelyard import yard

    made = yard.init(folder, name=name)
    session.show(
        {"project": made.name, "root": made.root},
        lambda: click.echo(f"{made.root} is the project '{made.name}'"),
    )


@click.command()
@json_option
def up(session: Session) -> None:
    """Start the project's background processes: its endpoints and its monitor.

    \b
    Example:
      modelyard up
    """
    with console.waiting("starting background processes"):
        services = session.yard.up(session.say)
    session.show(services, lambda: _print_services(services))


@click.command()
@json_option
def down(session: Session) -> None:
    """Stop every background process of the project; nothing is forgotten.

    \b
    Example:
      modelyard down
    """
    services = session.bare_yard.down(lambda name: session.say(f"stopping {name}"))
    session.show(services, lambda: session.say("nothing of this project runs"))


@click.command()
@json_option
def status(session: Session) -> None:
    """What runs, and which version holds which alias.

    \b
    Example:
      modelyard status
    """
    from modelyard.ledger import ledgers

    yard = session.bare_yard
    services = yard.services()
    heads = [
        head
        for ledger in ledgers(yard.state / "ledger")
        for alias in sorted({p.alias for p in ledger.promotions()})
        if (head := ledger.head(alias)) is not None
    ]

    def human() -> None:
        _print_services(services)
        if heads:
            print()
            rows = [(h.model, h.alias, h.to_version, h.time, h.actor.user, h.reason) for h in heads]
            console.table(("MODEL", "ALIAS", "VERSION", "SINCE (UTC)", "BY", "REASON"), rows)

    session.show({"root": yard.root, "services": services, "aliases": heads}, human)


@click.command()
@click.argument("name", required=False)
@click.option("-n", "--lines", default=100, show_default=True, help="How many lines.")
@click.option("-f", "--follow", is_flag=True, help="Go on as it writes.")
@json_option
def logs(session: Session, name: str | None, lines: int, follow: bool) -> None:
    """What a background process wrote; without NAME, which there are.

    \b
    Example:
      modelyard logs monitor -n 20
    """
    processes = session.bare_yard.processes
    if name is None:
        services = processes.all()
        session.show(services, lambda: _print_services(services))
        return
    if processes.get(name) is None:
        raise NotFoundError("service-not-found", f"there is no background process '{name}'", "modelyard logs")
    if session.json:
        console.print_json({"name": name, "lines": list(processes.logs(name, lines=lines))})
        return
    for line in processes.follow(name, lines=lines) if follow else processes.logs(name, lines=lines):
        click.echo(line)


@click.command("open")
@click.argument("name", required=False)
@click.option("--print", "only_print", is_flag=True, help="Print the address only.")
@json_option
def open_(session: Session, name: str | None, only_print: bool) -> None:
    """Open a background process' page in the browser.

    \b
    Example:
      modelyard open monitor
    """
    running = [s for s in session.bare_yard.services() if s.url and s.status == "running"]
    chosen = [s for s in running if s.name == name] if name else running[:1]
    if not chosen:
        names = ", ".join(s.name for s in running)
        said = f"no '{name}' runs here" if name else "nothing with a page runs here"
        raise NotFoundError(
            "service-not-found", said + (f"; running: {names}" if names else ""), "modelyard up"
        )
    url = chosen[0].url or ""
    session.show({"name": chosen[0].name, "url": url}, lambda: click.echo(url))
    if not only_print and not session.json:
        click.launch(url)


@click.command()
@json_option
def doctor(session: Session) -> int:
    """Look for what could go wrong on this machine, in this project and on its target, and say what to do.

    \b
    Example:
      modelyard doctor
      modelyard --target prod doctor
    """
    from modelyard.doctor import examine

    checks = list(examine(session.folder, session.target))
    session.show(checks, lambda: _print_checks(checks))
    return 8 if any(check.status == "failed" for check in checks) else 0


def _print_services(services: list[Service]) -> None:
    rows = [(s.name, s.status, s.url, s.pid, s.started, s.message) for s in services]
    console.table(
        ("NAME", "STATUS", "URL", "PID", "SINCE (UTC)", ""), rows, empty="no background processes yet"
    )


def _print_checks(checks: list[Check]) -> None:
    signs = {"ok": "ok", "warning": "warn", "failed": "FAIL"}
    for check in checks:
        click.echo(f"{signs[check.status]:5} {check.name}: {check.message}")
        if check.hint and check.status != "ok":
            click.echo(f"      next: {check.hint}")
