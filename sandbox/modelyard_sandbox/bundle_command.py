"""`modelyard sandbox bundle`: make, look into and check what a sandbox boots from without a network."""

from __future__ import annotations

import contextlib
import platform as machine
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from modelyard import console
from modelyard.cli.base import Session, json_option
from modelyard.components import Component
from modelyard.errors import ModelyardError, NotFoundError, UsageError

if TYPE_CHECKING:
    from modelyard_sandbox.bundle import Bundle
    from modelyard_sandbox.lock import LockedImage
    from modelyard_sandbox.oci import Source
    from modelyard_sandbox.registry import Registries

#: Gets bytes done and in all.
_Moved = Callable[[int, int], None]

mirror_option = click.option(
    "--mirror",
    "mirrors",
    multiple=True,
    metavar="HOST=OTHER",
    help="Ask another host instead of a registry, e.g. docker.io=mirror.example.org/hub.",
)
ca_option = click.option(
    "--ca-cert",
    "ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Trust these authorities, too (a PEM file), e.g. those of a proxy that opens TLS.",
)
_file = click.argument("file", type=click.Path(path_type=Path))


@click.group()
def bundle() -> None:
    """One file that a sandbox boots from without a network: images, manifests, node image.

    \b
    Example:
      modelyard sandbox bundle create stack.tar
      modelyard sandbox up --bundle stack.tar --offline
    """


@bundle.command()
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--from",
    "archives",
    multiple=True,
    metavar="ARCHIVE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take images from this archive (OCI or `docker save`), not from registries; the first wins.",
)
@click.option(
    "--stand-in",
    "single",
    multiple=True,
    metavar="UPSTREAM=NAME",
    help="Take the image NAME in the place of an upstream one.",
)
@click.option(
    "--stand-ins",
    "listed",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A TOML or JSON file of many such pairs.",
)
@click.option("--node", metavar="NAME", help="kind's node image, where it is another.")
@click.option(
    "--without-image", "images_out", multiple=True, metavar="UPSTREAM", help="Leave this image out."
)
@click.option("--without", "components_out", multiple=True, metavar="COMPONENT", help="Leave it out.")
@click.option(
    "--manifests",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Take the release files of other projects from this folder instead of their addresses.",
)
@click.option(
    "--platform",
    type=click.Choice(["linux/amd64", "linux/arm64"]),
    help="Of the images.  [default: this machine's]",
)
@mirror_option
@ca_option
@json_option
def create(
    session: Session,
    out: Path,
    archives: tuple[Path, ...],
    single: tuple[str, ...],
    listed: Path | None,
    node: str | None,
    images_out: tuple[str, ...],
    components_out: tuple[str, ...],
    manifests: Path | None,
    platform: str | None,
    mirrors: tuple[str, ...],
    ca: Path | None,
) -> None:
    """Make a bundle of everything that the installed components run.

    Images are pulled from their registries, and ours is built with Docker; with --from they are taken from
    archives, and nothing is pulled or built.

    \b
    Example:
      modelyard sandbox bundle create stack.tar --without grafana
      modelyard sandbox bundle create stack.tar --from images.tar --stand-ins stand-ins.toml
    """
    from modelyard.plugins import PluginManager
    from modelyard_sandbox import bundle_writing
    from modelyard_sandbox.archive import Archive
    from modelyard_sandbox.lock import Lock, reference
    from modelyard_sandbox.registry import Registries
    from modelyard_sandbox.selection import chosen, offered

    platform = platform or _platform()
    registries = Registries.of(mirrors, ca)
    lock = Lock.load()
    stand_ins = bundle_writing.read_stand_ins(listed) if listed else {}
    stand_ins |= dict(_pair(text) for text in single)
    if node is not None:
        stand_ins[lock.node.reference] = reference(node)
    offers = offered(PluginManager())
    components = chosen(offers, "full", list(offers), components_out)
    references = _references(components, lock.node.reference, [reference(name) for name in images_out])
    released = _releases(components, manifests, registries)
    with contextlib.ExitStack() as stack:
        sources: list[Source]
        if archives:
            sources = [Archive(path, platform) for path in archives]
        else:
            folder = stack.enter_context(_beside(out))
            wanted = [lock.entry(stand_ins.get(name, name), platform) for name in references]
            sources = _fetched(wanted, platform, registries, folder)
        moved = stack.enter_context(_telling(f"writing {out}"))
        made = bundle_writing.create(
            out,
            references=references,
            node=lock.node.reference if lock.node.reference in references else None,
            sources=sources,
            platform=platform,
            stand_ins=stand_ins,
            manifests=released,
            moved=moved,
        )
    session.show(_described(made), lambda: _print(made))


@bundle.command()
@_file
@json_option
def inspect(session: Session, file: Path) -> None:
    """What a bundle holds: images, what they stand in for, and manifests.

    \b
    Example:
      modelyard sandbox bundle inspect stack.tar
    """
    found = _opened(file)
    session.show(_described(found), lambda: _print(found))


@bundle.command()
@_file
@json_option
def verify(session: Session, file: Path) -> None:
    """Read every byte of a bundle and compare it with the hashes that its index names.

    \b
    Example:
      modelyard sandbox bundle verify stack.tar
    """
    found = _opened(file)
    with _telling(f"reading {file}") as moved:
        found.verify(moved)
    session.show(
        {"file": str(file), "ok": True, "members": len(found.index.members)},
        lambda: click.echo(f"{file} is whole: {len(found.index.members)} files, all as its index says"),
    )


# -- what goes in -------------------------------------------------------------------------------


def _references(components: Iterable[Component], node: str, without: Collection[str]) -> list[str]:
    """The upstream images that are needed, the node's first."""
    needed = dict.fromkeys([node, *(name for component in components for name in component.images)])
    for name in without:
        if name not in needed:
            raise UsageError(
                "image-not-needed", f"no component needs {name}", f"there are: {', '.join(needed)}"
            )
    return [name for name in needed if name not in without]


def _releases(
    components: Iterable[Component], folder: Path | None, registries: Registries
) -> dict[str, bytes]:
    from modelyard_sandbox import releases

    found: dict[str, bytes] = {}
    for release in (release for component in components for release in component.releases):
        file = folder / release.name if folder else None
        if file is not None and not file.is_file():
            raise NotFoundError("manifest-missing", f"there is no {file}", f"it is at {release.url}")
        read = (lambda _, file=file: file.read_bytes()) if file else None
        found[release.name] = releases.fetch(release, registries, offline=False, bundled=read)
    return found


def _fetched(
    wanted: Iterable[LockedImage], platform: str, registries: Registries, folder: Path
) -> list[Source]:
    """The images, pulled into the store that all sandboxes share, or built here."""
    from modelyard_sandbox import images
    from modelyard_sandbox.engine import Engine
    from modelyard_sandbox.store import Store

    everything = list(wanted)
    store = Store(platform, registries)
    sources: list[Source] = [store]
    with _telling("pulling images") as moved:
        store.pull([entry for entry in everything if not entry.build], moved)
    for entry in (entry for entry in everything if entry.build):
        engine = Engine()
        if not engine.has_image(entry.reference):
            _build(engine, entry.reference, registries.ca)
        with console.waiting(f"saving {entry.reference}"):
            sources.append(images.from_engine(engine, entry.reference, folder, platform))
    return sources


def _build(engine: Any, name: str, ca: Path | None) -> None:
    from modelyard_sandbox import stack_image

    try:
        with console.waiting(f"building {name}"):
            stack_image.build(engine, name, ca=ca)
    except ModelyardError as fault:
        for line in fault.details.get("evidence") or ():  # type: ignore[attr-defined]
            print(f"  {line}", file=sys.stderr)
        raise


@contextlib.contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A temporary folder where there must be room anyway; /tmp is often small."""
    from modelyard.state import os_errors

    with os_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.")
    with folder as name:
        yield Path(name)


def _pair(text: str) -> tuple[str, str]:
    from modelyard_sandbox.lock import reference

    upstream, equals, name = text.partition("=")
    if not equals:
        raise UsageError(
            "stand-in-invalid", f"'{text}' does not say what stands in for what", "--stand-in UPSTREAM=NAME"
        )
    return reference(upstream), reference(name)


def _platform() -> str:
    name = machine.machine()
    return "linux/" + {"x86_64": "amd64", "aarch64": "arm64"}.get(name, name)


# -- what is shown ------------------------------------------------------------------------------


def _opened(file: Path) -> Bundle:
    from modelyard_sandbox.bundle import Bundle

    if not file.is_file():
        raise NotFoundError("bundle-missing", f"there is no bundle {file}", "name the file again")
    return Bundle(file)


def _described(found: Bundle) -> Mapping[str, Any]:
    node = found.lock.node
    return {
        "file": str(found.path),
        "size": found.path.stat().st_size,
        "platform": found.platform,
        "created": found.index.created,
        "modelyard": found.index.modelyard,
        "node": node.model_dump(mode="json") if node else None,
        "images": [stand_in.model_dump(mode="json") for stand_in in found.lock.listed],
        "manifests": _manifests(found),
    }


def _manifests(found: Bundle) -> list[str]:
    return [name.partition("/")[2] for name in found.index.members if name.startswith("manifests/")]


def _print(found: Bundle) -> None:
    images = [*([found.lock.node] if found.lock.node else []), *found.lock.listed]
    rows = [
        (
            one.reference,
            "itself" if one.name == one.reference else one.name,
            one.digest[:19],
            console.size(one.size),
        )
        for one in images
    ]
    console.table(["UPSTREAM", "STANDS IN", "DIGEST", "SIZE"], rows, empty="no images")
    if manifests := _manifests(found):
        click.echo(f"manifests: {', '.join(manifests)}")
    if found.lock.node is None:
        click.echo("no node image: it is taken from its registry")
    made = f"made {found.index.created} by modelyard {found.index.modelyard}"
    click.echo(f"{found.path}: {console.size(found.path.stat().st_size)}, {found.platform}, {made}")


@contextlib.contextmanager
def _telling(what: str) -> Iterator[_Moved]:
    """Say on a terminal what is done and how far it came, while the block runs."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console

    plain = what.replace("[", r"\[")
    with Console(stderr=True).status(plain) as status:
        yield lambda done, total: status.update(f"{plain}: {console.size(done)} of {console.size(total)}")
