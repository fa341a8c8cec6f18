"""Reading a bundle: nothing in it is believed that its index does not vouch for."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.errors import EnvironmentFault, ModelyardError
from modelyard_sandbox.archive import Archive
from modelyard_sandbox.bundle import Bundle
from modelyard_sandbox.bundle_writing import create
from modelyard_sandbox.errors import ImageFault, Unsupported
from modelyard_sandbox.oci import archive, canonical, digest_of, find


@pytest.fixture
def path(tmp_path: Path, kit: Any) -> Path:
    """A bundle with two images, a node image and a manifest."""
    images = [kit.image(name, "shared", name) for name in ("x.io/a:1", "x.io/b:1", "x.io/node:1")]
    source = Archive(kit.oci(tmp_path / "images.tar", *images))
    create(
        tmp_path / "bundle.tar",
        references=[*source.images],
        node="x.io/node:1",
        sources=[source],
        platform="linux/amd64",
        manifests={"owl.yaml": b"kind: Owl\n"},
    )
    return tmp_path / "bundle.tar"


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def rewritten(kit: Any, path: Path, **changes: Any) -> Path:
    """The bundle with another index, whose checksum is right."""
    found = members(path)
    index = {**json.loads(found["bundle.json"]), **changes}
    del index["checksum"]
    index["checksum"] = digest_of(canonical(index))
    return kit.tar(path, {**found, "bundle.json": canonical(index)})


def refused(path: Path, says: str, code: str = "bundle-damaged") -> None:
    with pytest.raises(ImageFault, match=says) as fault:
        Bundle(path)
    assert fault.value.code == code
    assert fault.value.hint


def test_a_bundle_says_what_stands_in_for_what(path: Path) -> None:
    bundle = Bundle(path)
    assert (bundle.platform, bundle.node_image) == ("linux/amd64", "x.io/node:1")
    assert list(bundle.lock.images) == ["x.io/a:1", "x.io/b:1"]
    assert bundle.lock.image("x.io/a:1").digest == find(bundle, "x.io/a:1").digest
    with pytest.raises(ImageFault, match=r"x\.io/c:1") as fault:
        bundle.lock.image("x.io/c:1")
    assert fault.value.code == "bundle-missing-image"
    assert (bundle.manifest("owl.yaml"), bundle.manifest("mouse.yaml")) == (b"kind: Owl\n", None)


def test_it_serves_this_machine_or_says_why_not(path: Path) -> None:
    bundle = Bundle(path)
    bundle.require(["x.io/a:1"], "linux/amd64")
    with pytest.raises(Unsupported, match="this machine is linux/arm64"):
        bundle.require(["x.io/a:1"], "linux/arm64")
    with pytest.raises(ImageFault, match=r"x\.io/c:1"):
        bundle.require(["x.io/a:1", "x.io/c:1"], "linux/amd64")


def test_progress_of_a_check_ends_with_all_bytes(path: Path) -> None:
    seen: list[tuple[int, int]] = []
    Bundle(path).verify(lambda done, total: seen.append((done, total)))
    expected = sum(len(content) for name, content in members(path).items() if name != "bundle.json")
    assert seen[-1] == (expected, expected)


def test_a_flipped_bit_is_found_where_it_is(path: Path) -> None:
    bundle = Bundle(path)
    layer = bundle.images["x.io/a:1"].layers[1]
    whole = path.read_bytes()
    start = whole.index(members(path)[layer.path])
    path.write_bytes(whole[: start + 9] + bytes([whole[start + 9] ^ 1]) + whole[start + 10 :])
    damaged = Bundle(path)  # layers are too large to be read when it is opened
    with pytest.raises(ImageFault, match=layer.digest[7:]):
        damaged.verify()
    with pytest.raises(ImageFault, match="damaged"):
        b"".join(archive([(damaged.images["x.io/a:1"], damaged)]))


def test_a_manifest_of_others_is_compared_before_it_is_used(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"kind: Owl\n", b"kind: Cat\n"))
    with pytest.raises(ImageFault, match=r"owl\.yaml"):
        Bundle(path).manifest("owl.yaml")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_file_that_was_cut_off_is_refused(path: Path, part: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    refused(path, "damaged")


@pytest.mark.parametrize("content", [b"", bytes(1024), b"no tar" * 1000])
def test_a_file_that_is_no_bundle_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    refused(path, "damaged")


def test_an_archive_of_images_is_no_bundle(tmp_path: Path, kit: Any) -> None:
    refused(kit.oci(tmp_path / "a.tar", kit.image("x.io/a:1")), "not of a bundle")


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="none"):
        Bundle(tmp_path / "none")


def test_a_newer_format_asks_for_a_newer_modelyard(path: Path, kit: Any) -> None:
    refused(rewritten(kit, path, format=2), "format 2", "bundle-version")


def test_an_index_that_was_changed_is_refused(path: Path, kit: Any) -> None:
    found = members(path)
    index = json.loads(found["bundle.json"])
    index["platform"] = "linux/arm64"
    kit.tar(path, {**found, "bundle.json": canonical(index)})
    refused(path, "checksum")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"platform": "linux/arm64"}, "not the image that its lock describes"),
        ({"members": {}}, "does not name"),
        ({"members": {"blobs/sha256/" + "0" * 64: {"size": 1, "sha256": "sha256:" + "0" * 64}}}, "lacks"),
        ({"members": 5}, "members"),
        ({"lock": {"node": None, "images": [{"reference": "x"}]}}, "lock.images"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_an_index_that_lies_is_refused_though_its_checksum_is_right(
    path: Path, kit: Any, change: dict[str, Any], says: str
) -> None:
    refused(rewritten(kit, path, **change), says)


@pytest.mark.parametrize("field", ["digest", "config_digest", "platform", "size"])
def test_a_stand_in_that_is_another_image_is_refused(path: Path, kit: Any, field: str) -> None:
    lock = json.loads(members(path)["bundle.json"])["lock"]
    first, second = lock["images"]
    first[field] = {"platform": "linux/s390x", "size": 5}.get(field, second[field])
    refused(rewritten(kit, path, lock=lock), "not the image that its lock describes")


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "manifests/../x", "blobs/sha256/x", "more"]
)
def test_no_member_may_be_called_otherwise(path: Path, kit: Any, name: str) -> None:
    kit.tar(path, {**members(path), name: b"x"})
    refused(path, "not of a bundle")


def test_links_in_a_bundle_are_refused(path: Path, kit: Any) -> None:
    kit.tar(path, members(path), {"manifests/link.yaml": "/etc/passwd"})
    refused(path, "no plain file")


def test_a_name_that_stands_for_two_images_at_once_gives_one_of_them(path: Path, kit: Any) -> None:
    lock = json.loads(members(path)["bundle.json"])["lock"]
    lock["images"][1] = {**lock["images"][0], "reference": "x.io/b:1"}
    bundle = Bundle(rewritten(kit, path, lock=lock))
    assert bundle.lock.image("x.io/b:1").name == "x.io/a:1"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_makes_anything_but_a_fault_with_one_sentence(
    tmp_path: Path, path: Path, data: st.DataObject
) -> None:
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        # Headers and the index are where it hurts.
        place = data.draw(st.one_of(st.integers(0, 6000), st.integers(0, len(raw) - 1)))
        raw[place] = data.draw(st.integers(0, 255))
    other = tmp_path / "other.tar"
    other.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    try:
        bundle = Bundle(other)
        bundle.verify()
        for image in bundle.images.values():
            b"".join(archive([(image, bundle)]))
    except ModelyardError as fault:
        assert "\n" not in fault.message  # noqa: PT017 - most damage is a fault, some is harmless
