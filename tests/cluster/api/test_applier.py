"""What the sandbox applies, finds changed, and takes away again, against a real API server."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from modelyard.errors import ModelyardError, NotFoundError
from modelyard.kube import ApiFault, Cluster, Ref, ref_of
from modelyard_sandbox import pruning
from modelyard_sandbox.applier import Applier
from modelyard_sandbox.pruning import Pruner


def config(name: str, namespace: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def definition(kind: str, group: str, versions: tuple[str, ...] = ("v1",)) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "versions": [
                {"name": name, "served": True, "storage": name == versions[-1], "schema": schema}
                for name in versions
            ],
        },
    }


def thing(kind: str, group: str, name: str, namespace: str, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"{group}/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": {"size": 1},
    }


@pytest.fixture
def applier(light_cluster: Cluster) -> Applier:
    found = Applier(light_cluster)
    found.make_namespace()
    return found


def apply(applier: Applier, component: str, manifests: list[dict[str, Any]], version: str = "1") -> Any:
    """As `up` does it, without workloads to wait for."""
    done = applier.apply(component, manifests, before_webhooks=lambda: None, say=lambda _: None)
    applier.record(component, version, done)
    return done


def known(applier: Applier, component: str) -> Any:
    return applier.inventories()[component]["objects"]


def test_a_namespace_a_kind_and_an_object_of_it_go_in_one_go(
    applier: Applier, light_cluster: Cluster, namespace: str
) -> None:
    group = f"{namespace}.example.org"
    manifests = [
        thing("Widget", group, "one", f"{namespace}-own"),
        definition("Widget", group),
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"{namespace}-own"}},
        config("settings", f"{namespace}-own", a="1"),
    ]
    apply(applier, f"c-{namespace}", manifests)
    assert light_cluster.get(ref_of(manifests[0]))
    assert not applier.difference(f"c-{namespace}", manifests, known(applier, f"c-{namespace}"))


def test_what_others_change_is_found_and_what_they_add_is_left_alone(
    applier: Applier, light_cluster: Cluster, namespace: str
) -> None:
    manifests = [config(name, namespace, a="1") for name in ("kept", "changed", "deleted", "more")]
    component = f"c-{namespace}"
    apply(applier, component, manifests)
    light_cluster.patch(Ref("v1", "ConfigMap", namespace, "changed"), {"data": {"a": "2"}})
    light_cluster.delete(Ref("v1", "ConfigMap", namespace, "deleted"))
    other = {"data": {"b": "theirs"}}
    light_cluster.request(
        "PATCH",
        light_cluster.path(Ref("v1", "ConfigMap", namespace, "more")),
        {"fieldManager": "somebody"},
        body=other,
        content_type="application/merge-patch+json",
    )
    differing = applier.difference(component, manifests, known(applier, component)).differing
    assert {ref.name for ref in differing} == {"changed", "deleted"}
    apply(applier, component, manifests)
    assert not applier.difference(component, manifests, known(applier, component))
    more = light_cluster.get(Ref("v1", "ConfigMap", namespace, "more"))
    assert more is not None
    assert more["data"] == {"a": "1", "b": "theirs"}


def test_a_field_that_somebody_else_took_is_taken_back(
    applier: Applier, light_cluster: Cluster, namespace: str
) -> None:
    manifests = [config("settings", namespace, a="ours")]
    component = f"c-{namespace}"
    apply(applier, component, manifests)
    light_cluster.request(
        "PATCH",
        light_cluster.path(ref_of(manifests[0])),
        {"fieldManager": "somebody", "force": "true"},
        body=config("settings", namespace, a="theirs"),
        content_type="application/apply-patch+yaml",
    )
    assert applier.difference(component, manifests, known(applier, component))
    apply(applier, component, manifests)
    found = light_cluster.get(ref_of(manifests[0]))
    assert found is not None
    assert found["data"] == {"a": "ours"}


def test_an_upgrade_takes_away_what_the_new_version_lacks(
    applier: Applier, light_cluster: Cluster, namespace: str
) -> None:
    component = f"c-{namespace}"
    apply(applier, component, [config("old", namespace), config("both", namespace, a="1")], version="1")
    wanted = [config("both", namespace, a="2"), config("new", namespace)]
    difference = applier.difference(component, wanted, known(applier, component))
    assert [ref.name for ref in difference.gone] == ["old"]
    assert {ref.name for ref in difference.differing} == {"both", "new"}
    assert difference.summary == "change 2 objects, remove 1"
    apply(applier, component, wanted, version="2")
    Pruner(light_cluster, lambda _: None, lambda _: None).prune(difference.gone, ())
    assert light_cluster.get(Ref("v1", "ConfigMap", namespace, "old")) is None
    assert applier.inventories()[component]["version"] == "2"


def test_thousands_of_objects_are_compared_with_a_handful_of_requests(
    applier: Applier, light_cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = [config(f"n{number}", namespace, value=str(number)) for number in range(2000)]
    component = f"c-{namespace}"
    apply(applier, component, manifests)
    asked: list[str] = []
    send = light_cluster._send

    def counted(method: str, path: str, *args: Any, **more: Any) -> Any:
        asked.append(method)
        return send(method, path, *args, **more)

    monkeypatch.setattr(light_cluster, "_send", counted)
    inventory = known(applier, component)
    assert len(inventory) == 2000
    assert not applier.difference(component, manifests, inventory)
    assert len(asked) <= 12
    assert set(asked) == {"GET"}


# -- taking away --------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pruning, "_PATIENCE", 3.0)
    return


def test_a_component_goes_with_its_kinds_and_says_what_else_goes(
    applier: Applier, light_cluster: Cluster, namespace: str
) -> None:
    group = f"{namespace}.example.org"
    own = f"{namespace}-own"
    manifests = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": own}},
        definition("Gadget", group),
        thing("Gadget", group, "ours", own),
        config("settings", own),
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": f"c-{namespace}"},
            "rules": [],
        },
    ]
    done = apply(applier, f"c-{namespace}", manifests)
    light_cluster.create(thing("Gadget", group, "somebodys", namespace))
    warnings: list[str] = []
    began = time.monotonic()
    Pruner(light_cluster, lambda _: None, warnings.append).prune([line.ref for line in done], ())
    assert time.monotonic() - began < 60
    assert warnings == [f"with their kind go: Gadget somebodys in {namespace}"]
    for manifest in manifests:
        try:
            assert light_cluster.get(ref_of(manifest)) is None
        except NotFoundError:
            assert manifest["kind"] == "Gadget"


def test_a_kind_goes_though_somebody_makes_its_objects_anew(
    applier: Applier, light_cluster: Cluster, namespace: str
) -> None:
    group = f"{namespace}.example.org"
    done = apply(applier, f"c-{namespace}", [definition("Weed", group)])
    weeds = [thing("Weed", group, f"weed-{number}", namespace) for number in range(5)]
    over = threading.Event()

    def grow() -> None:
        while not over.is_set():
            for weed in weeds:
                with contextlib.suppress(ModelyardError):
                    light_cluster.create(weed)

    growing = threading.Thread(target=grow)
    growing.start()
    try:
        while not light_cluster.find(f"{group}/v1", "Weed", namespace=namespace):
            time.sleep(0.1)
        Pruner(light_cluster, lambda _: None, lambda _: None).prune([line.ref for line in done], ())
    finally:
        over.set()
        growing.join()
    assert light_cluster.get(ref_of(definition("Weed", group))) is None


def test_what_another_component_still_wants_stays(
    applier: Applier, light_cluster: Cluster, namespace: str
) -> None:
    shared, own = config("shared", namespace), config("own", namespace)
    done = apply(applier, f"c-{namespace}", [shared, own])
    kept = {ref_of(shared)}
    Pruner(light_cluster, lambda _: None, lambda _: None).prune([line.ref for line in done], kept)
    assert light_cluster.get(ref_of(shared))
    assert light_cluster.get(ref_of(own)) is None


@pytest.mark.usefixtures("impatient")
def test_what_holds_an_object_back_is_said(applier: Applier, light_cluster: Cluster, namespace: str) -> None:
    group = f"{namespace}.example.org"
    done = apply(applier, f"c-{namespace}", [definition("Stone", group)])
    held = thing("Stone", group, "held", namespace, finalizers=["example.org/nobody-removes-it"])
    light_cluster.create(held)
    pruner = Pruner(light_cluster, lambda _: None, lambda _: None)
    with pytest.raises(ApiFault, match=r"Stone held .* something holds it back") as fault:
        pruner.prune([line.ref for line in done], ())
    assert fault.value.code == "object-stays"
    assert "kubectl get stone held" in fault.value.hint
    light_cluster.patch(ref_of(held), {"metadata": {"finalizers": None}})
    pruner.prune([line.ref for line in done], ())


def test_an_object_of_a_kind_that_nobody_defines_is_said(
    applier: Applier, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelyard_sandbox import applier as module

    monkeypatch.setattr(module, "_PATIENCE", 1.0)
    with pytest.raises(NotFoundError, match=r"knows no Ghost in ghosts\.example\.org/v1"):
        apply(applier, f"c-{namespace}", [thing("Ghost", "ghosts.example.org", "boo", namespace)])


def test_a_wrong_object_is_the_clusters_own_sentence(applier: Applier, namespace: str) -> None:
    wrong = {**config("settings", namespace), "data": {"a": 1}}
    with pytest.raises(ApiFault, match="configmaps/settings") as fault:
        apply(applier, f"c-{namespace}", [wrong])
    assert fault.value.code == "kube-refused"
    assert fault.value.status in (400, 422, 500)
