"""Archives of images: read, verified, written again."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.errors import EnvironmentFault, ModelyardError
from modelyard_sandbox.archive import Archive, tar_members
from modelyard_sandbox.errors import ImageFault, Unsupported
from modelyard_sandbox.oci import (
    END,
    Blob,
    archive,
    chunks,
    digest_of,
    find,
    header,
    is_digest,
    normal,
    padding,
)


def content(source: Archive, blob: Blob) -> bytes:
    return b"".join(chunks(source, blob))


def written(path: Path, *pairs: Any) -> Path:
    path.write_bytes(b"".join(archive(pairs)))
    return path


def test_an_oci_archive_gives_its_images_with_digests_platform_and_size(tmp_path: Path, kit: Any) -> None:
    made = kit.image("ghcr.io/a/b:1", "one", "two")
    found = Archive(kit.oci(tmp_path / "a.tar", made)).images["ghcr.io/a/b:1"]
    assert found.manifest == made.manifest
    assert found.platform == "linux/amd64"
    assert found.config.size == len(made.config)
    assert [layer.size for layer in found.layers] == [len(one) for one in made.layers]
    assert found.size == sum(len(one) for one in made.blobs.values())


def test_a_docker_archive_gives_plain_layers_named_by_what_they_hold(tmp_path: Path, kit: Any) -> None:
    made = kit.image("postgres:17", "one", "two", packed=False)
    source = Archive(kit.docker(tmp_path / "a.tar", made))
    found = source.images["docker.io/library/postgres:17"]
    assert [content(source, layer) for layer in found.layers] == made.plain
    assert [layer.media_type for layer in found.layers] == ["application/vnd.oci.image.layer.v1.tar"] * 2
    assert content(source, found.config) == made.config


def test_a_docker_archive_with_packed_layers_and_links_between_images(tmp_path: Path, kit: Any) -> None:
    first, second = kit.image("x.io/a:1", "shared", "a"), kit.image("x.io/b:1", "shared", "b")
    source = Archive(kit.docker(tmp_path / "a.tar", first, second))
    a, b = source.images["x.io/a:1"], source.images["x.io/b:1"]
    assert a.layers[0] == b.layers[0] != a.layers[1]
    assert [content(source, layer) for layer in b.layers] == second.layers


def test_names_that_are_only_in_dockers_own_file_are_found(tmp_path: Path, kit: Any) -> None:
    made = kit.image("x.io/a:1")
    config = "blobs/" + Archive(kit.oci(tmp_path / "b.tar", made)).images["x.io/a:1"].config.digest.replace(
        ":", "/"
    )
    entry = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": len(made.manifest)}
    entry["digest"] = next(digest for digest, one in made.blobs.items() if one == made.manifest)
    docker = json.dumps([{"Config": config, "RepoTags": ["x.io/a:1"], "Layers": []}]).encode()
    entry["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    path = kit.layout(tmp_path / "a.tar", {"manifests": [entry]}, made.blobs, manifest_json=docker)
    assert list(Archive(path).images) == ["x.io/a:1"]


def index_of(kit: Any, path: Path, *images: Any, absent: str = "") -> Path:
    """One name for several platforms; the images of one of them are not in the archive."""
    entries, blobs = [], {}
    for made in images:
        digest = next(d for d, one in made.blobs.items() if one == made.manifest)
        entries.append(
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest,
                "size": len(made.manifest),
                "platform": {"os": "linux", "architecture": made.architecture},
            }
        )
        if made.architecture != absent:
            blobs |= made.blobs
    attestation = {**entries[0], "platform": {"os": "unknown", "architecture": "unknown"}}
    inner = json.dumps({"schemaVersion": 2, "manifests": [attestation, *entries]}).encode()
    digest = digest_of(inner)
    outer = {
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": digest,
        "size": len(inner),
        "annotations": {"io.containerd.image.name": images[0].name},
    }
    return kit.layout(path, {"manifests": [outer]}, {**blobs, digest: inner})


def test_of_several_platforms_the_wanted_one_is_taken_though_others_are_absent(
    tmp_path: Path, kit: Any
) -> None:
    arm, amd = kit.image("x.io/a:1", "arm", architecture="arm64"), kit.image("x.io/a:1", "amd")
    path = index_of(kit, tmp_path / "a.tar", arm, amd, absent="arm64")
    assert Archive(path).images["x.io/a:1"].manifest == amd.manifest


def test_an_image_for_other_platforms_only_is_unsupported_and_says_which(tmp_path: Path, kit: Any) -> None:
    path = index_of(kit, tmp_path / "a.tar", kit.image("x.io/a:1", architecture="arm64"))
    source = Archive(path)
    assert source.images == {}
    with pytest.raises(Unsupported, match="linux/arm64") as fault:
        find(source, "x.io/a:1")
    assert fault.value.code == "image-platform"
    plain = Archive(kit.oci(tmp_path / "b.tar", kit.image("x.io/a:1", architecture="arm64")))
    with pytest.raises(Unsupported, match="linux/arm64"):
        find(plain, "x.io/a:1")


def test_an_unknown_image_is_named_and_so_is_what_there_is(tmp_path: Path, kit: Any) -> None:
    source = Archive(kit.oci(tmp_path / "a.tar", kit.image("x.io/a:1")))
    with pytest.raises(ImageFault, match=r"no image x\.io/b:1") as fault:
        find(source, "x.io/b:1")
    assert "x.io/a:1" in fault.value.hint


def test_what_was_written_is_read_again_and_shared_blobs_are_there_once(tmp_path: Path, kit: Any) -> None:
    first = Archive(kit.oci(tmp_path / "a.tar", kit.image("x.io/a:1", "shared", "a")))
    second = Archive(kit.docker(tmp_path / "b.tar", kit.image("x.io/b:1", "shared", "b")))
    pairs = [(first.images["x.io/a:1"], first), (second.images["x.io/b:1"], second)]
    path = written(tmp_path / "out.tar", *pairs)
    again = Archive(path)
    assert again.images == {image.name: image for image, _ in pairs}
    with tarfile.open(path) as tar:
        names = tar.getnames()
    assert len(names) == len(set(names)) == 3 + 2 * 2 + 3
    for image in again.images.values():
        for blob in image.blobs:
            assert len(content(again, blob)) == blob.size


def test_dockers_own_file_is_there_for_engines_that_know_no_layouts(tmp_path: Path, kit: Any) -> None:
    source = Archive(kit.oci(tmp_path / "a.tar", kit.image("x.io/a:1")))
    with tarfile.open(written(tmp_path / "out.tar", (source.images["x.io/a:1"], source))) as tar:
        file = tar.extractfile("manifest.json")
        assert file is not None
        entry = json.load(file)[0]
        assert entry["RepoTags"] == ["x.io/a:1"]
        assert tar.getmember(entry["Config"]).size == source.images["x.io/a:1"].config.size
        assert all(name in tar.getnames() for name in entry["Layers"])


def test_progress_ends_with_all_bytes(tmp_path: Path, kit: Any) -> None:
    source = Archive(kit.oci(tmp_path / "a.tar", kit.image("x.io/a:1", "a" * 3_000_000)))
    seen: list[tuple[int, int]] = []
    b"".join(archive([(source.images["x.io/a:1"], source)], lambda done, total: seen.append((done, total))))
    assert seen[-1][0] == seen[-1][1] == source.images["x.io/a:1"].size
    assert seen == sorted(seen)


def test_a_blob_with_other_bytes_ends_the_archive_with_a_fault(tmp_path: Path, kit: Any) -> None:
    made = kit.image("x.io/a:1")
    path = kit.oci(tmp_path / "a.tar", made)
    source = Archive(path)
    data = bytearray(path.read_bytes())
    place = data.index(made.layers[0])
    data[place + len(made.layers[0]) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ImageFault, match="damaged") as fault:
        b"".join(archive([(source.images["x.io/a:1"], source)]))
    assert fault.value.code == "archive-damaged"


def test_a_missing_blob_is_named(tmp_path: Path, kit: Any) -> None:
    made = kit.image("x.io/a:1")
    gone = list(made.blobs)[2]
    source = Archive(kit.oci(tmp_path / "a.tar", made, without=gone))
    with pytest.raises(ImageFault, match=f"lacks the blob {gone[:19]}"):
        b"".join(archive([(source.images["x.io/a:1"], source)]))


def test_a_layer_of_nine_gigabytes_has_its_place(tmp_path: Path) -> None:
    """More than a tar's size field holds in digits; the file has holes and takes no room."""
    size, path = 9 << 30, tmp_path / "a.tar"
    with open(path, "wb") as file:
        file.write(header("large", size))
        file.seek(size, io.SEEK_CUR)
        file.write(header("after", 1) + b"x" + padding(1) + END)
    assert tar_members(path) == {"large": (512, size), "after": (512 + size + 512, 1)}


def test_an_index_within_an_index_is_not_followed(tmp_path: Path, kit: Any) -> None:
    kind = "application/vnd.oci.image.index.v1+json"
    inner, blobs = b'{"manifests":[]}', {}
    for _ in range(2):
        blobs[digest_of(inner)] = inner
        entry = {"mediaType": kind, "digest": digest_of(inner), "size": len(inner)}
        inner = json.dumps({"manifests": [{**entry, "platform": {"architecture": "amd64"}}]}).encode()
    outer = {**entry, "annotations": {"io.containerd.image.name": "x.io/a:1"}}
    assert Archive(kit.layout(tmp_path / "a.tar", {"manifests": [outer]}, blobs)).images == {}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no tar at all" * 100, "not an archive"),
        (b"", "not an archive"),
        (b"\x1f\x8b" + bytes(600), "gunzip"),
    ],
)
def test_a_file_that_is_no_archive_is_said_in_one_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(ImageFault) as fault:
        Archive(path)
    assert fault.value.code == "archive-unreadable"
    assert says in fault.value.message + fault.value.hint
    assert "\n" not in fault.value.message


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"none\.tar"):
        Archive(tmp_path / "none.tar")


def test_a_file_that_was_cut_off_is_said(tmp_path: Path, kit: Any) -> None:
    path = kit.oci(tmp_path / "a.tar", kit.image("x.io/a:1", "a" * 100_000, packed=False))
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(ImageFault) as fault:
        Archive(path)
    assert fault.value.code in ("archive-unreadable", "archive-damaged")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_makes_anything_but_a_fault_with_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, kit: Any, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    make = data.draw(st.sampled_from([kit.oci, kit.docker]))
    made = kit.image("x.io/a:1", packed=data.draw(st.booleans()))
    path = make(folder / "a.tar", made)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    try:
        source = Archive(path)
        for image in source.images.values():
            whole = b"".join(archive([(image, source)]))
            assert Archive(written_to(folder / "b.tar", whole)).images
    except ModelyardError as fault:
        assert "\n" not in fault.message  # noqa: PT017 - most damage is a fault, some is harmless


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_header_that_lies_makes_anything_but_a_fault_with_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, kit: Any, data: st.DataObject
) -> None:
    """As above, with checksums that are right: names, sizes, kinds and links that somebody made up."""
    folder = tmp_path_factory.mktemp("lies")
    raw = bytearray(kit.docker(folder / "a.tar", kit.image("x.io/a:1")).read_bytes())
    start = data.draw(
        st.sampled_from([at for at in range(0, len(raw), 512) if raw[at + 257 :][:5] == b"ustar"])
    )
    fields = {"name": (0, 100), "size": (124, 136), "kind": (156, 157), "link": (157, 257)}
    first, end = fields[data.draw(st.sampled_from(sorted(fields)))]
    for _ in range(data.draw(st.integers(1, 4))):
        raw[start + data.draw(st.integers(first, end - 1))] = data.draw(
            st.sampled_from(b"\x00\x80\xff017xLKgS2/.")
        )
    raw[start + 148 : start + 156] = b" " * 8
    raw[start + 148 : start + 156] = b"%06o\0 " % sum(raw[start : start + 512])
    (folder / "a.tar").write_bytes(raw)
    try:
        Archive(folder / "a.tar")
    except ModelyardError as fault:
        assert "\n" not in fault.message  # noqa: PT017 - most lies are found out, some are harmless


def written_to(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@given(st.text(max_size=80))
def test_only_digests_are_digests(text: str) -> None:
    assert not is_digest(text) or (len(text) == 71 and "/" not in text and "." not in text)


@given(st.from_regex(r"[a-z0-9]{1,8}(\.io)?(/[a-z0-9]{1,8}){0,3}(:[a-z0-9.]{1,5})?", fullmatch=True))
def test_a_full_name_stays_as_it_is(name: str) -> None:
    assert normal(normal(name)) == normal(name)


def test_a_tar_writes_and_reads_without_tarfile_noticing(tmp_path: Path, kit: Any) -> None:
    source = Archive(kit.oci(tmp_path / "a.tar", kit.image("x.io/a:1")))
    raw = b"".join(archive([(source.images["x.io/a:1"], source)]))
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        assert {member.mode for member in tar} == {0o644}
