"""What the components apply: within the profiles' promises, closed, and taken by a real API server."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from modelyard.components import Component, Manifest, Release
from modelyard.kube import Cluster, ref_of
from modelyard.plugins import PluginManager
from modelyard_sandbox.applier import Applier
from modelyard_sandbox.folder import SandboxFolder
from modelyard_sandbox.ports import choose_ports
from modelyard_sandbox.readiness import WORKLOADS
from modelyard_sandbox.selection import FITS, PROFILES, chosen, offered, requests
from modelyard_sandbox.site import SandboxSite

CACHE = Path(os.environ.get("MODELYARD_TEST_CLUSTER_CACHE") or "/var/cache/modelyard-cluster")
RELEASES = CACHE / "manifests-of-releases"
#: What Kubernetes itself asks for on kind's node (CPUs), and what it, containerd and the system take (bytes).
KUBERNETES = (0.95, 1_000_000_000)
#: One model with its logger, in the sandbox's own defaults.
MODEL = (0.04, 300_000_000)


@cache
def _read(release: Release) -> bytes:
    return (RELEASES / release.name).read_bytes()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The components of a profile, and a sandbox as they see it."""
    if not RELEASES.is_dir():
        pytest.skip(f"the release files are not there: run tests/cluster/prepare ({RELEASES})")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(CACHE / "parsed"))
    folder = SandboxFolder("trial")
    folder.prepare()

    def made(profile: str, *with_: str) -> tuple[list[Component], SandboxSite]:
        everything = offered(PluginManager())
        parts = chosen(everything, profile, with_, ())
        choose_ports(folder, everything.values())
        return parts, SandboxSite(folder, parts, lambda reference: reference, _read)

    return made


def _objects(parts: Iterable[Component], site: SandboxSite) -> list[Manifest]:
    return [manifest for part in parts for manifest in part.objects(site)]


def _pods(manifests: Iterable[Manifest]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{m['kind']} {m['metadata']['name']}", m["spec"]["template"]["spec"])
        for m in manifests
        if m["kind"] in WORKLOADS
    ]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_fits_what_it_promises(site: Any, profile: str) -> None:
    manifests = _objects(*site(profile))
    cpus, memory = requests(manifests)
    room, cores = FITS[profile]  # type: ignore[index]
    assert cpus + KUBERNETES[0] + MODEL[0] <= cores
    assert memory + KUBERNETES[1] + MODEL[1] <= room


@pytest.mark.parametrize("profile", PROFILES)
def test_every_container_says_what_it_needs_and_may_take(site: Any, profile: str) -> None:
    for name, pod in _pods(_objects(*site(profile))):
        for container in pod["containers"]:
            found = container.get("resources") or {}
            assert found.get("requests", {}).keys() >= {"cpu", "memory"}, name
            assert "memory" in found.get("limits", {}), name
            assert "cpu" not in found.get("limits", {}), f"{name}: it would only start slowly"


def test_nothing_runs_as_root_and_no_image_is_pulled_behind_our_back(site: Any) -> None:
    parts, found = site("full")
    known = {image for part in parts for image in part.images}
    for name, pod in _pods(_objects(parts, found)):
        for container in pod["containers"]:
            both = {**(pod.get("securityContext") or {}), **(container.get("securityContext") or {})}
            assert both.get("runAsNonRoot") is True or both.get("runAsUser"), name
            assert container["image"] in known, f"{name}: {container['image']}"
            assert container.get("imagePullPolicy", "IfNotPresent") == "IfNotPresent", name


def test_every_object_belongs_to_one_component(site: Any) -> None:
    parts, found = site("full")
    owners: dict[Any, str] = {}
    for part in parts:
        for manifest in part.objects(found):
            other = owners.setdefault(ref_of(manifest), part.name)
            assert other == part.name, f"{ref_of(manifest)} is of {other} and {part.name}"


def test_what_is_asked_for_is_the_same_every_time(site: Any) -> None:
    """Or a second `up` would find differences where there are none."""
    parts, found = site("full")
    assert _objects(parts, found) == _objects(parts, found)


def test_with_cert_manager_it_signs_and_we_do_not(site: Any) -> None:
    parts, found = site("minimal", "cert-manager")
    manifests = _objects(parts, found)
    assert [part.name for part in parts].index("cert-manager") < [part.name for part in parts].index("kserve")
    assert {"Certificate", "Issuer"} <= {manifest["kind"] for manifest in manifests}
    assert not [m for m in manifests if m["metadata"]["name"] == "kserve-webhook-server-cert"]
    hooks = [m for m in manifests if m["kind"].endswith("WebhookConfiguration")]
    assert "caBundle" not in str(hooks)
    injected = [h for h in hooks if "inject-ca-from" in str(h["metadata"].get("annotations"))]
    assert len(injected) >= 6


@pytest.mark.parametrize("profile", PROFILES)
def test_the_api_server_takes_everything_and_a_second_time_writes_nothing(
    site: Any, profile: str, light_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without webhooks, which no pretended pod answers."""
    parts, found = site(profile)
    applier = Applier(light_cluster)
    applier.make_namespace()
    objects = {
        part.name: [m for m in part.objects(found) if not m["kind"].endswith("WebhookConfiguration")]
        for part in parts
    }
    for part in parts:
        done = applier.apply(part.name, objects[part.name], before_webhooks=lambda: None, say=lambda _: None)
        applier.record(part.name, part.version, done)
    sent: list[str] = []
    send = light_cluster._send

    def counted(method: str, *args: Any, **more: Any) -> Any:
        sent.append(method)
        return send(method, *args, **more)

    monkeypatch.setattr(light_cluster, "_send", counted)
    inventories = applier.inventories()
    for part in parts:
        difference = applier.difference(part.name, objects[part.name], inventories[part.name]["objects"])
        assert not difference, f"{part.name}: {difference}"
    assert set(sent) == {"GET"}
