"""`modelyard doctor`: checks of machine, project and plugins; one that fails hides no other."""

from __future__ import annotations

import difflib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from modelyard import targets
from modelyard.config import provider_settings
from modelyard.errors import ModelyardError, NotFoundError
from modelyard.plugins import PluginManager, missing_requirements
from modelyard.project import find_root
from modelyard.records import Check
from modelyard.stages import STAGES
from modelyard.yard import Yard

_ROOM = 2_000_000_000


def examine(folder: Path | None = None, target: str | None = None) -> Iterator[Check]:
    """Every check, in order: machine, project, stages, plugins, what they offer, then the target.

    Args:
        folder: where to look for a project; None: here and above.
        target: asked for by name; None: the one that the project's commands take.
    """
    yield from (_python(), _git(), _disk(folder or Path.cwd()))
    try:
        root: Path | None = find_root(folder)
    except NotFoundError as fault:
        root = None
        yield Check(name="project", status="warning", message=fault.message, hint=fault.hint)
    plugins = PluginManager(root, warn=lambda _: None)
    if root is not None:
        yield from _project(root, plugins)
    yield from _plugins(plugins)
    for offered in plugins.offers("modelyard_checks"):
        yield from _guarded(offered.offer.name, lambda o=offered.offer: o.run(root))  # type: ignore[misc]
    if root is not None and (name := targets.chosen(root, target)) != targets.LOCAL:
        yield from _guarded(f"target {name}", lambda: _target(root, name))


def _python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    where = "in a virtual environment" if sys.prefix != sys.base_prefix else "not in a virtual environment"
    return Check(name="python", status="ok", message=f"{version}, {where}")


def _git() -> Check:
    if shutil.which("git"):
        return Check(name="git", status="ok", message="found")
    return Check(
        name="git",
        status="warning",
        message="not found: runs are tracked without their commit",
        hint="install git, e.g. apt-get install git",
    )


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    message = f"{free / 1e9:.1f} GB free at {folder}"
    if free < _ROOM:
        return Check(name="disk", status="warning", message=message, hint="free some space")
    return Check(name="disk", status="ok", message=message)


def _project(root: Path, plugins: PluginManager) -> Iterator[Check]:
    yard = Yard(root)
    if not os.access(yard.state, os.W_OK):
        yield Check(
            name="state",
            status="failed",
            message=f"{yard.state} can't be written",
            hint=f"ls -ld '{yard.state}'",
        )
    yield from _guarded("project", lambda: _settings(yard))
    yield from _guarded("services", lambda: _services(yard))
    yield from _guarded("ledger", lambda: _ledgers(yard))
    yield from _guarded("stages", lambda: _stages(yard, plugins))
    yield from _guarded("settings", lambda: _provider_tables(yard, plugins))


def _settings(yard: Yard) -> Check:
    return Check(name="project", status="ok", message=f"'{yard.name}' in {yard.root}")


def _services(yard: Yard) -> Check:
    died = [service for service in yard.services() if service.status == "died"]
    if died:
        said = "; ".join(f"{service.name} died: {service.message}" for service in died)
        hint = f"modelyard logs {died[0].name}, then modelyard up"
        return Check(name="services", status="failed", message=said, hint=hint)
    return Check(name="services", status="ok", message="none died")


def _ledgers(yard: Yard) -> Check:
    count = len(yard.history())
    return Check(name="ledger", status="ok", message=f"{count} moves of aliases, chain whole")


def _stages(yard: Yard, plugins: PluginManager) -> Iterator[Check]:
    for stage in STAGES:
        name = getattr(yard.settings.stages, stage)
        try:
            offer = plugins.find(stage, name).offer
        except ModelyardError as fault:
            yield Check(name=stage, status="failed", message=fault.message, hint=fault.hint)
            continue
        missing = missing_requirements(offer)
        if missing:
            yield Check(
                name=stage,
                status="failed",
                message=f"{name} needs {', '.join(missing)}",
                hint=f"pip install '{offer.install}'",
            )
        else:
            yield Check(name=stage, status="ok", message=name)


def _provider_tables(yard: Yard, plugins: PluginManager) -> Iterator[Check]:
    """Also the tables of providers that are not chosen: those are read by nobody else."""
    offered = {name: stage for stage in STAGES for name in plugins.names(stage)}
    for name in yard.settings.providers:
        if name not in offered:
            near = difflib.get_close_matches(name, offered, n=1)
            yield Check(
                name=f"providers.{name}",
                status="warning",
                message=f"nobody offers a provider '{name}', so nobody reads its settings",
                hint=f"did you mean [providers.{near[0]}]?" if near else "modelyard plugins list",
            )
        else:
            provider_settings(yard.settings, yard.root, plugins.find(offered[name], name).offer)


def _target(root: Path, name: str) -> Iterator[Check]:
    from modelyard.kube.rights import examine_target

    found = Yard(root, target=name).target
    if found is not None:
        yield from examine_target(found)


def _plugins(plugins: PluginManager) -> Iterator[Check]:
    for info in plugins.infos():
        if info.status == "broken":
            yield Check(
                name=f"plugin {info.name}",
                status="failed",
                message=f"of {info.distribution}: {info.message}",
                hint=f"pip uninstall {info.distribution}, or --no-plugins={info.name}",
            )


def _guarded(name: str, run: Callable[[], Check | Iterable[Check]]) -> list[Check]:
    try:
        found = run()
        checks = [found] if isinstance(found, Check) else list(found)
        if wrong := [type(check).__name__ for check in checks if not isinstance(check, Check)]:
            raise TypeError(f"it returned a {wrong[0]}, not a Check")
        return checks
    except ModelyardError as fault:
        return [Check(name=name, status="failed", message=fault.message, hint=fault.hint)]
    except Exception as fault:
        said = f"the check itself failed: {type(fault).__name__}: {fault}"
        return [Check(name=name, status="failed", message=said)]
