"""Take away what was applied and is not wanted any more, in an order in which nothing holds it back.

Objects of a component's own kinds go first, those that people made among them, and with them the kinds, while
the controllers that must clean up behind them still run: nobody else would let go of them. Other controllers
may make an object anew as long as its kind does not end, so the kinds do not wait for their last object. Then
webhooks, workloads and the rest, and the namespaces last: one can't end while kinds that may have objects in
it come and go.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable
from functools import partial

from modelyard.errors import NotFoundError
from modelyard.kube import ApiFault, Cluster, Ref

#: Seconds in which the cluster must have removed at least one more object.
_PATIENCE = 90.0
_DEFINITION = "CustomResourceDefinition"
_WEBHOOKS = frozenset({"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"})
_WORKLOADS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"})
_ORDERED = _WEBHOOKS | _WORKLOADS | {"Namespace", _DEFINITION}


class Pruner:
    """Removes objects from one cluster.

    Args:
        cluster: the cluster.
        say: gets what is being removed or waited for; what it raises ends the work.
        warn: gets a sentence about objects of people that go, too.
    """

    def __init__(self, cluster: Cluster, say: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self._cluster, self._say, self._warn = cluster, say, warn

    def prune(self, old: Iterable[Ref], kept: Collection[Ref]) -> int:
        """Remove objects and wait until they are gone.

        Args:
            old: what was applied.
            kept: what stays all the same.

        Returns:
            How many were to go.

        Raises:
            ApiFault: `object-stays`: something holds one back.
        """
        gone = [ref for ref in old if ref not in kept]
        kinds = [ref for ref in gone if ref.kind == _DEFINITION]
        self._remove_kinds(kinds, {(ref.kind, ref.namespace, ref.name) for ref in gone})
        rest = [ref for ref in gone if not self._is_instance(ref, kinds)]
        namespaces = [ref for ref in rest if ref.kind == "Namespace"]
        self._delete(ref for ref in rest if ref.kind in _WEBHOOKS)
        self._delete(ref for ref in rest if ref.kind in _WORKLOADS)
        # A namespace that still holds pods is looked at again after half their grace period: minutes.
        self._await_gone(partial(self._pods, namespaces))
        self._delete(ref for ref in rest if ref.kind not in _ORDERED)
        self._delete(namespaces)
        self._await_gone(partial(self._still_there, namespaces))
        return len(gone)

    def _remove_kinds(self, kinds: list[Ref], ours: Collection[tuple[str, str, str]]) -> None:
        """Kinds with all their objects, of which nobody can make another one once they end."""
        said: set[Ref] = set()

        def left() -> list[Ref]:
            found = [ref for kind in kinds for ref in self._instances(kind)]
            made = [ref for ref in found if (ref.kind, ref.namespace, ref.name) not in ours]
            if theirs := [ref for ref in made if ref not in said and not self._owned[ref]]:
                said.update(theirs)
                self._warn(f"with their kind go: {', '.join(map(str, theirs[:10]))}{_more(theirs[10:])}")
            with contextlib.suppress(ApiFault):  # a webhook that ends, too; the next look tries again
                self._delete(ref for ref in found if not self._ends[ref])
            return found

        self._owned: dict[Ref, bool] = {}
        self._ends: dict[Ref, bool] = {}
        left()
        self._delete(kinds)
        self._await_gone(lambda: [*left(), *self._still_there(kinds)])

    def _instances(self, kind: Ref) -> list[Ref]:
        definition = self._cluster.get(kind)
        if definition is None:
            return []
        spec = definition["spec"]
        stored = next(version["name"] for version in spec["versions"] if version["storage"])
        api_version, name = f"{spec['group']}/{stored}", spec["names"]["kind"]
        try:
            listed = self._cluster.find(api_version, name, only_metadata=True)
        except NotFoundError:  # it is not served any more
            return []
        except ApiFault as fault:  # since a moment ago
            if fault.code != "kube-not-found":
                raise
            return []
        found = []
        for one in listed:
            metadata = one["metadata"]
            ref = Ref(api_version, name, metadata.get("namespace", ""), metadata["name"])
            self._owned[ref] = bool(metadata.get("ownerReferences"))
            self._ends[ref] = "deletionTimestamp" in metadata
            found.append(ref)
        return found

    def _pods(self, namespaces: Iterable[Ref]) -> list[Ref]:
        return [
            Ref("v1", "Pod", space.name, pod["metadata"]["name"])
            for space in namespaces
            for pod in self._cluster.find("v1", "Pod", namespace=space.name, only_metadata=True)
        ]

    @staticmethod
    def _is_instance(ref: Ref, kinds: Iterable[Ref]) -> bool:
        group = ref.api_version.partition("/")[0]
        return any(kind.name.partition(".")[2] == group for kind in kinds)

    def _delete(self, refs: Iterable[Ref]) -> None:
        for ref in refs:
            self._say(f"removing {ref}")
            try:
                self._cluster.delete(ref)
            except NotFoundError:  # its kind is gone, and with it the object
                continue

    def _await_gone(self, left: Callable[[], list[Ref]]) -> None:
        fewest, since = 1 << 30, time.monotonic()
        while there := left():
            if len(there) < fewest:
                fewest, since = len(there), time.monotonic()
            if time.monotonic() - since > _PATIENCE:
                raise ApiFault(
                    "object-stays",
                    f"{there[0]} was deleted, but something holds it back{_more(there[1:])}",
                    f"see its finalizers: kubectl get {there[0].kind.lower()} {there[0].name} -o yaml",
                )
            self._say(f"{there[0]} to be gone{_more(there[1:])}")
            time.sleep(0.3)

    def _still_there(self, refs: Iterable[Ref]) -> list[Ref]:
        return [ref for ref in refs if self._is_there(ref)]

    def _is_there(self, ref: Ref) -> bool:
        try:
            return self._cluster.get(ref) is not None
        except NotFoundError:
            return False


def _more(refs: Collection[Ref]) -> str:
    return f", and {len(refs)} more" if refs else ""
