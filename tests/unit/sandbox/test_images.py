"""Images into a node and an engine that fail: what is sent, what is said, and that nothing hangs.

The node is a socket whose other end behaves as Docker's does; real nodes are fed in the cluster tier.
"""

from __future__ import annotations

import io
import json
import socket
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker.errors
import pytest

from modelyard_sandbox import images
from modelyard_sandbox.archive import Archive
from modelyard_sandbox.errors import EngineUnavailable, ImageFault, Unsupported
from modelyard_sandbox.oci import Image

HEADER = b"REF TYPE DIGEST SIZE PLATFORMS LABELS\n"
Behaviour = Callable[[socket.socket], None]


def frame(content: bytes) -> bytes:
    """As Docker sends output of commands: 1 is stdout."""
    return struct.pack(">BxxxL", 1, len(content)) + content


def read_all(other: socket.socket) -> bytes:
    return b"".join(iter(lambda: other.recv(65536), b""))


class Node:
    """A container whose containerd takes what is sent to it, or does what it is told."""

    def __init__(
        self, behaves: Behaviour | None = None, *, status: int | None = 0, known_after: int = 0
    ) -> None:
        self.name = self.id = "node"
        self.there: dict[str, str] = {}
        self.received = b""
        self.client = SimpleNamespace(api=self)
        self.commands: list[list[str]] = []
        self._behaves, self._status, self._known_after = behaves or self._imports, status, known_after

    def exec_run(self, command: list[str]) -> tuple[int, bytes]:
        rows = [f"{name} kind {digest} 1 MB linux/amd64 -\n".encode() for name, digest in self.there.items()]
        return 0, HEADER + b"".join(rows)

    def exec_create(self, _container: str, command: list[str], *, stdin: bool) -> dict[str, str]:
        assert stdin
        self.commands.append(command)
        return {"Id": "run"}

    def exec_start(self, _run: str, *, socket: bool) -> Any:
        assert socket
        ours, theirs = pair()
        self._other = threading.Thread(target=self._attended, args=(theirs,), daemon=True)
        self._other.start()
        return ours

    def exec_inspect(self, _run: str) -> dict[str, int | None]:
        self._other.join(10)
        self._known_after -= 1
        return {"ExitCode": self._status if self._known_after < 0 else None}

    def ended(self) -> bool:
        """Whether the other end noticed that it is over."""
        self._other.join(10)
        return not self._other.is_alive()

    def _attended(self, theirs: socket.socket) -> None:
        with theirs:
            self._behaves(theirs)

    def _imports(self, theirs: socket.socket) -> None:
        self.received = read_all(theirs)
        with tarfile.open(fileobj=io.BytesIO(self.received)) as tar:
            index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
        for entry in index["manifests"]:
            self.there[entry["annotations"]["io.containerd.image.name"]] = entry["digest"]
        theirs.sendall(frame(b"unpacking\n"))


def pair() -> tuple[Any, socket.socket]:
    """Our end as the SDK hands it out: a reader, with the socket below it."""
    ours, theirs = socket.socketpair()
    return ours.makefile("rb", buffering=0), theirs


@pytest.fixture
def source(tmp_path: Path, kit: Any) -> Archive:
    made = kit.image("x.io/a:1", "a" * 3_000_000, packed=False), kit.image("x.io/b:1", "b", packed=False)
    arm = kit.image("x.io/arm:1", architecture="arm64", packed=False)
    return Archive(kit.oci(tmp_path / "a.tar", *made, arm))


def test_what_is_missing_is_sent_in_one_stream_and_nothing_else(source: Archive) -> None:
    node = Node()
    seen: list[tuple[int, int]] = []
    names = ["x.io/a:1", "x.io/b:1", "x.io/a:1"]
    assert images.load(node, source, names, lambda *moved: seen.append(moved)) == names[:2]
    assert node.there == {name: source.images[name].digest for name in names}
    assert node.commands == [["ctr", "-n", "k8s.io", "images", "import", "--platform", "linux/amd64", "-"]]
    assert seen[-1][0] == seen[-1][1] > 3_000_000
    assert images.load(node, source, names) == []
    assert len(node.commands) == 1
    node.there["x.io/b:1"] = "sha256:another"
    assert images.load(node, source, names) == ["x.io/b:1"]


def test_an_image_that_the_source_lacks_is_said_before_anything_is_sent(source: Archive) -> None:
    node = Node()
    with pytest.raises(ImageFault, match=r"no image x\.io/c:1"):
        images.load(node, source, ["x.io/a:1", "x.io/c:1"])
    with pytest.raises(Unsupported):
        images.load(node, source, ["x.io/a:1", "x.io/arm:1"])
    assert node.commands == []


def says(words: bytes, *, reads: bool) -> Behaviour:
    def do(theirs: socket.socket) -> None:
        if reads:
            read_all(theirs)
        theirs.sendall(frame(words))

    return do


@pytest.mark.parametrize("reads", [True, False], ids=["at the end", "at once"])
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (b"x\nctr: write /var/lib: no space left on device\n", "node-disk-full", "is full"),
        (b"ctr: content digest not found\n", "image-import", "content digest not found"),
        (b"", "image-import", "it said nothing"),
    ],
)
def test_a_node_that_refuses_gives_its_reason(
    source: Archive, words: bytes, code: str, message: str, reads: bool
) -> None:
    node = Node(says(words, reads=reads), status=1)
    with pytest.raises(ImageFault) as fault:
        images.load(node, source, ["x.io/a:1"])
    assert fault.value.code == code
    assert message in fault.value.message
    assert "\n" not in fault.value.message


def test_a_node_that_took_something_else_is_said(source: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images.time, "sleep", lambda _: None)
    node = Node(says(b"fine", reads=True))
    with pytest.raises(ImageFault, match=r"has x\.io/a:1 as nothing") as fault:
        images.load(node, source, ["x.io/a:1"])
    assert (fault.value.code, len(node.commands)) == ("image-mismatch", 3)
    node = Node(says(b"fine", reads=True))
    node.there["x.io/a:1"] = "sha256:another"
    with pytest.raises(ImageFault, match=r"has x\.io/a:1 as sha256:another") as fault:
        images.load(node, source, ["x.io/a:1"])
    assert (fault.value.code, len(node.commands)) == ("image-mismatch", 1)


def test_what_an_import_left_out_without_a_word_is_sent_once_more(
    source: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images.time, "sleep", lambda _: None)
    node = Node()
    whole = node._imports

    def forgets_one(theirs: socket.socket) -> None:
        whole(theirs)
        if len(node.commands) == 1:
            del node.there["x.io/b:1"]

    node._behaves = forgets_one
    names = ["x.io/a:1", "x.io/b:1"]
    assert images.load(node, source, names) == names
    assert node.there == {name: source.images[name].digest for name in names}
    assert len(node.commands) == 2


def test_a_command_that_talks_while_it_reads_does_not_block() -> None:
    def talks(theirs: socket.socket) -> None:
        while theirs.recv(65536):
            theirs.sendall(frame(b"x" * 65536))

    status, said = images.feed(Node(talks), ["cat"], [bytes(1 << 20)] * 8)
    assert status == 0
    assert len(said) > 4_000_000


def test_a_status_that_is_known_a_moment_later_is_waited_for() -> None:
    assert images.feed(Node(says(b"x", reads=True), status=3, known_after=3), ["x"], [b"y"]) == (3, "x")


def test_a_source_that_fails_ends_the_command_with_its_input(source: Archive) -> None:
    node = Node(lambda theirs: read_all(theirs) and None)

    def breaks() -> Iterator[bytes]:
        yield b"half"
        raise ImageFault("bundle-damaged", "it is damaged")

    with pytest.raises(ImageFault, match="it is damaged"):
        images.feed(node, ["ctr"], breaks())
    assert node.ended()


@pytest.mark.parametrize("reads", [True, False], ids=["does not end", "does not read"])
def test_a_node_in_which_nothing_moves_is_given_up(monkeypatch: pytest.MonkeyPatch, reads: bool) -> None:
    monkeypatch.setattr(images, "_PATIENCE", 0.3)
    over = threading.Event()

    def sleeps(theirs: socket.socket) -> None:
        if reads:
            read_all(theirs)
        over.wait(30)

    try:
        with pytest.raises(ImageFault, match="did not go on") as fault:
            images.feed(Node(sleeps), ["ctr"], [bytes(1 << 20)] * 8)
        assert fault.value.code == "image-import"
    finally:
        over.set()


def test_an_engine_that_goes_away_is_said(source: Archive) -> None:
    class Gone(Node):
        def exec_inspect(self, _run: str) -> dict[str, int | None]:
            raise docker.errors.APIError("boom", explanation="the engine\nis going down")

    for node in (Gone(says(b"", reads=True)), Gone(says(b"", reads=False))):
        with pytest.raises(EngineUnavailable, match="the engine is going down") as fault:
            images.feed(node, ["ctr"], [b"x"])
        assert fault.value.code == "docker-unreachable"


def test_a_containerd_that_does_not_answer_is_said() -> None:
    class Dead(Node):
        def exec_run(self, command: list[str]) -> tuple[int, bytes]:
            return 1, b"ctr: failed to dial\n"

    class Ended(Node):
        def exec_run(self, command: list[str]) -> tuple[int, bytes]:
            raise docker.errors.APIError("409", explanation="container is not running")

    for node, why in ((Dead(), "failed to dial"), (Ended(), "is not running")):
        with pytest.raises(ImageFault, match=why) as fault:
            images.present(node)
        assert fault.value.code == "node-containerd"


# -- the engine ---------------------------------------------------------------------------------


class Engine:
    """A Docker engine that takes and gives images, or fails."""

    def __init__(self, *answers: Any, keeps: bool = True) -> None:
        self.client = SimpleNamespace(api=self, images=self)
        self.timeout = 60
        self.held: dict[str, str] = {}
        self.patience: list[float] = []
        self._answers, self._keeps = answers, keeps

    def get(self, name: str) -> Any:
        if name not in self.held:
            raise docker.errors.ImageNotFound("no such image")
        return SimpleNamespace(id=self.held[name])

    def has_image(self, name: str) -> bool:
        return name in self.held

    def load_image(self, data: Iterator[bytes]) -> Iterator[dict[str, str]]:
        self.patience.append(self.timeout)
        received = b"".join(data)
        if self._keeps:
            with tarfile.open(fileobj=io.BytesIO(received)) as tar:
                for entry in json.load(tar.extractfile("manifest.json")):  # type: ignore[arg-type]
                    self.held[entry["RepoTags"][0]] = "sha256:" + entry["Config"].rpartition("/")[2]
        yield from self._given()

    def get_image(self, name: str) -> Iterator[bytes]:
        self.patience.append(self.timeout)
        yield from self._given()

    def _given(self) -> Iterator[Any]:
        for answer in self._answers:
            if isinstance(answer, Exception):
                raise answer
            yield answer


def test_an_engine_gets_the_node_image_once_and_time_for_it(source: Archive) -> None:
    engine = Engine()
    assert images.ensure_node_image(engine, source, "x.io/a:1")
    assert not images.ensure_node_image(engine, source, "x.io/a:1")
    assert engine.patience == [600]
    assert engine.timeout == 60
    engine.held["x.io/a:1"] = "sha256:of-another-version"
    assert images.ensure_node_image(engine, source, "x.io/a:1")


def test_an_engine_that_names_images_by_manifest_has_it_too(source: Archive) -> None:
    image: Image = source.images["x.io/a:1"]
    engine = Engine()
    engine.held["x.io/a:1"] = image.digest
    assert not images.ensure_node_image(engine, source, "x.io/a:1")


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        ({"error": "write /x: no space left on device"}, "engine-disk-full", "does not fit"),
        ({"error": "invalid\ntar header"}, "image-load", "invalid tar header"),
        (docker.errors.APIError("boom", explanation="not implemented"), "image-load", "not implemented"),
        (TimeoutError("timed out"), "image-load", "timed out"),
    ],
)
def test_an_engine_that_does_not_load_gives_its_reason(
    source: Archive, answer: Any, code: str, message: str
) -> None:
    with pytest.raises(ImageFault) as fault:
        images.ensure_node_image(Engine(answer, keeps=False), source, "x.io/a:1")
    assert fault.value.code == code
    assert message in fault.value.message


def test_an_image_is_taken_out_of_the_engine(tmp_path: Path, kit: Any) -> None:
    made = kit.image("x.io/a:1", packed=False)
    content = kit.docker(tmp_path / "saved.tar", made).read_bytes()
    engine = Engine(content[:5000], content[5000:])
    engine.held["x.io/a:1"] = "sha256:any"
    (tmp_path / "folder").mkdir()
    found = images.from_engine(engine, "x.io/a:1", tmp_path / "folder", "linux/amd64")
    assert found.images["x.io/a:1"].config.size == len(made.config)
    assert (engine.patience, engine.timeout) == ([600], 60)
    with pytest.raises(ImageFault, match="has no image") as fault:
        images.from_engine(engine, "x.io/b:1", tmp_path / "folder", "linux/amd64")
    assert fault.value.code == "image-unknown"


@pytest.mark.parametrize(
    "broken", [docker.errors.APIError("boom", explanation="a layer is missing"), ConnectionError("gone")]
)
def test_an_engine_that_breaks_off_is_said_and_not_the_disk(tmp_path: Path, broken: Exception) -> None:
    engine = Engine(b"half", broken)
    engine.held["x.io/a:1"] = "sha256:any"
    with pytest.raises(ImageFault, match=r"a layer is missing|gone") as fault:
        images.from_engine(engine, "x.io/a:1", tmp_path, "linux/amd64")
    assert fault.value.code == "image-save"
