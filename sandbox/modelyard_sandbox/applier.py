"""Apply a component's objects, and know later whether they still stand as applied.

What was applied is kept in the cluster itself, in one ConfigMap per component: for each object a
digest of what we asked for and one of the fields that we own. Any change that somebody else makes to
such a field takes it out of our ownership, so that comparing both digests finds drift with reads
alone: a sandbox that stands as it should is not written to at all.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from modelyard.components import Manifest
from modelyard.errors import NotFoundError
from modelyard.kube import ApiFault, Cluster, Ref, ref_of
from modelyard.kube.api import FIELD_MANAGER

SYSTEM = "modelyard"
MANAGED_BY = "app.kubernetes.io/managed-by"
COMPONENT = "modelyard.dev/component"

#: Kinds in the order in which they can be applied; what is not named are custom resources, which come last.
_WAVES: tuple[tuple[str, ...], ...] = (
    ("Namespace", "CustomResourceDefinition", "PriorityClass", "StorageClass"),
    (
        "ServiceAccount",
        "ClusterRole",
        "Role",
        "ConfigMap",
        "Secret",
        "PersistentVolume",
        "PersistentVolumeClaim",
    ),
    ("ClusterRoleBinding", "RoleBinding", "Service", "NetworkPolicy", "ResourceQuota", "LimitRange"),
    ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"),
    ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"),
)
_WORKLOADS = frozenset(_WAVES[3])
#: Seconds for which a request is tried again that may succeed in a moment.
_PATIENCE = 60.0


@dataclass(frozen=True)
class Applied:
    """One line of the inventory: the object, what we asked for, and what we own of it."""

    ref: Ref
    asked: str
    owned: str

    def to_json(self) -> list[str]:
        """As it stands in the ConfigMap."""
        return [
            self.ref.api_version,
            self.ref.kind,
            self.ref.namespace,
            self.ref.name,
            self.asked,
            self.owned,
        ]


@dataclass(frozen=True)
class Difference:
    """What is not as it should be: objects that are missing, asked for differently, or changed by others;
    and those that are not part of the component any more."""

    differing: tuple[Ref, ...]
    gone: tuple[Ref, ...]

    def __bool__(self) -> bool:
        return bool(self.differing or self.gone)

    @property
    def summary(self) -> str:
        """In a few words."""
        parts = [f"change {len(self.differing)} objects" if self.differing else ""]
        parts += [f"remove {len(self.gone)}" if self.gone else ""]
        return ", ".join(part for part in parts if part) or "unchanged"


class Applier:
    """Applies to one cluster.

    Args:
        cluster: the cluster.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    # -- reading ----------------------------------------------------------------------------

    def inventories(self) -> dict[str, dict[str, Any]]:
        """What was applied, by component: `version`, `objects` (list of `Applied`)."""
        found = {}
        for config in self._cluster.find(
            "v1", "ConfigMap", namespace=SYSTEM, labels=f"{MANAGED_BY}=modelyard"
        ):
            if not config["metadata"]["name"].startswith("inventory-"):
                continue
            data = config.get("data") or {}
            lines = json.loads(data.get("objects", "[]"))
            name = config["metadata"]["name"].removeprefix("inventory-")
            found[name] = {
                "version": data.get("version", ""),
                "objects": [Applied(Ref(*line[:4]), line[4], line[5]) for line in lines],
            }
        return found

    def difference(
        self, component: str, wanted: Iterable[Manifest], inventory: Iterable[Applied]
    ) -> Difference:
        """What of a component is not as it should be. Reads only."""
        known = {line.ref: line for line in inventory}
        asked = {ref_of(m): digest_of(labelled_for(component, m)) for m in wanted}
        differing = [ref for ref, digest in asked.items() if ref not in known or known[ref].asked != digest]
        live = self._owned(ref for ref in asked if ref not in differing)
        differing += [ref for ref, owned in live.items() if owned != known[ref].owned]
        return Difference(tuple(differing), tuple(ref for ref in known if ref not in asked))

    def _owned(self, refs: Iterable[Ref]) -> dict[Ref, str]:
        """Digest of the fields that we own now; empty for an object that is not there. One request per
        kind and namespace."""
        wanted: dict[tuple[str, str, str], list[Ref]] = {}
        for ref in refs:
            wanted.setdefault((ref.api_version, ref.kind, ref.namespace), []).append(ref)

        def of_kind(item: tuple[tuple[str, str, str], list[Ref]]) -> dict[Ref, str]:
            (api_version, kind, namespace), named = item
            try:
                listed = self._cluster.find(api_version, kind, namespace=namespace, only_metadata=True)
            except NotFoundError:
                listed = []
            there = {found["metadata"]["name"]: owned_digest(found) for found in listed}
            return {ref: there.get(ref.name, "") for ref in named}

        with ThreadPoolExecutor(8) as pool:
            return {ref: digest for part in pool.map(of_kind, wanted.items()) for ref, digest in part.items()}

    # -- writing ----------------------------------------------------------------------------

    def make_namespace(self) -> None:
        """The namespace in which inventories and everything of ours lie."""
        if self._cluster.get(Ref("v1", "Namespace", "", SYSTEM)) is None:
            labels = {MANAGED_BY: "modelyard"}
            metadata = {"name": SYSTEM, "labels": labels}
            self._cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def apply(
        self,
        component: str,
        manifests: list[Manifest],
        *,
        before_webhooks: Callable[[], None],
        say: Callable[[str], None],
    ) -> list[Applied]:
        """Apply objects wave by wave.

        Args:
            component: its name, for the labels.
            manifests: everything that it consists of.
            before_webhooks: waits until the workloads are available; webhooks that nobody answers would
                refuse everything.
            say: gets what is being waited for.
        """
        labelled = [labelled_for(component, manifest) for manifest in manifests]
        done: list[Applied] = []
        waited = False
        for number, wave in enumerate([*_WAVES, ()]):
            mine = [m for m in labelled if (m["kind"] in wave if wave else _wave_of(m) is None)]
            if not mine:
                continue
            if number > 3 and not waited and any(m["kind"] in _WORKLOADS for m in labelled):
                before_webhooks()
                waited = True
            with ThreadPoolExecutor(8) as pool:
                done += pool.map(lambda manifest: self._apply_one(manifest, say), mine)
            if number == 0:
                self._await_established([m for m in mine if m["kind"] == "CustomResourceDefinition"], say)
        return done

    def _apply_one(self, manifest: Manifest, say: Callable[[str], None]) -> Applied:
        """Apply one object, again while the reason passes by itself."""
        ref, deadline, pause = ref_of(manifest), time.monotonic() + _PATIENCE, 0.2
        while True:
            try:
                live = self._cluster.apply(manifest)
                return Applied(ref, digest_of(manifest), owned_digest(live))
            except (ApiFault, NotFoundError) as fault:
                passes = fault.code == "kind-unknown" or (isinstance(fault, ApiFault) and fault.passes)
                if not passes or time.monotonic() > deadline:
                    raise
                say(f"{ref}: {fault.message[:120]}")
            time.sleep(pause)
            pause = min(pause * 1.5, 3)

    def _await_established(self, definitions: list[Manifest], say: Callable[[str], None]) -> None:
        names = {found["metadata"]["name"] for found in definitions}
        deadline = time.monotonic() + _PATIENCE
        while names:
            listed = self._cluster.find(
                "apiextensions.k8s.io/v1", "CustomResourceDefinition", labels=f"{MANAGED_BY}=modelyard"
            )
            names -= {found["metadata"]["name"] for found in listed if _is_true(found, "Established")}
            if not names:
                return
            if time.monotonic() > deadline:
                raise ApiFault(
                    "definition-not-established",
                    f"the cluster does not take up the definition {min(names)}",
                    "modelyard sandbox doctor",
                )
            say(f"{len(names)} definitions to be taken up")
            time.sleep(0.2)

    def record(self, component: str, version: str, applied: list[Applied]) -> None:
        """Write the inventory of a component."""
        self._apply_one(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": f"inventory-{component}",
                    "namespace": SYSTEM,
                    "labels": {MANAGED_BY: "modelyard", COMPONENT: component},
                },
                "data": {
                    "version": version,
                    "objects": json.dumps([a.to_json() for a in sorted(applied, key=lambda a: a.ref)]),
                },
            },
            lambda _: None,
        )

    def forget(self, component: str) -> None:
        """Remove a component's inventory."""
        self._cluster.delete(Ref("v1", "ConfigMap", SYSTEM, f"inventory-{component}"))


def labelled_for(component: str, manifest: Manifest) -> Manifest:
    """The manifest with the labels by which it is found again."""
    metadata = dict(manifest["metadata"])
    metadata["labels"] = {**(metadata.get("labels") or {}), MANAGED_BY: "modelyard", COMPONENT: component}
    return {**manifest, "metadata": metadata}


def digest_of(manifest: Mapping[str, Any]) -> str:
    """A short digest of what is asked for."""
    text = json.dumps(manifest, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def owned_digest(live: Mapping[str, Any]) -> str:
    """A short digest of which fields of a live object are ours."""
    for entry in live["metadata"].get("managedFields") or []:
        if (
            entry["manager"] == FIELD_MANAGER
            and entry["operation"] == "Apply"
            and not entry.get("subresource")
        ):
            text = json.dumps(entry["fieldsV1"], sort_keys=True)
            return hashlib.sha256(text.encode()).hexdigest()[:16]
    return ""


def _wave_of(manifest: Mapping[str, Any]) -> int | None:
    return next((n for n, wave in enumerate(_WAVES) if manifest["kind"] in wave), None)


def _is_true(found: Mapping[str, Any], condition: str) -> bool:
    conditions = found.get("status", {}).get("conditions") or []
    return any(c["type"] == condition and c["status"] == "True" for c in conditions)
