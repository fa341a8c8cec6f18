"""Ship: copy a project's data, registered models and their history to a target.

Nothing is moved and nothing is lost: the originals stay, and what is there already is left alone. Data
and versions come first, names last: a model's aliases and history follow once all of its versions are
there. A version whose files are not those that were registered is refused; the others go on without
it, but its model's aliases and history wait, because half a history would be a wrong one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.digests import digest_of, model_digest
from modelyard.errors import (
    ConflictError,
    CorruptStateError,
    EnvironmentFault,
    ModelyardError,
    NotFoundError,
    UsageError,
)
from modelyard.records import DataRef, LoggedModel, ModelVersion
from modelyard.shipping.data import Data
from modelyard.shipping.known import MARK, Known
from modelyard.shipping.names import Names
from modelyard.shipping.records import (
    Progress,
    Shipment,
    ShippedAlias,
    ShippedVersion,
)
from modelyard.shipping.runs import Runs
from modelyard.state import locked
from modelyard.targets import LOCAL

if TYPE_CHECKING:
    from modelyard.yard import Yard

#: Versions that travel at the same time.
_AT_ONCE = 4


def ship(
    source: Yard,
    to: str,
    *,
    models: Sequence[str] = (),
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Shipment:
    """Copy to the target what it lacks. Doing it again copies what is new since; killed, it goes on.

    Args:
        source: the project as it stands on one target, usually `local`.
        to: the other target.
        models: only these, with the data of their runs; default: all, and all current data.
        dry_run: say what would be done; nothing is changed there.
        progress: is told how far it is, from several threads.

    Raises:
        UsageError: `ship-to-itself`, `ship-to-local`.
        NotFoundError: `target-unknown`, `model-not-found`.
        ConflictError: `locked`: another ship to the target is under way.
        EnvironmentFault: a service of the target does not answer, or refuses the login.
    """
    if to == source.target_name:
        raise UsageError(
            "ship-to-itself",
            f"the project is on '{to}' already",
            "name where it comes from, too: modelyard --target local ship --to sandbox",
        )
    from modelyard.yard import Yard

    if to == LOCAL:
        raise UsageError(
            "ship-to-local", "ship copies to a cluster, not back to this machine", "modelyard target list"
        )
    target = Yard(source.root, overrides=source.overrides, target=to)
    _ = target.target  # an unknown one is said before anything is done
    with locked(target.state / "ship.lock", timeout=1, doing=f"shipping to {to}"):
        return _Ship(source, target, progress or Progress()).ship(models, dry_run=dry_run)


@dataclass(frozen=True)
class _Model:
    """A model's versions, oldest first, and those that are there already."""

    name: str
    versions: Sequence[ModelVersion]
    there: Mapping[str, ModelVersion]

    @property
    def new(self) -> list[ModelVersion]:
        return [version for version in self.versions if version.ref not in self.there]


class _Ship:
    def __init__(self, source: Yard, target: Yard, progress: Progress) -> None:
        self._source, self._target, self._progress = source, target, progress
        self._map = Known(target.state / "shipped.json", source.target_name)
        self._runs = Runs(source, target, self._map)
        self._refused: dict[str, ModelyardError] = {}

    def ship(self, names: Sequence[str], *, dry_run: bool) -> Shipment:
        self._progress.say("comparing both sides")
        data = Data(self._target.store, self._progress, dry_run=dry_run)
        try:
            if not names:  # before the registry, which takes seconds to open
                data.begin(self._source.store.refs())
            names = list(dict.fromkeys(names)) or self._source.registry.models()
            if not dry_run:
                for name in names:
                    self._source.repair(name)
            models = [self._compared(name) for name in names]
            data.begin(self._used(models))
            return self._shipped(models, data, dry_run=dry_run)
        finally:
            data.close()

    def _shipped(self, models: Sequence[_Model], data: Data, *, dry_run: bool) -> Shipment:
        folders = dict(self._checked(models))
        sizes = {ref: _size(folder) for ref, folder in folders.items()}
        self._progress.more(sum(sizes.values()))
        made: dict[str, ModelVersion | None] = dict.fromkeys(folders)
        if not dry_run:
            self._runs.data = data.there
            made = self._copied(models, folders, sizes)
            self._note(models)
            data.finish()
        shipped = Shipment(
            target=self._target.target_name,
            dry_run=dry_run,
            data=data.shipped(),
            versions=tuple(self._version(model, v, made, sizes) for model in models for v in model.versions),
        )
        return self._with_names(shipped, models, made, dry_run=dry_run)

    # -- what there is ----------------------------------------------------------------------

    def _compared(self, name: str) -> _Model:
        versions = self._source.registry.versions(name)[::-1]
        try:
            found = {v.tags.get(MARK): v for v in self._target.registry.versions(name)}
        except NotFoundError:
            found = {}
        there = {version.ref: found[_mark(version)] for version in versions if _mark(version) in found}
        return _Model(name, versions, there)

    def _used(self, models: Sequence[_Model]) -> list[DataRef]:
        """The versions of data behind the models' runs."""
        versions = [version for model in models for version in model.versions]
        return [use.ref for run in self._runs.of(versions).values() for use in run.data if use.ref.digest]

    def _checked(self, models: Sequence[_Model]) -> Iterator[tuple[str, Path]]:
        """The folders of the versions that have to be copied, by reference."""
        for version in (version for model in models for version in model.new):
            try:
                folder = self._source.registry.fetch(version)
                if version.digest and model_digest(folder) != version.digest:
                    raise CorruptStateError(
                        "model-changed",
                        f"the files of {version.ref} are not those that were registered; it was not shipped",
                        f"bring them back ({folder}), or delete that version, then run this again",
                    )
                yield version.ref, folder
            except (CorruptStateError, NotFoundError) as fault:
                self._refused[version.ref] = fault

    # -- copying ----------------------------------------------------------------------------

    def _copied(
        self, models: Sequence[_Model], folders: Mapping[str, Path], sizes: Mapping[str, int]
    ) -> dict[str, ModelVersion | None]:
        """Copy the versions with their runs; returns them as they are there."""
        self._runs.search = any(model.there for model in models)
        registered: dict[str, ModelVersion | None] = {}
        wanted = [version for model in models for version in model.versions if version.ref in folders]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                carried = self._carried(pool, wanted, folders, sizes)
                left = self._runs.unfinished({version.run_id for version in wanted})
                again = [pool.submit(self._runs.copy, run) for run in left]
                for version in wanted:  # oldest first, so that they are counted as they are here
                    if (model := self._taken(version, carried[version.ref])) is not None:
                        registered[version.ref] = self._registered(version, model)
                for each in again:
                    each.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return registered

    def _carried(
        self,
        pool: ThreadPoolExecutor,
        versions: Sequence[ModelVersion],
        folders: Mapping[str, Path],
        sizes: Mapping[str, int],
    ) -> dict[str, Future[LoggedModel]]:
        """Begin to copy the runs and models; versions of one run go one after the other."""
        runs = self._runs.of(versions)
        turns: dict[str | None, threading.Lock] = {}

        def carry(version: ModelVersion) -> LoggedModel:
            run = runs.get(version.run_id or "")
            with turns.setdefault(run.id, threading.Lock()) if run else threading.Lock():
                self._progress.say(f"copying {version.ref}")
                model = self._runs.with_model(run, folders[version.ref], version)
                self._progress.advance(sizes[version.ref])
                return model

        return {version.ref: pool.submit(carry, version) for version in versions}

    def _taken(self, version: ModelVersion, carried: Future[LoggedModel]) -> LoggedModel | None:
        """What was stored there; None if just this version could not be."""
        try:
            return carried.result()
        except EnvironmentFault:
            raise
        except ModelyardError as fault:
            self._refused[version.ref] = fault
            return None

    def _registered(self, version: ModelVersion, model: LoggedModel) -> ModelVersion:
        self._progress.say(f"registering {version.ref}")
        tags = {**version.tags, MARK: _mark(version)}
        made = self._target.registry.register(version.name, model, tags=tags)
        self._map.note_version(version.ref, made.ref)
        return made

    def _note(self, models: Sequence[_Model]) -> None:
        """What the target says is so; a killed ship may not have come to write it down."""
        for model in models:
            for ref, there in model.there.items():
                self._map.note_version(ref, there.ref)

    def _version(
        self,
        model: _Model,
        version: ModelVersion,
        made: Mapping[str, ModelVersion | None],
        sizes: Mapping[str, int],
    ) -> ShippedVersion:
        there = model.there.get(version.ref) or made.get(version.ref)
        refused = version.ref in self._refused
        return ShippedVersion(
            ref=version.ref,
            there=there.ref if there else None,
            run_id=version.run_id,
            run_there=there.run_id if there else None,
            bytes=0 if refused else sizes.get(version.ref, 0),
            state="refused" if refused else "new" if version.ref in made else "there",
        )

    # -- names ------------------------------------------------------------------------------

    def _with_names(
        self,
        shipped: Shipment,
        models: Sequence[_Model],
        made: Mapping[str, ModelVersion | None],
        *,
        dry_run: bool,
    ) -> Shipment:
        aliases: list[ShippedAlias] = []
        promotions: dict[str, int] = {}
        for model in models:
            if any(version.ref in self._refused for version in model.versions):
                continue
            found = {**made, **model.there}
            numbers = {v.version: there.version for v in model.versions if (there := found.get(v.ref))}
            names = Names(self._source, self._target, self._map, model.name, numbers)
            self._progress.say(f"naming {model.name}")
            try:
                if dry_run:
                    promotions[model.name] = names.new_events()
                    aliases += names.aliases()
                else:
                    moved, promotions[model.name] = names.move(self._runs_there(model, found))
                    aliases += moved
            except ConflictError as fault:
                self._refused[model.name] = fault
        refused = tuple({"ref": ref, **fault.to_dict()} for ref, fault in self._refused.items())
        return replace(shipped, aliases=tuple(aliases), promotions=promotions, refused=refused)

    def _runs_there(self, model: _Model, found: Mapping[str, ModelVersion | None]) -> dict[str, str]:
        """Run here -> run there, as the target's versions tell it: the map may have been lost."""
        pairs = ((version.run_id, found.get(version.ref)) for version in model.versions)
        told = {here: there.run_id for here, there in pairs if here and there and there.run_id}
        return {**self._map.runs, **told}


def _mark(version: ModelVersion) -> str:
    """Names a version so that another of the same number, made elsewhere, is not taken for it."""
    identity = digest_of([version.run_id, version.digest, version.created.isoformat()])
    return (
        f"{version.ref} ({identity[:16]}), registered by {version.user or '?'}, {version.created.isoformat()}"
    )


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
