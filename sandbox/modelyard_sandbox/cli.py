"""`modelyard sandbox`: the commands."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from modelyard import console
from modelyard.cli.base import Session, json_option
from modelyard.components import Component
from modelyard.errors import NotFoundError
from modelyard.kube import Cluster
from modelyard.plugins import PluginManager
from modelyard_sandbox.access import environment, require
from modelyard_sandbox.bundle_command import bundle, ca_option, mirror_option
from modelyard_sandbox.doctor.command import doctor
from modelyard_sandbox.engine import Engine
from modelyard_sandbox.folder import DEFAULT, SandboxFolder
from modelyard_sandbox.interruption import reported
from modelyard_sandbox.node import Node
from modelyard_sandbox.progress import Progress
from modelyard_sandbox.selection import offered

name_option = click.option("--name", default=DEFAULT, show_default=True, help="Which sandbox.")


@click.group()
def sandbox() -> None:
    """A kind cluster with the full stack on this machine.

    \b
    Example:
      modelyard sandbox up --profile minimal     boot it (4 GB of memory; full: 8 GB)
      modelyard sandbox status                   what runs, and where
      eval "$(modelyard sandbox env)"            let mlflow, dvc, boto3 and kubectl find it
    """


sandbox.add_command(bundle)
sandbox.add_command(doctor)


@sandbox.command()
@name_option
@click.option(
    "--profile", type=click.Choice(["minimal", "full"]), help="Which stack.  [default: as before, or full]"
)
@click.option("--with", "with_", multiple=True, metavar="COMPONENT", help="Add a component.")
@click.option("--without", multiple=True, metavar="COMPONENT", help="Leave a component out.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Take images and manifests from this file.")
@click.option("--no-bundle", is_flag=True, help="Take images from registries again.")
@click.option("--offline", is_flag=True, help="Never reach for the network.")
@mirror_option
@ca_option
@click.option("--timeout", default=300.0, show_default=True, help="Seconds without any progress to wait for.")
@click.option("--force", is_flag=True, help="Go on where the preflight advises against it.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing.")
@json_option
def up(
    session: Session,
    name: str,
    profile: str | None,
    with_: tuple[str, ...],
    without: tuple[str, ...],
    timeout: float,
    force: bool,
    dry_run: bool,
    **sources: Any,
) -> None:
    """Boot, heal, resume, upgrade or shrink the sandbox until it is as asked for.

    Run again it goes on where it stopped, and changes nothing where nothing is to be changed. Without
    --profile, --with and --without it keeps what was asked for before; so it does with the bundle.

    \b
    Example:
      modelyard sandbox up
      modelyard sandbox up --bundle stack.tar --offline --without grafana
    """
    from modelyard_sandbox.up import Up, Wanted

    folder, everything = SandboxFolder(name), _components()
    before = folder.state()
    said = profile is not None or with_ or without
    # A plugin may be gone since; its component goes with it.
    known = {key: [n for n in before.get(key) or () if n in everything] for key in ("with_", "without")}
    wanted = Wanted(
        profile=profile or before.get("profile") or "full",
        with_=with_ if said else tuple(known["with_"]),
        without=without if said else tuple(known["without"]),
        sources=_sources(before, **sources),
        patience=timeout,
        force=force,
    )
    folder.prepare()
    progress = Progress(folder, as_json=session.json, quiet=dry_run)
    with folder.held("sandbox up"), reported(progress), progress.live():
        began = time.monotonic()
        run = Up(folder, everything, wanted, progress)
        if dry_run:
            plan = run.plan()
            session.show(plan, lambda: _print_plan(plan))
            return
        result = run.run()
        took = time.monotonic() - began
    changed = ", ".join(result["changed"]) or "nothing"
    progress.emit(
        "result", f"ready in {took:.0f} s; changed: {changed}", ok=True, seconds=round(took, 1), **result
    )
    if not session.json:
        _show_status(folder)
        click.echo(f"\nready in {took:.0f} s; changed: {changed}")
        click.echo('next: eval "$(modelyard sandbox env)", or in a project: modelyard ship --to sandbox')


def _sources(
    before: Mapping[str, Any],
    *,
    bundle: Path | None,
    no_bundle: bool,
    offline: bool,
    mirrors: tuple[str, ...],
    ca: Path | None,
) -> Any:
    """Where images come from: as said now, else as said before."""
    from modelyard_sandbox.registry import Registries
    from modelyard_sandbox.supply import Sources

    before_bundle = None if no_bundle or not before.get("bundle") else Path(before["bundle"])
    said = Registries.of(mirrors, ca)
    known_ca = Path(before["ca"]) if before.get("ca") else None
    return Sources(
        bundle=bundle.expanduser().absolute() if bundle else before_bundle,
        offline=offline,
        registries=Registries(
            mirrors={**(before.get("mirrors") or {}), **said.mirrors}, ca=said.ca or known_ca
        ),
    )


def _print_plan(plan: Mapping[str, Any]) -> None:
    click.echo(f"node: {plan['node']}")
    console.table(["COMPONENT", "WOULD"], list(plan["components"].items()))


@sandbox.command()
@name_option
@click.option("--purge", is_flag=True, help="Remove the data, too: runs, models, files, passwords.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def down(session: Session, name: str, purge: bool, yes: bool) -> None:
    """Remove the cluster. Data, ports and passwords stay for the next `up`; --purge removes them.

    \b
    Example:
      modelyard sandbox down
      modelyard sandbox down --purge
    """
    folder = SandboxFolder(name)
    require(folder)
    kept = _stored(folder)
    if purge and not yes and not session.json and sys.stdin.isatty():
        click.confirm(
            f"This removes {', '.join(kept) or 'what is left'} of '{name}' for good. Go on?", abort=True
        )
    engine = Engine()
    node = Node(folder, engine)
    with folder.held("sandbox down"):
        image = folder.state().get("node_image")
        node.delete()
        if purge:
            if image:
                node.purge_data(image)
            folder.remove()
    session.show(
        {"name": name, "purged": purge, "data": kept},
        lambda: click.echo(
            f"removed, with everything that it stored: {', '.join(kept) or 'nothing'}"
            if purge
            else f"removed; kept in {folder.data}: {', '.join(kept) or 'nothing'} (--purge removes that, too)"
        ),
    )


@sandbox.command()
@name_option
@json_option
def stop(session: Session, name: str) -> None:
    """Stop the node; everything on it stays, and `start` takes it up again.

    \b
    Example:
      modelyard sandbox stop
    """
    folder = SandboxFolder(name)
    require(folder)
    with folder.held("sandbox stop"), console.waiting("stopping the node"):
        Node(folder, Engine()).stop()
    session.show(
        {"name": name, "state": "stopped"}, lambda: click.echo("stopped; next: modelyard sandbox start")
    )


@sandbox.command()
@name_option
@click.option("--timeout", default=300.0, show_default=True, help="Seconds without any progress to wait for.")
@json_option
def start(session: Session, name: str, timeout: float) -> None:
    """Start a stopped sandbox and wait until everything is ready.

    \b
    Example:
      modelyard sandbox start
    """
    from modelyard_sandbox.resume import resume

    folder = SandboxFolder(name)
    require(folder)
    progress = Progress(folder, as_json=session.json)
    with folder.held("sandbox start"), reported(progress), progress.live():
        began = time.monotonic()
        resume(folder, _components(), progress, patience=timeout)
        took = time.monotonic() - began
    progress.emit("result", f"ready in {took:.0f} s", ok=True, seconds=round(took, 1))
    if not session.json:
        _show_status(folder)


@sandbox.command()
@name_option
@click.option("--watch", is_flag=True, help="Look again every two seconds.")
@json_option
def status(session: Session, name: str, watch: bool) -> None:
    """What runs, where it answers, and what it takes.  Exit status: 0 ready, 1 degraded, 4 absent.

    \b
    Example:
      modelyard sandbox status
    """
    from modelyard_sandbox.status import look

    folder, everything = SandboxFolder(name), _components()
    while True:
        found = look(folder, everything, Engine())
        if watch and not session.json:
            click.clear()
        session.show(found, lambda found=found: _print_status(found))  # type: ignore[misc]
        if not watch:
            break
        time.sleep(2)
    raise click.exceptions.Exit({"ready": 0, "absent": 4}.get(found.state, 1))


@sandbox.command()
@name_option
@click.argument("component")
@click.option("-n", "--lines", default=100, show_default=True, help="Lines of each container.")
@click.option("--previous", is_flag=True, help="Of the containers before their last restart.")
@click.option("--since", default=0, metavar="SECONDS", help="Leave out what is older.")
@click.option("-f", "--follow", is_flag=True, help="Go on as they write.")
@json_option
def logs(
    session: Session, name: str, component: str, lines: int, previous: bool, since: int, follow: bool
) -> None:
    """What the pods of a component wrote, merged by time.

    \b
    Example:
      modelyard sandbox logs mlflow -n 20 -f
    """
    from modelyard_sandbox.logs import followed, merged

    folder = SandboxFolder(name)
    require(folder)
    cluster, everything = Cluster(folder.kubeconfig), _components()
    found = merged(cluster, component, everything, lines=lines, previous=previous, since=since)
    session.show(found, lambda: click.echo("\n".join(f"{line.pod} {line.text}" for line in found)))
    if follow and not session.json:
        for pod, line in followed(cluster, component, everything):
            click.echo(f"{pod} {line}")


@sandbox.command(name="open")
@name_option
@click.argument("component")
@click.option("--print-url", is_flag=True, help="Print the address instead of opening it.")
@json_option
def open_(session: Session, name: str, component: str, print_url: bool) -> None:
    """Open the page of a component: mlflow, prometheus, grafana, ...

    \b
    Example:
      modelyard sandbox open mlflow
    """
    folder = SandboxFolder(name)
    require(folder)
    everything = _components()
    with_page = {c.name: p for c in everything.values() for p in c.ports if p.page is not None}
    if component not in with_page:
        there = ", ".join(with_page)
        raise NotFoundError("no-page", f"'{component}' has no page", f"these have: {there}")
    port = with_page[component]
    url = f"http://127.0.0.1:{folder.state()['ports'][port.name]}{port.page}"
    login = {"mlflow": ("admin", "mlflow-password"), "grafana": ("admin", "grafana-admin")}.get(component)
    session.show({"url": url}, lambda: click.echo(url))
    if print_url or session.json:
        return
    if login:
        click.echo(f"user {login[0]}, password: modelyard sandbox env", err=True)
    click.launch(url)


@sandbox.command()
@name_option
@json_option
def env(session: Session, name: str) -> None:
    """Print what plain mlflow, dvc, boto3 and kubectl need, for a shell to take over.

    \b
    Example:
      eval "$(modelyard sandbox env)"
    """
    found = environment(SandboxFolder(name))
    lines = [f"export {name}={shlex.quote(value)}" for name, value in found.items()]
    session.show(found, lambda: click.echo("\n".join(lines)))


def _components() -> dict[str, Component]:
    return offered(PluginManager())


def _stored(folder: SandboxFolder) -> list[str]:
    """The components that stored something."""
    return sorted(place.name for place in folder.data.glob("*") if place.is_dir() and _holds(place))


def _holds(place: Path) -> bool:
    try:
        return any(place.iterdir())
    except OSError:  # it belongs to the user of a pod
        return True


def _show_status(folder: SandboxFolder) -> None:
    from modelyard_sandbox.status import look

    _print_status(look(folder, _components(), Engine()))


def _print_status(found: Any) -> None:
    rows = [
        [
            c.name,
            c.state,
            c.reason,
            c.version,
            console.size(c.memory) if c.memory else None,
            c.restarts or None,
            c.url,
        ]
        for c in found.components
    ]
    if rows:
        console.table(["COMPONENT", "STATE", "WAITS FOR", "VERSION", "MEMORY", "RESTARTS", "ADDRESS"], rows)
    memory = f", {console.size(found.memory)} of memory in all" if found.memory else ""
    disk = f", {console.size(found.disk_free)} of disk free" if found.disk_free else ""
    kubernetes = f", Kubernetes {found.kubernetes}" if found.kubernetes else ""
    click.echo(f"sandbox '{found.name}': {found.state}{kubernetes}{memory}{disk}")
    if found.message:
        click.echo(found.message)
