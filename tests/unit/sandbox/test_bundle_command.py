"""`modelyard sandbox bundle`, with archives made here and a registry on 127.0.0.1."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from modelyard.cli.base import Session
from modelyard.components import Component
from modelyard.errors import ModelyardError
from modelyard.plugins import PluginManager
from modelyard_sandbox.bundle import Bundle
from modelyard_sandbox.bundle_command import bundle
from modelyard_sandbox.lock import Lock
from modelyard_sandbox.selection import offered

MANIFEST = b"kind: Owl\n"
NODE = Lock.load().node.reference


def run(*words: object) -> Result:
    return CliRunner().invoke(bundle, [str(word) for word in words], obj=Session(None, ()))


def fine(*words: object) -> Any:
    result = run(*words, "--json")
    if result.exception:
        raise result.exception
    return json.loads(result.stdout)


def fault(*words: object) -> ModelyardError:
    found = run(*words).exception
    assert isinstance(found, ModelyardError), found
    assert "\n" not in found.message
    return found


@pytest.fixture
def owl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Component:
    """A component of somebody else's plugin, with an image and a release file."""
    (tmp_path / "plugin" / "owl-1.dist-info").mkdir(parents=True)
    (tmp_path / "plugin" / "owl-1.dist-info" / "METADATA").write_text("Name: owl\nVersion: 1\n")
    (tmp_path / "plugin" / "owl-1.dist-info" / "entry_points.txt").write_text(
        "[modelyard]\nowl = owl_plugin\n"
    )
    (tmp_path / "plugin" / "owl_plugin.py").write_text(
        "from modelyard.components import Component, Release\n"
        "from modelyard.hookspecs import hookimpl\n"
        "@hookimpl\n"
        "def modelyard_sandbox_components():\n"
        "    yield Component(name='owl', summary='Owls', version='1', objects=lambda site: [],\n"
        "        images=('docker.io/birds/owl:1',), releases=(Release(name='owl.yaml',\n"
        f"        url='https://birds.example/owl.yaml', sha256='{hashlib.sha256(MANIFEST).hexdigest()}'),))\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "plugin")
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "owl.yaml").write_bytes(MANIFEST)
    return offered(PluginManager())["owl"]


@pytest.fixture
def without(owl: Component) -> list[str]:
    """`--without` for everything but the owl."""
    return [f"--without={name}" for name in offered(PluginManager()) if name != owl.name]


@pytest.fixture
def archive(tmp_path: Path, kit: Any) -> Path:
    path: Path = kit.oci(tmp_path / "images.tar", kit.image("x.io/owl:1"), kit.image("x.io/node:1"))
    return path


@pytest.fixture
def usual(tmp_path: Path, archive: Path, without: list[str]) -> list[str]:
    """What makes a bundle of the owl."""
    return [
        *without,
        f"--from={archive}",
        "--stand-in=birds/owl:1=x.io/owl:1",
        "--node=x.io/node:1",
        f"--manifests={tmp_path / 'manifests'}",
        "--platform=linux/amd64",
    ]


def test_a_bundle_is_made_from_archives_and_holds_the_parts_of_plugins(tmp_path: Path, usual: Any) -> None:
    out = tmp_path / "out" / "stack.tar"
    said = fine("create", out, *usual)
    made = Bundle(out)
    assert made.node_image == "x.io/node:1"
    assert made.lock.image("docker.io/birds/owl:1").name == "x.io/owl:1"
    assert made.manifest("owl.yaml") == MANIFEST
    assert said == fine("inspect", out)
    assert said["images"][0]["reference"] == "docker.io/birds/owl:1"
    assert (said["manifests"], said["node"]["name"]) == (["owl.yaml"], "x.io/node:1")
    assert fine("verify", out)["ok"]


def test_people_read_what_stands_in_for_what(tmp_path: Path, usual: Any) -> None:
    out = tmp_path / "stack.tar"
    text = run("create", out, *usual).stdout
    assert text == run("inspect", out).stdout
    row = next(line.split() for line in text.splitlines() if line.startswith("docker.io/birds/owl:1"))
    assert row[1] == "x.io/owl:1"
    assert "owl.yaml" in text
    assert "is whole" in run("verify", out).stdout


def test_every_image_of_ours_is_asked_for(tmp_path: Path, archive: Path) -> None:
    """All that the stack runs, each with the same small image in its place."""
    file = tmp_path / "stand-ins.json"
    images = {image for component in offered(PluginManager()).values() for image in component.images}
    file.write_text(json.dumps(dict.fromkeys([*images, NODE], "x.io/owl:1")))
    with_releases = {name for name, c in offered(PluginManager()).items() if c.releases}
    left_out = [f"--without={name}" for name in _with_dependents(with_releases)]
    said = fine("create", tmp_path / "b.tar", f"--from={archive}", f"--stand-ins={file}", *left_out)
    there = {one["reference"] for one in said["images"]}
    assert "docker.io/library/postgres:17-bookworm" in there
    assert there == {
        image
        for name, component in offered(PluginManager()).items()
        if f"--without={name}" not in left_out
        for image in component.images
    }


def _with_dependents(names: set[str]) -> set[str]:
    everything = offered(PluginManager())
    while more := {n for n, c in everything.items() if n not in names and names & set(c.requires)}:
        names = names | more
    return names


def test_what_is_left_out_is_not_in_it(tmp_path: Path, usual: Any) -> None:
    said = fine("create", tmp_path / "b.tar", *usual, f"--without-image={NODE}")
    assert said["node"] is None
    assert "no node image" in run("inspect", tmp_path / "b.tar").stdout
    said = fine("create", tmp_path / "b.tar", *usual, "--without-image=birds/owl:1")
    assert said["images"] == []


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--stand-in=x"], "stand-in-invalid", "what stands in"),
        (["--stand-in=birds/owl:1="], "image-name", "''"),
        (["--node=no name"], "image-name", "no name"),
        (["--without-image=birds/emu:1"], "image-not-needed", "docker.io/birds/emu:1"),
        (["--without=emu"], "component-unknown", "emu"),
        (["--mirror=x"], "mirror-invalid", "x"),
        (["--stand-in=birds/owl:1=x.io/emu:1"], "bundle-missing-image", "docker.io/birds/owl:1"),
    ],
)
def test_what_is_written_wrongly_is_said(
    tmp_path: Path, usual: Any, words: list[str], code: str, says: str
) -> None:
    found = fault("create", tmp_path / "b.tar", *usual, *words)
    assert found.code == code
    assert says in found.message
    assert found.hint
    assert not (tmp_path / "b.tar").exists()


def test_a_manifest_that_lies_not_there_or_is_another_is_said(tmp_path: Path, usual: Any) -> None:
    (tmp_path / "manifests" / "owl.yaml").write_text("kind: Cat\n")
    assert fault("create", tmp_path / "b.tar", *usual).code == "manifest-changed"
    (tmp_path / "manifests" / "owl.yaml").unlink()
    found = fault("create", tmp_path / "b.tar", *usual)
    assert found.code == "manifest-missing"
    assert "https://birds.example/owl.yaml" in found.hint


def test_a_file_that_is_not_there_or_no_bundle_is_said(tmp_path: Path, archive: Path) -> None:
    for command in ("inspect", "verify"):
        assert fault(command, tmp_path / "none.tar").code == "bundle-missing"
        assert fault(command, archive).code == "bundle-damaged"


def test_verify_finds_what_inspect_does_not_read(tmp_path: Path, usual: Any) -> None:
    out = tmp_path / "b.tar"
    fine("create", out, *usual)
    found = Bundle(out)
    layer = next(iter(found.images.values())).layers[0]
    content = out.read_bytes()
    with found.blob(layer) as file:
        out.write_bytes(content.replace(file.read(), bytes(layer.size)))
    assert fine("inspect", out)
    assert fault("verify", out).code == "bundle-damaged"


def test_without_archives_images_are_pulled_past_docker_by_mirror(
    tmp_path: Path, usual: Any, registry: Any, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    registry.add("hub/birds/owl", "1", kit.image("any", "arm", architecture="arm64"), kit.image("any", "owl"))
    registry.add("hub/my/node", "1", kit.image("any", "node"))
    words = [word for word in usual if not word.startswith(("--from", "--stand-in", "--node"))]
    words += [f"--mirror=docker.io={registry.host}/hub", "--node=my/node:1"]
    fine("create", tmp_path / "b.tar", *words)
    made = Bundle(tmp_path / "b.tar")
    assert made.node_image == "docker.io/my/node:1"
    made.verify()
    assert [file.name for file in tmp_path.glob(".b.tar*")] == []
    registry.requests.clear()
    fine("create", tmp_path / "c.tar", *words)
    assert registry.requests == []


def test_ours_is_built_with_docker_and_without_it_that_is_said(
    tmp_path: Path, registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    everything = offered(PluginManager())
    kept = {"mlflow", "postgres", "s3"}
    ours = next(image.reference for image in Lock.load().listed if image.build)
    others = {NODE, *(image for name in kept for image in everything[name].images)} - {ours}
    words = [f"--without={name}" for name in everything if name not in kept]
    found = fault("create", tmp_path / "b.tar", *words, *(f"--without-image={name}" for name in others))
    assert found.code == "docker-unreachable"
    assert list(tmp_path.glob(".b.tar*")) == []
    assert registry.requests == []
