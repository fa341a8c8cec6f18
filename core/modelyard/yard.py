"""The project as one object: everything that the command line and the panel do goes through here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from modelyard import project, targets
from modelyard.active import ActiveRun
from modelyard.areas import Data, Endpoints, Models, Monitoring, Runs
from modelyard.errors import EnvironmentFault, MissingRequirementError, ModelyardError, UsageError
from modelyard.lineage import Node, trace
from modelyard.promotion import Promotions
from modelyard.records import Actor, GateResult, ModelVersion, Promotion, Service
from modelyard.stages import STAGES, StageContext, StageName

if TYPE_CHECKING:
    from modelyard.config import Settings
    from modelyard.plugins import PluginManager
    from modelyard.processes import ProcessServices
    from modelyard.shipping.records import Progress, Shipment
    from modelyard.stages import DataStore, Monitor, Registry, Server, Tracker
    from modelyard.targets import Target

#: Seconds that `up` waits for a model that loads.
_PATIENCE = 120.0


def init(folder: str | Path = ".", *, name: str | None = None) -> Yard:
    """Make a folder a project (one that is a project already stays as it is) and open it.

    Raises:
        EnvironmentFault: the folder can't be written.
    """
    return Yard(project.create(Path(folder), name))


def open(folder: str | Path | None = None, *, set: Sequence[str] = (), target: str | None = None) -> Yard:
    """Open the project in the folder (default: the working directory) or the nearest above it.

    Args:
        folder: where to look.
        set: settings that win over file and environment, e.g. `["stages.track=acme"]`.
        target: where its stages run, e.g. `sandbox`; default: what `modelyard target use`, or the file, says.

    Raises:
        NotFoundError: `project-not-found`.
        ConfigError: `modelyard.toml` is wrong, with the key.
    """
    root = project.find_root(Path(folder) if folder is not None else None)
    yard = Yard(root, overrides=set, target=targets.chosen(root, target))
    _ = yard.settings  # a wrong file is said now, not in the middle of the work
    return yard


class Yard:
    """A project. Providers are opened on first use, and once.

    Args:
        root: the folder with `modelyard.toml`.
        overrides: settings that win over file and environment.
        target: the name of the target on which the stages run.
    """

    def __init__(self, root: Path, *, overrides: Sequence[str] = (), target: str = targets.LOCAL) -> None:
        self.root = root
        self.target_name = target
        self.state = targets.state_of(project.prepare_state(root), target)
        self.overrides = tuple(overrides)
        self._opened: dict[tuple[StageName, str], Any] = {}
        self.runs = Runs(self)
        self.data = Data(self)
        self.models = Models(self)
        self.endpoints = Endpoints(self)
        self.monitor = Monitoring(self)
        self._promotions = Promotions(self)

    def __repr__(self) -> str:
        return f"<modelyard project at {self.root}>"

    # -- runs -------------------------------------------------------------------------------

    def run(self, name: str, *, params: Mapping[str, object] | None = None) -> ActiveRun:
        """Start a run; use it as a context manager.

        Example:
            with yard.run("late-flights", params={"depth": 6}) as run:
                run.log({"auc": 0.71})
        """
        from modelyard.capture import run_context

        started = self.tracker.start(name, run_context(self.root))
        return ActiveRun(self, started, params or {})

    # -- promotion --------------------------------------------------------------------------

    def check_gates(self, version: ModelVersion | str, *, to: str) -> tuple[GateResult, ...]:
        """What the gates say about a version that wants an alias; nothing moves."""
        return self._promotions.check(self._version(version), to)

    def promote(
        self,
        version: ModelVersion | str,
        *,
        to: str,
        reason: str,
        expect: str | None = None,
        by: Actor | None = None,
    ) -> Promotion:
        """Give an alias to a version, if its gates pass; endpoints that follow the alias move too.

        Args:
            version: the version, or `NAME/VERSION`.
            to: the alias.
            reason: why.
            expect: the version that must hold the alias now; "": nobody may.
            by: who does it, for tools that know their user; default: the machine's user.

        Raises:
            GateError: `gate-refused`.
            ConflictError: `alias-moved`.
        """
        return self._promotions.promote(self._version(version), to, reason, expect=expect, by=by)

    def rollback(
        self,
        model: str,
        *,
        alias: str = "production",
        reason: str,
        expect: str | None = None,
        by: Actor | None = None,
    ) -> Promotion:
        """Give the alias back to the version that was last deployed well before the current one.

        Args:
            model, alias: whose alias.
            reason: why.
            expect: the version that must hold the alias now; "": nobody may.
            by: who does it, for tools that know their user; default: the machine's user.

        Raises:
            ConflictError: `alias-moved`.
            NotFoundError: `nothing-to-roll-back`.
        """
        return self._promotions.rollback(model, alias, reason, expect=expect, by=by)

    def rolls_back_to(self, model: str, *, alias: str = "production") -> str | None:
        """The version to which `rollback` would go now; None: there is none. Nothing moves."""
        return self._promotions.rolls_back_to(model, alias)

    def history(self, model: str | None = None) -> list[Promotion]:
        """Every move of an alias, newest first."""
        return self._promotions.history(model)

    def promotions_of(self, model: str) -> list[Promotion]:
        """The moves of one model's aliases, oldest first; empty if there were none."""
        from modelyard.ledger import Ledger

        return Ledger(self.state / "ledger", model).promotions()

    def repair(self, model: str) -> list[Promotion]:
        """Finish what a killed promotion began; note aliases that were moved by other tools."""
        return self._promotions.repair(model)

    def moved_outside(self, model: str) -> dict[str, tuple[str | None, str | None]]:
        """Aliases that stand elsewhere than the ledger says: alias -> (ledger's, registry's version)."""
        return self._promotions.moved_outside(model)

    def lineage(self, anything: str) -> Node:
        """Which data, code, run and person stand behind an id of any kind.

        Raises:
            NotFoundError: `id-not-found`.
        """
        return trace(self, anything)

    def ship(
        self,
        to: str,
        *,
        models: Sequence[str] = (),
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Shipment:
        """Copy data, registered models and their history to a target; what is there already is left alone.

        Args:
            to: the target, e.g. `sandbox`.
            models: only these, with the data of their runs; default: all, and all current data.
            dry_run: say what would be done; nothing is changed there.
            progress: is told how far it is.

        Raises:
            NotFoundError: `target-unknown`, `model-not-found`.
            ConflictError: `locked`: another ship to the target is under way.
            EnvironmentFault: a service of the target does not answer, or refuses the login.
        """
        from modelyard.ship import ship

        return ship(self, to, models=models, dry_run=dry_run, progress=progress)

    # -- background processes ---------------------------------------------------------------

    def up(self, progress: Callable[[str], None] = lambda _: None) -> list[Service]:
        """Start every background process that the project's providers want, and wait until every
        endpoint answers. One that can't be started hinders no other.

        Raises:
            ModelyardError: the first process that could not be started.
            EnvironmentFault: `endpoint-not-ready`, with the reason.
        """
        started, faults = [], []
        for stage in STAGES:
            for spec in self._services_of(stage):
                progress(f"starting {spec.name}")
                try:
                    started.append(self.processes.start(spec))
                except ModelyardError as fault:
                    faults.append(fault)
        if faults:
            raise faults[0]
        if self.serves():
            self._await_endpoints(progress)
        return started

    def down(self, progress: Callable[[str], None] = lambda _: None) -> list[Service]:
        """End every background process of the project."""
        for service in self.processes.all():
            if service.status != "stopped":  # what one that died had started may live on
                progress(service.name)
                self.processes.stop(service.name)
        return self.processes.all()

    def services(self) -> list[Service]:
        """The background processes as they are now."""
        return self.processes.all()

    def _await_endpoints(self, progress: Callable[[str], None]) -> None:
        """Until each is ready, or will not be by waiting, or nothing changed for two minutes."""
        seen, deadline = None, 0.0
        while loading := [found for found in self.server.endpoints() if found.loads]:
            if loading != seen:
                progress(f"waiting for {', '.join(found.name for found in loading)}: loading the model")
                seen, deadline = loading, time.monotonic() + _PATIENCE
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        silent = [found for found in self.server.endpoints() if not found.ready]
        if silent:
            said = "; ".join(f"'{found.name}' is not ready: {found.reason}" for found in silent)
            raise EnvironmentFault("endpoint-not-ready", said, f"modelyard endpoints logs {silent[0].name}")

    def _services_of(self, stage: StageName) -> Sequence[Any]:
        if stage not in ("serving", "monitoring") or not self._available(stage):
            return ()
        return self.provider(stage).services()  # type: ignore[no-any-return]

    # -- providers --------------------------------------------------------------------------

    @cached_property
    def settings(self) -> Settings:
        """`modelyard.toml` with what overrides it."""
        from modelyard.config import load_settings

        return load_settings(self.root, self.overrides)

    @cached_property
    def plugins(self) -> PluginManager:
        """The plugins, loaded on first use."""
        from modelyard.plugins import PluginManager

        return PluginManager(self.root)

    @cached_property
    def processes(self) -> ProcessServices:
        """The project's background processes."""
        from modelyard.processes import ProcessServices

        return ProcessServices(self.state, root=self.root)

    @cached_property
    def target(self) -> Target | None:
        """The cluster on which the stages run; None: processes on this machine.

        Raises:
            NotFoundError: `target-unknown`.
        """
        if self.target_name == targets.LOCAL:
            return None
        return targets.connect(self.target_name, self.settings, self.plugins, self.processes)

    @property
    def name(self) -> str:
        """The project's name."""
        return self.settings.project.name

    @property
    def tracker(self) -> Tracker:
        """The provider of the stage `track`."""
        return cast("Tracker", self.provider("track"))

    @property
    def store(self) -> DataStore:
        """The provider of the stage `data`."""
        return cast("DataStore", self.provider("data"))

    @property
    def registry(self) -> Registry:
        """The provider of the stage `registry`."""
        return cast("Registry", self.provider("registry"))

    @property
    def server(self) -> Server:
        """The provider of the stage `serving`."""
        return cast("Server", self.provider("serving"))

    @property
    def monitor_provider(self) -> Monitor:
        """The provider of the stage `monitoring`; `yard.monitor` is what users call."""
        return cast("Monitor", self.provider("monitoring"))

    def provider(self, stage: StageName) -> Any:
        """The opened provider that the project names for a stage.

        Raises:
            ConfigError: `provider-unknown`, `provider-wrong-type`, or its settings are wrong.
            MissingRequirementError: `extra-missing`, with the pip command.
        """
        name = getattr(self.settings.stages, stage)
        key = (stage, name)
        if key not in self._opened:
            self._opened[key] = self.plugins.open(stage, name, self._context(stage, name))
        return self._opened[key]

    def serves(self) -> bool:
        """Whether the project's server can be used here (its extra is installed)."""
        return self._available("serving")

    def monitors(self) -> bool:
        """Whether the project's monitor can be used here."""
        return self._available("monitoring")

    def inside(self, path: str | Path) -> Path:
        """A path as the user gave it, absolute; relative ones are tried here, then in the project."""
        given = Path(path).expanduser()
        here = Path.cwd() / given
        return here if given.is_absolute() or here.exists() else self.root / given

    def _available(self, stage: StageName) -> bool:
        from modelyard.plugins import missing_requirements

        offered = self.plugins.find(stage, getattr(self.settings.stages, stage))
        return not missing_requirements(offered.offer)

    def _context(self, stage: StageName, name: str) -> StageContext:
        from modelyard.config import provider_settings

        state = self.state / name
        state.mkdir(parents=True, exist_ok=True)
        return StageContext(
            project=self.name,
            root=self.root,
            state=state,
            settings=provider_settings(self.settings, self.root, self.plugins.find(stage, name).offer),
            services=self.processes,
            resolve_model=self.models.resolve,
            find_model=self.models.find,
            event_sink=self._event_sink,
            address_of=lambda version: self.registry.address(version),
            run_artifact=lambda run, path: self.tracker.artifact(run, path),
            target=self.target,
        )

    def _event_sink(self) -> str | None:
        try:
            return self.monitor_provider.event_sink()
        except MissingRequirementError:
            return None

    def _version(self, version: ModelVersion | str) -> ModelVersion:
        if isinstance(version, ModelVersion):
            return version
        if "/" not in version and "@" not in version:
            raise UsageError(
                "version-missing", f"'{version}' names no version", f"say which one: {version}/1"
            )
        return self.models.get(version)
