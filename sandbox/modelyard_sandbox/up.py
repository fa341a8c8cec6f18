"""`sandbox up`: preflight, images, cluster, components, health, access.

Each phase looks first and changes only what is not as it should be, so that a second `up` writes
nothing, and one that was killed goes on where it stopped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from modelyard.components import Component, Manifest
from modelyard.kube import Cluster, ref_of
from modelyard_sandbox.applier import Applier
from modelyard_sandbox.bringing import Bringing
from modelyard_sandbox.doctor.preflight import preflight
from modelyard_sandbox.engine import Engine
from modelyard_sandbox.folder import SandboxFolder
from modelyard_sandbox.health import require_health
from modelyard_sandbox.hurry import Hurry, end_old_leases
from modelyard_sandbox.loading import Loading
from modelyard_sandbox.node import Node
from modelyard_sandbox.order import in_order
from modelyard_sandbox.ports import choose_ports
from modelyard_sandbox.progress import Progress
from modelyard_sandbox.pruning import Pruner
from modelyard_sandbox.readiness import Watcher
from modelyard_sandbox.selection import chosen
from modelyard_sandbox.site import SandboxSite, SandboxVisit
from modelyard_sandbox.supply import Sources, Supply


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What was asked for.

    Attributes:
        profile: `minimal` or `full`.
        with_, without: components to add and to leave out.
        sources: where images may be taken from.
        patience: seconds without progress after which waiting ends.
        force: go on where the preflight advises against it.
    """

    profile: str
    with_: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    sources: Sources = field(default_factory=Sources)
    patience: float = 300.0
    force: bool = False


class Up:
    """One run of `up`.

    Args:
        folder: the sandbox's folder, held by this process.
        everything: every component that is offered, by name.
        wanted: what was asked for.
        progress: where it reports to.
    """

    def __init__(
        self,
        folder: SandboxFolder,
        everything: Mapping[str, Component],
        wanted: Wanted,
        progress: Progress,
    ) -> None:
        self._folder, self._everything, self._wanted, self._progress = folder, everything, wanted, progress
        self._engine = Engine()
        self._node = Node(folder, self._engine)
        self._chosen = chosen(everything, wanted.profile, wanted.with_, wanted.without)
        self._stop = threading.Event()
        self._supply = Supply(folder, self._engine, self._node, wanted.sources, self._stop)
        self._site = SandboxSite(folder, self._chosen, self._supply.image, self._supply.release)
        self._changed: list[str] = []
        self._started = False

    def run(self) -> dict[str, Any]:
        """Boot, heal, upgrade or shrink the sandbox until it is as asked for.

        Returns:
            `components`: their names; `changed`: what had to be done.

        Raises:
            PreflightFailed, EngineUnavailable, ClusterFailed, ImageFault, ComponentFailed, NoProgress.
        """
        with self._progress.phase("preflight", "looking at this machine"):
            ports = choose_ports(self._folder, self._everything.values())
            self._preflight()
            self._remember()
            self._node.clear(partial(self._progress.set, "preflight", "running"))
        with ThreadPoolExecutor(2) as aside:
            # The node takes a while to come up: what needs only its container goes on beside.
            written = aside.submit(self._objects)
            loading = Loading(self._chosen, self._supply, self._node, self._progress)
            aside.submit(loading.run, self._stop)
            try:
                cluster = self._boot(ports)
                with self._progress.phase("components", "applying what is not as it should be"):
                    self._apply_all(cluster, written.result(), loading)
            except BaseException:
                self._stop.set()
                raise
            if loading.count:
                self._changed.append("images")
        with self._progress.phase("health", "asking every component"):
            require_health(self._chosen, self._visit(cluster), self._watcher(cluster), self._say_of)
        self._folder.remember(up=time.time())
        return {"changed": self._changed, "components": [component.name for component in self._chosen]}

    def plan(self) -> dict[str, Any]:
        """What `run` would do. Reads only, preflight included.

        Returns:
            `node` (what becomes of it), `components` (name -> what becomes of it).

        Raises:
            As `run`, where that can be said without changing anything.
        """
        choose_ports(self._folder, self._everything.values())
        self._preflight()
        state = self._node.state()
        names = {component.name: "install" for component in self._chosen}
        if state != "running":
            return {"node": "start" if state == "stopped" else "create", "components": names}
        applier = Applier(Cluster(self._folder.kubeconfig))
        inventories = applier.inventories()
        for name, manifests in self._objects().items():
            if found := inventories.get(name):
                wanted = self._supply.stamped(manifests)
                names[name] = applier.difference(name, wanted, found["objects"]).summary
        return {"node": "keep", "components": names | {n: "remove" for n in inventories if n not in names}}

    # -- the phases -------------------------------------------------------------------------

    def _preflight(self) -> None:
        preflight(
            self._folder,
            self._chosen,
            self._wanted.profile,
            force=self._wanted.force,
            say=partial(self._progress.emit, "warning", phase="preflight"),
        )
        self._supply.check({image for component in self._chosen for image in component.images})

    def _remember(self) -> None:
        registries = self._wanted.sources.registries
        self._folder.remember(
            profile=self._wanted.profile,
            with_=list(self._wanted.with_),
            without=list(self._wanted.without),
            components=[component.name for component in self._chosen],
            bundle=str(self._wanted.sources.bundle) if self._wanted.sources.bundle else None,
            mirrors=dict(registries.mirrors) or None,
            ca=str(registries.ca) if registries.ca else None,
        )

    def _boot(self, ports: Mapping[int, int]) -> Cluster:
        state = self._node.state()

        def say(doing: str) -> None:
            self._progress.set("cluster", "running", doing)

        with self._progress.phase("cluster", f"the node is {state}"):
            if state == "absent":
                image = self._supply.node_image(self._progress)
                self._node.create(image, ports, say)
                self._changed.append("cluster")
            elif state == "stopped":
                self._node.start()
                self._started = True
                self._changed.append("cluster")
            self._node.make_data([c.name for c in self._everything.values()])
            cluster = self._node.wait_ready(say, patience=self._wanted.patience)
            if self._started:
                end_old_leases(cluster, self._node.booted())
            return cluster

    def _objects(self) -> dict[str, list[Manifest]]:
        return {component.name: list(component.objects(self._site)) for component in self._chosen}

    def _apply_all(self, cluster: Cluster, objects: Mapping[str, list[Manifest]], loading: Loading) -> None:
        applier, watcher = Applier(cluster), self._watcher(cluster)
        applier.make_namespace()
        inventories = applier.inventories()
        self._prune(cluster, applier, inventories, objects)
        bringing = Bringing(
            applier,
            watcher,
            self._visit(cluster),
            self._progress,
            self._folder,
            self._stop,
            self._changed,
            Hurry(cluster, watcher, inventories if self._started else {}),
        )

        def bring(component: Component) -> None:
            self._progress.component(component.name, "waiting", "its images")
            loading.wait(component.name)
            watcher.note()
            manifests = self._supply.stamped(objects[component.name])
            bringing.bring(component, manifests, inventories.get(component.name))

        in_order(self._chosen, bring, self._stop)

    def _prune(
        self,
        cluster: Cluster,
        applier: Applier,
        inventories: Mapping[str, Any],
        objects: Mapping[str, list[Manifest]],
    ) -> None:
        """Components that are not wanted any more, the last first; what another still wants stays."""
        kept = {ref_of(manifest) for manifests in objects.values() for manifest in manifests}
        gone = [name for name in inventories if name not in objects]
        order = {name: place for place, name in enumerate(self._everything)}
        for name in sorted(gone, key=lambda name: -order.get(name, 0)):
            pruner = Pruner(
                cluster,
                partial(self._progress.component, name, "removing"),
                partial(self._progress.emit, "warning", component=name),
            )
            pruner.prune([line.ref for line in inventories[name]["objects"]], kept)
            applier.forget(name)
            self._folder.forget_applied(name)
            self._changed.append(f"-{name}")
            self._progress.component(name, "removed")

    def _watcher(self, cluster: Cluster) -> Watcher:
        return Watcher(cluster, self._wanted.patience, self._node.booted())

    def _visit(self, cluster: Cluster) -> SandboxVisit:
        return SandboxVisit(cluster, self._site)

    def _say_of(self, name: str, doing: str) -> None:
        self._progress.component(name, "waiting", doing)
