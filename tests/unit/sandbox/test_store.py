"""The store of pulled images: nothing twice, nothing torn, and never anything but what was asked for."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from modelyard.errors import EnvironmentFault
from modelyard_sandbox.errors import ImageFault, Unsupported
from modelyard_sandbox.lock import LockedImage
from modelyard_sandbox.oci import Image, chunks, digest_of, find
from modelyard_sandbox.registry import Registries
from modelyard_sandbox.store import Store

PLATFORMS = ("linux/amd64", "linux/arm64")


def entry(registry: Any, name: str = "a/b:1", digest: str | None = None) -> LockedImage:
    source = "this test" if digest else None
    return LockedImage(reference=f"{registry.host}/{name}", digest=digest, platforms=PLATFORMS, source=source)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return fresh(tmp_path)


def fresh(tmp_path: Path) -> Store:
    return Store("linux/amd64", folder=tmp_path / "images")


def contents(store: Store, image: Image) -> dict[str, bytes]:
    return {blob.digest: b"".join(chunks(store, blob)) for blob in image.blobs}


def largest(made: Any) -> tuple[str, bytes]:
    return max(made.blobs.items(), key=lambda blob: len(blob[1]))


def noise(size: int) -> str:
    """Text that hardly packs."""
    return random.Random(1).randbytes(size // 2).hex()


def gives(content: bytes, length: int | None = None) -> Any:
    """Some bytes, then the connection ends."""

    def do(asked: BaseHTTPRequestHandler) -> None:
        start = int(asked.headers.get("Range", "bytes=0-")[6:-1])
        asked.send_response(206 if start else 200)
        asked.send_header("Content-Length", str(len(content) - start))
        asked.end_headers()
        asked.wfile.write(content[start:][:length])
        asked.close_connection = True

    return do


def test_of_an_index_the_image_for_this_platform_is_pulled_whole(
    registry: Any, kit: Any, store: Store
) -> None:
    arm, amd = kit.image("a", "arm", architecture="arm64"), kit.image("a", "one", "two")
    digest = registry.add("a/b", "1", arm, amd)
    wanted = entry(registry, digest=digest)
    store.pull([wanted])
    image = find(store, wanted.reference)
    assert image.manifest == amd.manifest
    assert contents(store, image) == amd.blobs


def test_what_is_here_is_not_asked_for_again_and_served_offline(
    registry: Any, kit: Any, store: Store, tmp_path: Path
) -> None:
    registry.add("a/b", "1", kit.image("a"))
    store.pull([entry(registry)])
    registry.requests.clear()
    later = fresh(tmp_path)
    later.pull([entry(registry)], offline=True)
    assert later.images == store.images
    assert registry.requests == []
    with pytest.raises(ImageFault, match="never pulled") as fault:
        later.pull([entry(registry, "a/c:1")], offline=True)
    assert fault.value.code == "image-missing-offline"
    assert registry.requests == []


def test_what_a_tag_without_a_pin_named_first_stays(
    registry: Any, kit: Any, store: Store, tmp_path: Path
) -> None:
    first, second = kit.image("a", "first"), kit.image("a", "second")
    registry.add("a/b", "1", first)
    store.pull([entry(registry)])
    registry.add("a/b", "1", second)
    later = fresh(tmp_path)
    later.pull([entry(registry)])
    assert later.images[entry(registry).reference].manifest == first.manifest


def test_a_new_pin_is_pulled_though_the_tag_is_here(
    registry: Any, kit: Any, store: Store, tmp_path: Path
) -> None:
    first, second = kit.image("a", "first"), kit.image("a", "second")
    registry.add("a/b", "1", first)
    store.pull([entry(registry)])
    digest = registry.add("a/b", "1", second)
    later = fresh(tmp_path)
    later.pull([entry(registry, digest=digest)])
    assert later.images[entry(registry).reference].manifest == second.manifest


def test_blobs_that_images_share_are_fetched_once(registry: Any, kit: Any, store: Store) -> None:
    registry.add("a/b", "1", kit.image("a", "shared", "b"))
    registry.add("a/c", "1", kit.image("a", "shared", "c"))
    registry.add("a/c", "2", kit.image("a", "shared", "c"))
    store.pull([entry(registry, name) for name in ("a/b:1", "a/c:1", "a/c:2")])
    layers = {blob.digest for image in store.images.values() for blob in image.layers}
    assert len(layers) == 3
    assert all(len(registry.asked(digest)) == 1 for digest in layers)


def test_two_at_once_fetch_everything_once(registry: Any, kit: Any, tmp_path: Path) -> None:
    registry.add("a/b", "1", kit.image("a", "one", "two", "three"))
    stores = [fresh(tmp_path) for _ in range(2)]
    threads = [threading.Thread(target=one.pull, args=([entry(registry)],)) for one in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert stores[0].images == stores[1].images != {}
    assert len(registry.asked("/blobs/")) == 4


def test_progress_ends_with_all_bytes_though_some_came_twice(registry: Any, kit: Any, store: Store) -> None:
    made = kit.image("a", noise(300_000), "b")
    registry.add("a/b", "1", made)
    registry.ranges = False
    digest, content = largest(made)
    registry.fault(digest, gives(content, 100_000))
    seen: list[tuple[int, int]] = []
    store.pull([entry(registry)], lambda done, total: seen.append((done, total)))
    layers = sum(len(one) for one in made.layers)
    assert seen[-1] == (layers, layers)
    assert all(done <= total for done, total in seen)


# -- broken connections -------------------------------------------------------------------------


def test_a_download_that_breaks_goes_on_where_it_stopped(registry: Any, kit: Any, store: Store) -> None:
    made = kit.image("a", noise(400_000))
    registry.add("a/b", "1", made)
    digest, content = largest(made)
    # Each try brings something, so that more of them are granted than to one that brings nothing.
    registry.fault(digest, *[gives(content, 10_000)] * 10)
    store.pull([entry(registry)])
    assert contents(store, store.images[entry(registry).reference]) == made.blobs
    ranges = [headers.get("Range") for path, headers in registry.requests if digest in path]
    assert ranges == [None, *(f"bytes={place}-" for place in range(10_000, 110_000, 10_000))]


def test_a_registry_that_ends_each_time_is_given_up_and_what_came_is_kept(
    registry: Any, kit: Any, store: Store
) -> None:
    made = kit.image("a", noise(400_000))
    registry.add("a/b", "1", made)
    digest, content = largest(made)
    registry.fault(digest, gives(content, 10_000), *[gives(content, 0)] * 4)
    with pytest.raises(ImageFault) as fault:
        store.pull([entry(registry)])
    assert fault.value.code == "registry-unreachable"
    store.pull([entry(registry)])
    assert registry.requests[-1][1]["Range"] == "bytes=10000-"


def test_a_killed_pull_is_gone_on_with(registry: Any, kit: Any, tmp_path: Path) -> None:
    made = kit.image("a", noise(2_000_000))
    registry.add("a/b", "1", made)
    digest, content = largest(made)
    halfway, killed = threading.Event(), threading.Event()

    def gives_half(asked: BaseHTTPRequestHandler) -> None:
        asked.send_response(200)
        asked.send_header("Content-Length", str(len(content)))
        asked.end_headers()
        asked.wfile.write(content[:500_000])
        halfway.set()
        killed.wait(30)

    registry.fault(digest, gives_half)
    code = (
        "import json, sys; from pathlib import Path; from modelyard_sandbox.store import Store; "
        "from modelyard_sandbox.lock import LockedImage; "
        "Store('linux/amd64', folder=Path(sys.argv[1])).pull([LockedImage.model_validate_json(sys.argv[2])])"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "images"), entry(registry).model_dump_json()]
    process = subprocess.Popen(argv)
    try:
        assert halfway.wait(30)
        part = (tmp_path / "images" / "blobs" / digest.replace(":", "/")).with_suffix(".part")
        deadline = time.monotonic() + 30
        while not (part.exists() and part.stat().st_size == 500_000) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        killed.set()
    store = fresh(tmp_path)
    store.pull([entry(registry)])
    assert registry.requests[-1][1]["Range"] == "bytes=500000-"
    assert contents(store, store.images[entry(registry).reference]) == made.blobs


@pytest.mark.parametrize("left", [b"damaged by a crash", bytes(900_000)], ids=["a piece", "too much"])
def test_what_an_earlier_pull_left_damaged_is_fetched_anew(
    registry: Any, kit: Any, store: Store, tmp_path: Path, left: bytes
) -> None:
    made = kit.image("a", noise(400_000))
    registry.add("a/b", "1", made)
    digest, _ = largest(made)
    part = (tmp_path / "images" / "blobs" / digest.replace(":", "/")).with_suffix(".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    store.pull([entry(registry)])
    assert contents(store, store.images[entry(registry).reference]) == made.blobs
    assert not part.exists()


def test_the_first_fault_ends_the_other_downloads(registry: Any, kit: Any, store: Store) -> None:
    made = kit.image("a", noise(400_000), "small")
    registry.add("a/b", "1", made)
    digest, content = largest(made)
    ended = threading.Event()

    def drips(asked: BaseHTTPRequestHandler) -> None:
        asked.send_response(200)
        asked.send_header("Content-Length", str(len(content)))
        asked.end_headers()
        for place in range(0, len(content), 100):
            asked.wfile.write(content[place : place + 100])
            if ended.wait(0.02):
                return

    registry.fault(digest, drips)
    small = made.layers[1]
    registry.fault(digest_of(small), gives(b"x" * len(small)))
    began = time.monotonic()
    try:
        with pytest.raises(ImageFault, match="other bytes"):
            store.pull([entry(registry)])
        assert time.monotonic() - began < 20  # dripping takes 80 s
    finally:
        ended.set()


def test_whoever_wants_it_to_end_is_heard(registry: Any, kit: Any, store: Store) -> None:
    class Enough(Exception):
        pass

    def stop(_done: int, _total: int) -> None:
        raise Enough

    registry.add("a/b", "1", kit.image("a", noise(400_000)))
    with pytest.raises(Enough):
        store.pull([entry(registry)], stop)
    store.pull([entry(registry)])
    assert entry(registry).reference in store.images


# -- what is not what was asked for -------------------------------------------------------------


def test_other_bytes_than_the_digest_says_are_refused_and_not_kept(
    registry: Any, kit: Any, store: Store
) -> None:
    made = kit.image("a", noise(100_000))
    registry.add("a/b", "1", made)
    digest, content = largest(made)
    registry.fault(digest, gives(bytes(len(content))))
    with pytest.raises(ImageFault, match="other bytes") as fault:
        store.pull([entry(registry)])
    assert fault.value.code == "image-mismatch"
    store.pull([entry(registry)])
    assert contents(store, store.images[entry(registry).reference]) == made.blobs


def test_more_bytes_than_the_manifest_says_are_not_taken(
    registry: Any, kit: Any, store: Store, tmp_path: Path
) -> None:
    made = kit.image("a", noise(100_000))
    registry.add("a/b", "1", made)
    digest, content = largest(made)
    registry.fault(digest, gives(content + bytes(5_000_000)))
    store.pull([entry(registry)])
    assert all(len(file.read_bytes()) <= len(content) for file in tmp_path.rglob("images/blobs/*/*"))


def test_a_pin_that_the_registry_does_not_keep_is_said(registry: Any, kit: Any, store: Store) -> None:
    made, other = kit.image("a", "one"), kit.image("a", "other")
    digest = registry.add("a/b", "1", made)
    registry.put("a/b", digest, other.manifest, "application/vnd.oci.image.manifest.v1+json")
    with pytest.raises(ImageFault, match="something else") as fault:
        store.pull([entry(registry, digest=digest)])
    assert fault.value.code == "image-mismatch"


def test_a_login_page_in_the_place_of_a_registry_is_said(registry: Any, store: Store) -> None:
    registry.put("a/b", "1", b"<html>Welcome to our hotel</html>", "text/html")
    with pytest.raises(ImageFault, match="text/html") as fault:
        store.pull([entry(registry)])
    assert "login page" in fault.value.hint


def test_an_image_for_other_platforms_is_unsupported_and_says_which(
    registry: Any, kit: Any, store: Store
) -> None:
    arm = kit.image("a", architecture="arm64")
    registry.add("a/b", "1", arm)
    registry.add("a/c", "1", arm, kit.image("a", architecture="s390x"))
    for name in ("a/b:1", "a/c:1"):
        with pytest.raises(Unsupported, match="arm64"):
            store.pull([entry(registry, name)])
    registry.requests.clear()
    locked = LockedImage(reference=f"{registry.host}/a/b:1", platforms=("linux/arm64",))
    with pytest.raises(Unsupported, match="published for linux/arm64"):
        store.pull([locked])
    assert registry.requests == []  # the lock knows it


def test_an_image_that_lost_a_blob_is_fetched_again(
    registry: Any, kit: Any, store: Store, tmp_path: Path
) -> None:
    made = kit.image("a", "one", "two")
    registry.add("a/b", "1", made)
    store.pull([entry(registry)])
    (tmp_path / "images" / store.images[entry(registry).reference].layers[0].path).unlink()
    later = fresh(tmp_path)
    with pytest.raises(ImageFault, match="never pulled"):
        later.pull([entry(registry)], offline=True)
    later.pull([entry(registry)])
    assert contents(later, later.images[entry(registry).reference]) == made.blobs


def test_a_blob_that_is_damaged_on_disk_is_not_handed_out(
    registry: Any, kit: Any, store: Store, tmp_path: Path
) -> None:
    registry.add("a/b", "1", kit.image("a", "one"))
    store.pull([entry(registry)])
    image = store.images[entry(registry).reference]
    file = tmp_path / "images" / image.layers[0].path
    file.write_bytes(bytes(image.layers[0].size))
    with pytest.raises(ImageFault) as fault:
        contents(store, image)
    assert (fault.value.code, "rm -r" in fault.value.hint) == ("store-damaged", True)
    file.unlink()
    with pytest.raises(ImageFault, match="lacks the blob"):
        contents(store, image)


# -- disks --------------------------------------------------------------------------------------


def test_a_full_disk_is_said_as_such_and_not_as_the_networks_fault(
    registry: Any, kit: Any, small_disk: Path
) -> None:
    registry.add("a/b", "1", kit.image("a", noise(600_000)))
    store = Store("linux/amd64", folder=small_disk / "images")
    with pytest.raises(EnvironmentFault) as fault:
        store.pull([entry(registry)])
    assert fault.value.code == "disk-full"


def test_a_folder_that_can_not_be_written_is_said(registry: Any, kit: Any, read_only_folder: Path) -> None:
    registry.add("a/b", "1", kit.image("a"))
    store = Store("linux/amd64", folder=read_only_folder / "images")
    with pytest.raises(EnvironmentFault) as fault:
        store.pull([entry(registry)])
    assert fault.value.code == "read-only"


def test_a_mirror_serves_what_the_lock_pins(registry: Any, kit: Any, tmp_path: Path) -> None:
    made = kit.image("a")
    digest = registry.add("hub/library/postgres", "17", made)
    ways = Registries.of([f"docker.io={registry.host}/hub"], None)
    store = Store("linux/amd64", ways, tmp_path / "images")
    wanted = LockedImage(
        reference="docker.io/library/postgres:17", digest=digest, platforms=PLATFORMS, source="here"
    )
    store.pull([wanted])
    assert store.images[wanted.reference].manifest == made.manifest
    notes = json.loads((tmp_path / "images" / "images.json").read_text())
    assert notes["docker.io/library/postgres:17 linux/amd64"]["pinned"] == digest
