"""Making a bundle: whole or not at all, from any mixture of sources."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.errors import ConfigError, ConflictError, EnvironmentFault, UsageError
from modelyard_sandbox.archive import Archive
from modelyard_sandbox.bundle import Bundle
from modelyard_sandbox.bundle_writing import create, read_stand_ins
from modelyard_sandbox.errors import ImageFault, Unsupported
from modelyard_sandbox.oci import Blob, Image, archive, chunks

NODE = "docker.io/kindest/node:v1"


def made(out: Path, *sources: Any, references: Any = ("x.io/a:1",), **more: Any) -> Bundle:
    """A bundle with what is usual."""
    return create(
        out,
        **{
            "references": references,
            "node": None,
            "sources": sources,
            "platform": "linux/amd64",
            **more,
        },
    )


def plain_layers(bundle: Bundle, image: Image) -> list[bytes]:
    return [gzip.decompress(b"".join(chunks(bundle, layer))) for layer in image.layers]


def test_a_bundle_holds_images_stand_ins_node_and_manifests(tmp_path: Path, kit: Any) -> None:
    first = Archive(kit.oci(tmp_path / "a.tar", kit.image("x.io/a:1"), kit.image("x.io/node:1")))
    second = Archive(kit.oci(tmp_path / "b.tar", kit.image("my.io/owl:2")))
    bundle = made(
        tmp_path / "out.tar",
        first,
        second,
        references=["x.io/a:1", "docker.io/birds/owl:1", NODE],
        node=NODE,
        stand_ins={"docker.io/birds/owl:1": "my.io/owl:2", NODE: "x.io/node:1"},
        manifests={"owl.yaml": b"kind: Owl\n"},
    )
    assert bundle.node_image == "x.io/node:1"
    assert {ref: one.name for ref, one in bundle.lock.images.items()} == {
        "x.io/a:1": "x.io/a:1",
        "docker.io/birds/owl:1": "my.io/owl:2",
    }
    assert bundle.manifest("owl.yaml") == b"kind: Owl\n"
    bundle.verify()
    for image in bundle.images.values():
        assert plain_layers(bundle, image)


def test_layers_that_are_not_packed_are_and_the_image_stays_the_same(tmp_path: Path, kit: Any) -> None:
    one = kit.image("x.io/a:1", "same " * 10_000, "other", packed=False)
    bundle = made(tmp_path / "out.tar", Archive(kit.docker(tmp_path / "a.tar", one)))
    image = bundle.images["x.io/a:1"]
    assert image.config.digest == Archive(tmp_path / "a.tar").images["x.io/a:1"].config.digest
    assert plain_layers(bundle, image) == one.plain
    assert all(layer.media_type.endswith("tar+gzip") for layer in image.layers)
    assert (tmp_path / "out.tar").stat().st_size < len(one.plain[0])


def test_an_image_that_is_packed_keeps_its_digest(tmp_path: Path, kit: Any) -> None:
    one = kit.image("x.io/a:1")
    bundle = made(tmp_path / "out.tar", Archive(kit.oci(tmp_path / "a.tar", one)))
    assert bundle.images["x.io/a:1"].manifest == one.manifest


def test_what_images_share_is_written_once(tmp_path: Path, kit: Any) -> None:
    images = [kit.image(f"x.io/{name}:1", "shared", name, packed=False) for name in "ab"]
    packed = [kit.image("x.io/c:1", "shared", "c")]
    sources = Archive(kit.docker(tmp_path / "a.tar", *images)), Archive(kit.oci(tmp_path / "b.tar", *packed))
    bundle = made(tmp_path / "out.tar", *sources, references=["x.io/a:1", "x.io/b:1", "x.io/c:1"])
    shared = {image.layers[0].digest for image in bundle.images.values()}
    with tarfile.open(tmp_path / "out.tar") as tar:
        names = tar.getnames()
    assert len(names) == len(set(names))
    assert len(shared) <= 2  # once as it was packed here, and once as somebody else packed it
    bundle.verify()


def test_two_upstream_images_may_have_one_stand_in(tmp_path: Path, kit: Any) -> None:
    source = Archive(kit.oci(tmp_path / "a.tar", kit.image("my.io/both:1")))
    names = ["docker.io/prom/one:1", "docker.io/prom/two:1"]
    bundle = made(
        tmp_path / "out.tar", source, references=names, stand_ins=dict.fromkeys(names, "my.io/both:1")
    )
    assert list(bundle.lock.images) == names
    assert len(bundle.images) == 1


def test_the_first_source_wins_and_one_for_another_platform_never(tmp_path: Path, kit: Any) -> None:
    arm = Archive(kit.oci(tmp_path / "arm.tar", kit.image("x.io/a:1", "arm", architecture="arm64")))
    first = Archive(kit.oci(tmp_path / "a.tar", kit.image("x.io/a:1", "first")))
    second = Archive(kit.oci(tmp_path / "b.tar", kit.image("x.io/a:1", "second")))
    bundle = made(tmp_path / "out.tar", arm, first, second)
    assert bundle.images["x.io/a:1"].digest == first.images["x.io/a:1"].digest
    with pytest.raises(Unsupported, match="linux/arm64"):
        made(tmp_path / "out.tar", arm)


def test_everything_that_is_missing_is_named_at_once(tmp_path: Path, kit: Any) -> None:
    source = Archive(kit.oci(tmp_path / "a.tar", kit.image("x.io/a:1")))
    with pytest.raises(ImageFault) as fault:
        made(tmp_path / "out.tar", source, references=["x.io/b:1", "x.io/a:1", "x.io/c:1"])
    assert fault.value.code == "bundle-missing-image"
    assert fault.value.details == {"missing": ["x.io/b:1", "x.io/c:1"]}
    assert "--stand-in x.io/b:1=NAME" in fault.value.hint
    assert not (tmp_path / "out.tar").exists()


@pytest.mark.parametrize("name", ["a/b.yaml", "../b.yaml", "ä.yaml", ""])
def test_a_manifest_that_could_not_be_read_again_is_refused(tmp_path: Path, kit: Any, name: str) -> None:
    source = Archive(kit.oci(tmp_path / "a.tar", kit.image("x.io/a:1")))
    with pytest.raises(UsageError) as fault:
        made(tmp_path / "out.tar", source, manifests={name: b""})
    assert fault.value.code == "release-name"


def test_progress_ends_with_all_bytes(tmp_path: Path, kit: Any) -> None:
    images = [kit.image(f"x.io/{name}:1", "shared" * 500_000, name, packed=False) for name in "ab"]
    seen: list[tuple[int, int]] = []
    made(
        tmp_path / "out.tar",
        Archive(kit.docker(tmp_path / "a.tar", *images)),
        references=["x.io/a:1", "x.io/b:1"],
        moved=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1][0] == seen[-1][1] > 3_000_000
    assert seen == sorted(seen)


def test_the_index_fits_however_many_images_with_long_names_there_are(tmp_path: Path, kit: Any) -> None:
    names = [f"x.io/{'n' * 250}-{count}:{'t' * 120}" for count in range(60)]
    images = [kit.image(name, name, f"{name} more", packed=False) for name in names]
    source = Archive(kit.docker(tmp_path / "a.tar", *images))
    bundle = made(
        tmp_path / "out.tar",
        source,
        references=names,
        manifests={f"{'m' * 110}{count}.yaml": b"x" for count in range(50)},
    )
    assert len(bundle.lock.images) == 60
    bundle.verify()


# -- whole or not at all ------------------------------------------------------------------------


def test_a_damaged_source_leaves_no_file_and_the_old_bundle_as_it_was(tmp_path: Path, kit: Any) -> None:
    one = kit.image("x.io/a:1")
    path = kit.oci(tmp_path / "a.tar", one)
    source = Archive(path)
    made(tmp_path / "out" / "b.tar", source)
    before = (tmp_path / "out" / "b.tar").read_bytes()
    path.write_bytes(path.read_bytes().replace(one.layers[0], bytes(len(one.layers[0]))))
    with pytest.raises(ImageFault, match="damaged"):
        made(tmp_path / "out" / "b.tar", source)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["b.tar"]
    assert (tmp_path / "out" / "b.tar").read_bytes() == before


def test_a_full_disk_is_said_and_leaves_no_file(tmp_path: Path, kit: Any, small_disk: Path) -> None:
    text = os.urandom(300_000).hex()
    source = Archive(kit.oci(tmp_path / "a.tar", kit.image("x.io/a:1", text, packed=False)))
    with pytest.raises(EnvironmentFault) as fault:
        made(small_disk / "out.tar", source)
    assert fault.value.code == "disk-full"
    assert list(small_disk.iterdir()) == []


def test_a_folder_that_can_not_be_written_is_said(tmp_path: Path, kit: Any, read_only_folder: Path) -> None:
    source = Archive(kit.oci(tmp_path / "a.tar", kit.image("x.io/a:1")))
    with pytest.raises(EnvironmentFault) as fault:
        made(read_only_folder / "out.tar", source)
    assert fault.value.code == "read-only"


class Slow:
    """A source that waits in the middle of a blob until it is told to go on."""

    kind = "archive"
    thread: threading.Thread

    def __init__(self, source: Archive) -> None:
        self._source = source
        self.inside, self.go_on = threading.Event(), threading.Event()
        self.label = source.label

    @property
    def images(self) -> Mapping[str, Image]:
        return self._source.images

    @property
    def others(self) -> Mapping[str, str]:
        return self._source.others

    def blob(self, blob: Blob) -> BinaryIO:
        self.inside.set()
        self.go_on.wait(30)
        return self._source.blob(blob)


@pytest.fixture
def writing(tmp_path: Path, kit: Any) -> Iterator[Slow]:
    """A bundle `out.tar` that is being written by somebody else."""
    slow = Slow(Archive(kit.oci(tmp_path / "slow.tar", kit.image("x.io/a:1", "slow"))))
    slow.thread = threading.Thread(target=made, args=(tmp_path / "out.tar", slow))
    slow.thread.start()
    assert slow.inside.wait(30)
    yield slow
    slow.go_on.set()
    slow.thread.join(30)


def test_two_at_once_the_second_is_told_and_harms_nothing(tmp_path: Path, kit: Any, writing: Slow) -> None:
    source = Archive(kit.oci(tmp_path / "a.tar", kit.image("x.io/a:1", "second")))
    with pytest.raises(ConflictError) as fault:
        made(tmp_path / "out.tar", source)
    assert fault.value.code == "bundle-busy"
    writing.go_on.set()
    writing.thread.join(30)
    assert Bundle(tmp_path / "out.tar").images["x.io/a:1"] == writing.images["x.io/a:1"]


def test_who_opened_the_file_before_it_was_finished_does_not_empty_it(
    tmp_path: Path, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening the part and locking it another command may put it under its name."""
    first = Archive(kit.oci(tmp_path / "a.tar", kit.image("x.io/a:1", "first")))
    second = Archive(kit.oci(tmp_path / "b.tar", kit.image("x.io/a:1", "second")))
    lock, finished = fcntl.flock, []

    def late(file: Any, how: int) -> None:
        if not finished:
            finished.append(file)
            (tmp_path / "out.tar.part").unlink()
            made(tmp_path / "out.tar", first)
            os.link(tmp_path / "out.tar", tmp_path / "kept.tar")
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    made(tmp_path / "out.tar", second)
    assert Bundle(tmp_path / "kept.tar").images["x.io/a:1"] == first.images["x.io/a:1"]
    assert Bundle(tmp_path / "out.tar").images["x.io/a:1"] == second.images["x.io/a:1"]


def test_a_killed_write_leaves_nothing_under_the_name_and_the_next_is_whole(tmp_path: Path, kit: Any) -> None:
    big = kit.oci(tmp_path / "a.tar", kit.image("x.io/a:1", "text " * 2_000_000, packed=False))
    code = (
        "import os, sys; from pathlib import Path; from modelyard_sandbox.archive import Archive; "
        "from modelyard_sandbox.bundle_writing import create; "
        "create(Path(sys.argv[2]), references=['x.io/a:1'], node=None, sources=[Archive(Path(sys.argv[1]))], "
        "platform='linux/amd64', moved=lambda done, total: os.kill(os.getpid(), 9))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(big), str(tmp_path / "out.tar")], timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out.tar").exists()
    assert (tmp_path / "out.tar.part").exists()
    made(tmp_path / "out.tar", Archive(big)).verify()
    assert not (tmp_path / "out.tar.part").exists()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_goes_in_comes_out_again(
    tmp_path_factory: pytest.TempPathFactory, kit: Any, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("any")
    texts = st.lists(st.sampled_from(["a", "b", "c" * 2000, "d"]), min_size=1, max_size=4)
    names = data.draw(st.lists(st.sampled_from("pqrst"), min_size=1, max_size=4, unique=True))
    images = {}
    sources = []
    for name in names:
        packed = data.draw(st.booleans())
        images[f"x.io/{name}:1"] = image = kit.image(f"x.io/{name}:1", *data.draw(texts), packed=packed)
        write = data.draw(st.sampled_from([kit.oci, kit.docker]))
        sources.append(Archive(write(folder / f"{name}.tar", image)))
    bundle = made(folder / "out.tar", *sources, references=list(images))
    bundle.verify()
    for name, image in images.items():
        found = bundle.images[name]
        assert plain_layers(bundle, found) == image.plain
        assert b"".join(chunks(bundle, found.config)) == image.config
    # What a node or an engine is given is an archive again.
    pairs = [(image, bundle) for image in bundle.images.values()]
    (folder / "again.tar").write_bytes(b"".join(archive(pairs)))
    assert Archive(folder / "again.tar").images == bundle.images


# -- files of stand-ins -------------------------------------------------------------------------


def test_stand_ins_are_read_from_toml_and_json(tmp_path: Path) -> None:
    toml, js = tmp_path / "a.toml", tmp_path / "a.json"
    toml.write_text('# why\n"postgres:17" = "my/postgres:1"\n')
    js.write_text(json.dumps({"postgres:17": "my/postgres:1"}))
    expected = {"docker.io/library/postgres:17": "docker.io/my/postgres:1"}
    assert read_stand_ins(toml) == read_stand_ins(js) == expected


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.toml", "docker.io/a = 1", "stand-ins-invalid"),
        ("a.toml", '"a:1" = 1', "stand-ins-invalid"),
        ("a.json", "[1]", "stand-ins-invalid"),
        ("a.json", "{", "stand-ins-invalid"),
        ("a.toml", '"a:1" = "b c"', "image-name"),
    ],
)
def test_a_wrong_file_of_stand_ins_is_said(tmp_path: Path, name: str, content: str, code: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises((ConfigError, UsageError)) as fault:
        read_stand_ins(tmp_path / name)
    assert fault.value.code == code
    assert "\n" not in fault.value.message


def test_a_file_of_stand_ins_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"none\.toml"):
        read_stand_ins(tmp_path / "none.toml")
