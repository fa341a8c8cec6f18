"""All hooks of Modelyard. A plugin implements the ones it wants, with `@modelyard.hookimpl`.

*Offers* yield records; the project picks one by name (`[stages]` in `modelyard.toml`), never by
order. *Events* tell every listener and return nothing; a listener that fails is reported and never
stops the work. A plugin's module must import fast: put heavy imports inside the factories.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from modelyard.active import ActiveRun
    from modelyard.components import Component
    from modelyard.offers import CheckOffer, GateOffer, Offer
    from modelyard.records import Endpoint, Promotion, Run
    from modelyard.stages import DataStore, Monitor, Registry, Server, Tracker
    from modelyard.targets import TargetOffer
    from modelyard.yard import Yard

hookspec = pluggy.HookspecMarker("modelyard")
hookimpl = pluggy.HookimplMarker("modelyard")


@hookspec
def modelyard_trackers() -> Iterable[Offer[Tracker]]:  # type: ignore[empty-body]
    """Offer trackers for the stage `track`.

    Example:
        @modelyard.hookimpl
        def modelyard_trackers():
            yield Offer(name="notebook", summary="runs in a CSV file", factory=open_tracker)

    Returns:
        `Offer` records; `factory(context)` returns a `modelyard.stages.Tracker`.
    """


@hookspec
def modelyard_data_stores() -> Iterable[Offer[DataStore]]:  # type: ignore[empty-body]
    """Offer data stores for the stage `data`.

    Example:
        @modelyard.hookimpl
        def modelyard_data_stores():
            yield Offer(name="lakefs", summary="lakeFS branches", factory=open_store)

    Returns:
        `Offer` records; `factory(context)` returns a `modelyard.stages.DataStore`.
    """


@hookspec
def modelyard_registries() -> Iterable[Offer[Registry]]:  # type: ignore[empty-body]
    """Offer registries for the stage `registry`.

    Example:
        @modelyard.hookimpl
        def modelyard_registries():
            yield Offer(name="folder", summary="models in a shared folder", factory=open_registry)

    Returns:
        `Offer` records; `factory(context)` returns a `modelyard.stages.Registry`.
    """


@hookspec
def modelyard_servers() -> Iterable[Offer[Server]]:  # type: ignore[empty-body]
    """Offer servers for the stage `serving`.

    Example:
        @modelyard.hookimpl
        def modelyard_servers():
            yield Offer(name="edge", summary="our edge boxes", factory=open_server)

    Returns:
        `Offer` records; `factory(context)` returns a `modelyard.stages.Server`.
    """


@hookspec
def modelyard_monitors() -> Iterable[Offer[Monitor]]:  # type: ignore[empty-body]
    """Offer monitors for the stage `monitoring`.

    Example:
        @modelyard.hookimpl
        def modelyard_monitors():
            yield Offer(name="psi", summary="PSI on our warehouse", factory=open_monitor)

    Returns:
        `Offer` records; `factory(context)` returns a `modelyard.stages.Monitor`.
    """


@hookspec
def modelyard_gates() -> Iterable[GateOffer]:  # type: ignore[empty-body]
    """Offer gates: checks that a promotion must pass when `gates.toml` names them.

    Example:
        @modelyard.hookimpl
        def modelyard_gates():
            yield GateOffer(name="ticket", summary="the reason names a ticket", check=check_ticket)

    Returns:
        `GateOffer` records; `check(candidate, settings)` returns a `GateResult`.
    """


@hookspec
def modelyard_checks() -> Iterable[CheckOffer]:  # type: ignore[empty-body]
    """Offer checks for `modelyard doctor`.

    Example:
        @modelyard.hookimpl
        def modelyard_checks():
            yield CheckOffer(name="vpn", run=check_vpn)

    Returns:
        `CheckOffer` records; `run(root)` returns a `Check`. It must end within a few seconds.
    """


@hookspec
def modelyard_sandbox_components() -> Iterable[Component]:  # type: ignore[empty-body]
    """Offer parts of the sandbox, the local cluster that `modelyard sandbox up` boots.

    Example:
        @modelyard.hookimpl
        def modelyard_sandbox_components():
            yield Component(name="minimal-ui", summary="our page", version="1", objects=write_objects)

    Returns:
        `modelyard.components.Component` records; `objects(site)` yields Kubernetes objects.
    """


@hookspec
def modelyard_targets() -> Iterable[TargetOffer]:  # type: ignore[empty-body]
    """Offer targets: clusters that are there without being named in `modelyard.toml`.

    Example:
        @modelyard.hookimpl
        def modelyard_targets():
            yield TargetOffer(name="shared", summary="our team's cluster", connect=connect_shared)

    Returns:
        `modelyard.targets.TargetOffer` records; `connect()` returns a `modelyard.targets.Target`.
    """


@hookspec
def modelyard_after_run_start(yard: Yard, run: ActiveRun) -> None:
    """A run has started: the tracker knows it, and nothing is logged yet.

    Example:
        @modelyard.hookimpl
        def modelyard_after_run_start(run):
            run.tag({"room": os.environ["ROOM"]})

    Args:
        yard: the open project.
        run: the run, to log to; what takes long belongs into a thread, the user's code waits.
    """


@hookspec
def modelyard_after_run(yard: Yard, run: Run) -> None:
    """A run has ended, well or not.

    Example:
        @modelyard.hookimpl
        def modelyard_after_run(run):
            post_to_chat(f"{run.name} {run.status}: {dict(run.metrics)}")

    Args:
        yard: the open project.
        run: the run with its status and what this process logged.
    """


@hookspec
def modelyard_after_promote(yard: Yard, promotion: Promotion) -> None:
    """An alias moved: a promotion or a rollback is complete and written to the ledger.

    Example:
        @modelyard.hookimpl
        def modelyard_after_promote(promotion):
            post_to_chat(f"{promotion.model} {promotion.to_version} is {promotion.alias}")

    Args:
        yard: the open project.
        promotion: what happened, with person, reason and gates.
    """


@hookspec
def modelyard_after_deploy(yard: Yard, endpoint: Endpoint) -> None:
    """An endpoint was applied or reconciled and is ready.

    Example:
        @modelyard.hookimpl
        def modelyard_after_deploy(endpoint):
            print(endpoint.name, endpoint.revisions[0].version)

    Args:
        yard: the open project.
        endpoint: the endpoint with its revisions, newest first.
    """
