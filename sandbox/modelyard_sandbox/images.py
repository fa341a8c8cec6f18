"""Images into the cluster's node and into the Docker engine.

The node's containerd is fed by `ctr images import` over a stream of our own: `kind load` loses digests,
fails on images of several platforms, and reads everything from the engine. What is there already, by
name and digest, is not sent again.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from modelyard.state import os_errors
from modelyard_sandbox.archive import Archive
from modelyard_sandbox.errors import EngineUnavailable, ImageFault
from modelyard_sandbox.oci import Image, Moved, Source, archive, find, normal

_CTR = ("ctr", "-n", "k8s.io")
#: Seconds that an engine or a node may be silent while it packs or unpacks.
_PATIENCE = 600
_TRIES = 3


def present(container: Any) -> dict[str, str]:
    """The images in a node: name -> digest of what the name stands for.

    Args:
        container: the node, as the `docker` SDK gives it; it runs.

    Raises:
        ImageFault: `node-containerd`: its containerd does not answer.
    """
    try:
        status, output = container.exec_run([*_CTR, "images", "ls"])
        said = output.decode(errors="replace")
    except OSError as fault:  # what the SDK raises, too: the node has just ended
        status, said = 1, _explained(fault)
    if status:
        raise ImageFault(
            "node-containerd",
            f"the containerd of {container.name} does not answer: {_last(said)}",
            "modelyard sandbox doctor",
        )
    rows = (line.split() for line in said.splitlines()[1:])
    return {row[0]: row[2] for row in rows if len(row) > 2}


def load(container: Any, source: Source, names: Iterable[str], moved: Moved | None = None) -> list[str]:
    """Bring images into a node, in one stream; those that are there with the same digest are left out.

    They are unpacked right away: the first pods would have to wait for it otherwise.

    Args:
        container: the node, as the `docker` SDK gives it; it runs.
        source: what holds them.
        names: as the source calls them.
        moved: gets bytes done and in all.

    Returns:
        The names that were loaded.

    Raises:
        ImageFault: `image-unknown` (the source has none of that name), `node-disk-full`, `image-import`
            (containerd's own words), `image-mismatch` (it took something else), or the source is damaged.
        Unsupported: `image-platform`.
    """
    images = [find(source, name) for name in dict.fromkeys(names)]
    missing = _missing(container, images)
    loaded = [image.name for image in missing]
    for tries_left in reversed(range(_TRIES)):
        if not missing:
            break
        command = [*_CTR, "images", "import", "--platform", missing[0].platform, "-"]
        status, said = feed(container, command, archive([(image, source) for image in missing], moved))
        # A command that was killed leaves its import behind, which holds the same blobs for a moment.
        if status and (not tries_left or "no space left" in said):
            raise _import_fault(container.name, missing, said)
        if not status and _are_there(container, missing, last=not tries_left):
            break
        time.sleep(2)
        missing = _missing(container, images)
    return loaded


def _missing(container: Any, images: list[Image]) -> list[Image]:
    there = present(container)
    return [image for image in images if there.get(image.name) != image.digest]


def ensure_node_image(engine: Any, source: Source, name: str, moved: Moved | None = None) -> bool:
    """Have the engine load kind's node image where it lacks it or has another under this name.

    Args:
        engine: an `Engine`.
        source: what holds the image.
        name: as the source calls it.
        moved: gets bytes done and in all.

    Returns:
        Whether it was loaded.

    Raises:
        ImageFault: `image-unknown`, `engine-disk-full`, `image-load` with the engine's reason, or the
            source is damaged.
        Unsupported: `image-platform`.
    """
    image = find(source, normal(name))
    if _has(engine, image):
        return False
    try:
        with _patient(engine.client.api) as api:
            said = [
                answer.get("error") or answer.get("stream") or ""
                for answer in api.load_image(archive([(image, source)], moved))
            ]
    except OSError as fault:  # what the SDK raises, too
        said = [_explained(fault)]
    if not _has(engine, image):
        why = " ".join(" ".join(said).split())[-300:]
        if "no space left" in why:
            raise ImageFault(
                "engine-disk-full",
                f"the disk of the Docker engine is full: {image.name} does not fit",
                "free some space: docker system df, then docker image prune",
            )
        raise ImageFault("image-load", f"Docker did not load {image.name}: {why}", "modelyard sandbox doctor")
    return True


def from_engine(engine: Any, name: str, folder: Path, platform: str) -> Archive:
    """An image of the Docker engine as an archive in a folder.

    Args:
        engine: an `Engine`.
        name: as `docker images` shows it.
        folder: a temporary one, with room for it.
        platform: e.g. `linux/amd64`.

    Raises:
        ImageFault: `image-unknown`, or `image-save` with the engine's reason.
        EnvironmentFault: `disk-full`.
    """
    if not engine.has_image(name):
        raise ImageFault("image-unknown", f"the Docker engine has no image {name}", f"docker pull {name}")
    file = folder / f"{secrets.token_hex(6)}.tar"
    with _patient(engine.client.api) as api, os_errors(file), open(file, "wb") as saved:
        for chunk in _saved(api, name):
            saved.write(chunk)
    return Archive(file, platform)


def _saved(api: Any, name: str) -> Iterator[bytes]:
    try:
        yield from api.get_image(name)
    except OSError as fault:  # what the SDK raises, too
        raise ImageFault(
            "image-save", f"Docker did not save {name}: {_explained(fault)}", "modelyard sandbox doctor"
        ) from None


@contextlib.contextmanager
def _patient(api: Any) -> Iterator[Any]:
    """The engine's API, given more than the SDK's minute: it packs a whole image before its first byte."""
    before, api.timeout = api.timeout, _PATIENCE
    try:
        yield api
    finally:
        api.timeout = before


# -- streams ------------------------------------------------------------------------------------


def feed(container: Any, command: list[str], content: Iterable[bytes]) -> tuple[int, str]:
    """Run a command in a container and give it its standard input.

    Args:
        container: as the `docker` SDK gives it.
        command: argv.
        content: the input. If it raises, the command gets a cut-off input, and this raises.

    Returns:
        The exit status, and what the command said on both its outputs.

    Raises:
        EngineUnavailable: `docker-unreachable`: the connection broke.
        ImageFault: `image-import`: it took nothing, or did not end, for ten minutes.
    """
    api = container.client.api
    try:
        run = api.exec_create(container.id, command, stdin=True)["Id"]
        raw = api.exec_start(run, socket=True)
        said = _give(raw, content, lambda: api.exec_inspect(run)["ExitCode"] is not None)
        status = _ended(api, run)
    except TimeoutError:
        raise ImageFault(
            "image-import",
            f"`{command[0]}` in {container.name} did not go on for {_PATIENCE // 60} minutes",
            "modelyard sandbox doctor",
        ) from None
    except OSError as fault:  # what the SDK raises, too
        raise EngineUnavailable(
            "docker-unreachable",
            f"the connection to Docker broke: {_explained(fault)}",
            "modelyard sandbox doctor",
        ) from None
    return status, said


def _give(raw: Any, content: Iterable[bytes], has_ended: Callable[[], bool]) -> str:
    """Send the input, and return what came back when the other side is done."""
    # The SDK hands out a reader; what it reads from can be written to.
    connection = getattr(raw, "_sock", raw)
    connection.settimeout(_PATIENCE)  # the SDK's minute is short for a slow disk
    said: list[bytes] = []
    # A command that says more than a buffer holds would block for ever if nobody read it meanwhile.
    reader = threading.Thread(target=_read, args=(raw, said), daemon=True)
    reader.start()
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(connection, reader, has_ended, done), daemon=True)
    watcher.start()
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended early, and says why
            for chunk in content:
                connection.sendall(chunk)
            _end_input(connection)
        reader.join(_PATIENCE)
        if reader.is_alive():
            raise TimeoutError
    finally:
        done.set()
        # A close alone does not reach the other side while the reader still waits on it.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        reader.join(5)
        with contextlib.suppress(OSError):
            connection.close()
            raw.close()
    return b"".join(said).decode(errors="replace")


def _watch(
    connection: Any, reader: threading.Thread, has_ended: Callable[[], bool], done: threading.Event
) -> None:
    """When the command has ended early, engines take nothing any more: who sends would wait for ever."""
    with contextlib.suppress(OSError):
        while not done.wait(0.5):
            if has_ended():
                reader.join(2)  # its last words
                connection.shutdown(socket.SHUT_RDWR)
                return


def _end_input(connection: Any) -> None:
    """No more input; what the command says can still be read."""
    if hasattr(connection, "shutdown_write"):  # over SSH
        connection.shutdown_write()
    elif not isinstance(connection, ssl.SSLSocket):
        connection.shutdown(socket.SHUT_WR)
    # TLS can't be ended in one direction; there the command must go by the archive's own end.


def _read(raw: Any, said: list[bytes]) -> None:
    from docker.utils.socket import frames_iter

    with contextlib.suppress(OSError, ValueError):
        for _, content in frames_iter(raw, tty=False):
            said.append(content)


def _ended(api: Any, run: str) -> int:
    """The exit status; the engine knows it a moment after the last output."""
    deadline = time.monotonic() + 10
    while (status := api.exec_inspect(run)["ExitCode"]) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return 1 if status is None else int(status)


# -- what can go wrong --------------------------------------------------------------------------


def _import_fault(node: str, images: list[Image], said: str) -> ImageFault:
    names = ", ".join(image.name for image in images)
    if "no space left" in said:
        return ImageFault(
            "node-disk-full",
            f"the disk of {node} is full: {names} does not fit",
            "free some space on the disk of Docker (docker system df), then run this again",
        )
    return ImageFault(
        "image-import", f"{node} did not take {names}: {_last(said)}", "modelyard sandbox doctor"
    )


def _are_there(container: Any, images: list[Image], *, last: bool) -> bool:
    """Whether what was imported is there. On a busy machine an import once left nothing and did not say so;
    that is worth another try."""
    there = present(container)
    for image in images:
        if there.get(image.name) != image.digest and (last or image.name in there):
            raise ImageFault(
                "image-mismatch",
                f"{container.name} has {image.name} as {there.get(image.name, 'nothing')[:19]}, "
                f"not as {image.digest[:19]}",
                "modelyard sandbox doctor",
            )
    return all(image.name in there for image in images)


def _explained(fault: OSError) -> str:
    """The engine's reason, or the system's."""
    return " ".join(str(getattr(fault, "explanation", None) or fault).split())


def _last(said: str) -> str:
    """The end of what a command said: its reason, less its name."""
    lines = [line for line in said.splitlines() if line.strip()]
    reasons = [line for line in lines if line.startswith("ctr: ")] or lines
    return reasons[-1].removeprefix("ctr: ")[-300:] if reasons else "it said nothing"


def _has(engine: Any, image: Image) -> bool:
    """Whether the engine has this very image under its name: by its configuration, or, where it keeps
    images in containerd's store, by its manifest."""
    import docker.errors

    try:
        return engine.client.images.get(image.name).id in (image.config.digest, image.digest)
    except docker.errors.ImageNotFound:
        return False
