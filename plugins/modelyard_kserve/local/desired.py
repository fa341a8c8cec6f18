"""What an endpoint shall be (written by commands) and what it is (written by its controller), on disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from modelyard.digests import digest_of
from modelyard.errors import CorruptStateError
from modelyard.records import Trust
from modelyard.state import read_json, write_json
from modelyard_kserve.local.scaling import Scaling

DESIRED, OBSERVED, BELL = "desired.json", "observed.json", "bell.sock"
#: The path of a Unix socket fits in 104 bytes on macOS, in 108 on Linux; our part of it takes 45.
_LONGEST_TEMPORARY = 58


@dataclass(frozen=True)
class Component:
    """A transformer or an explainer: a program of the project before or beside the predictor.

    Attributes:
        command: what it runs, quoted for a shell, without what the predictor's address adds.
        code: the digest of the project's code that it runs.
        path, digest: of its model's files, or of its code.
        storage_uri: where its model came from; empty: it has none.
        env, limits, timeout, concurrency: see `Wanted`.
        scaling: how many processes it has.
    """

    command: str
    code: str = ""
    path: str = ""
    digest: str = ""
    storage_uri: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    timeout: float = 300.0
    concurrency: int = 0
    scaling: Scaling = field(default_factory=Scaling)


@dataclass(frozen=True)
class Wanted:
    """One revision: which model, with which environment, and what stands around it."""

    number: int
    name: str
    model: str
    version: str
    path: str
    digest: str
    storage_uri: str
    spec_digest: str
    created: str
    env: Mapping[str, str] = field(default_factory=dict)
    trust_pickle: bool = False
    #: Who answers for that: `registry`, `consent` or `settings`.
    trusted_by: Trust = ""
    #: Whether the consent is the file's, and ends with the annotation.
    consent_in_file: bool = False
    #: Seconds that an answer may take.
    timeout: float = 300.0
    #: Requests that one replica works on at once; 0: as many as come.
    concurrency: int = 0
    #: What loads it; empty: its files say.
    model_format: str = ""
    #: A custom predictor's command, quoted for a shell, and the digest of the code that it runs.
    command: str = ""
    code: str = ""
    #: Whether it runs with the packages that the model lists, not with the project's.
    own_requirements: bool = False
    #: `resources.limits`, those that a process can keep.
    limits: Mapping[str, float] = field(default_factory=dict)
    #: `transformer` and `explainer`, if it has them.
    components: Mapping[str, Component] = field(default_factory=dict)
    #: Which of those this is, where it stands for its processes; empty: the predictor.
    component: str = ""
    #: `maxBatchSize` and `maxLatency`; empty: requests are not gathered.
    batcher: Mapping[str, int] = field(default_factory=dict)
    #: The graph that it routes, as JSON; empty: it is a model.
    graph: str = ""
    #: Another name that the model answers to; empty: it has none.
    alias: str = ""

    @property
    def key(self) -> str:
        """Revisions with the same key are served by the same process."""
        loaded = [self.path, self.digest, dict(self.env), self.trust_pickle, self.model_format]
        run = [self.command, self.code, self.own_requirements, dict(self.limits)]
        asked = [self.timeout, self.concurrency, dict(self.batcher), self.graph, self.alias]
        return digest_of([*loaded, *run, *asked])


@dataclass(frozen=True)
class Canary:
    """One of KServe's `spec.canary`: a revision beside the others, its percent of the traffic, and how many
    replicas it has."""

    revision: Wanted
    percent: int
    replicas: int


@dataclass(frozen=True)
class Desired:
    """An endpoint as commands want it; `generation` rises with every change.

    `rolled_out` is the last revision that got all traffic, and gets what the canary does not.
    """

    name: str
    namespace: str
    generation: int
    manifest: str
    storage_uri: str
    canary: int | None
    rolled_out: int
    revisions: tuple[Wanted, ...]
    created: str
    notes: tuple[str, ...] = ()
    logger: Mapping[str, Any] | None = None
    scaling: Scaling = field(default_factory=Scaling)
    #: Whoever asks must know the project's token.
    guarded: bool = False
    canaries: tuple[Canary, ...] = ()
    #: `protocolVersion` of its predictor: on which path a graph asks it.
    protocol: str = ""

    @property
    def newest(self) -> Wanted:
        """The revision that was made last."""
        return self.revisions[-1]

    @property
    def everything(self) -> tuple[Wanted, ...]:
        """All revisions, the canaries as well, the oldest first."""
        return tuple(sorted((*self.revisions, *self._canaries), key=lambda revision: revision.number))

    @property
    def wanted(self) -> list[Wanted]:
        """The revisions that need processes."""
        return [self.newest, self.revision(self.rolled_out), *self._canaries]

    @property
    def _canaries(self) -> tuple[Wanted, ...]:
        return tuple(canary.revision for canary in self.canaries)

    def revision(self, number: int) -> Wanted:
        """A revision by number."""
        return next(r for r in self.everything if r.number == number)

    def scaling_of(self, key: str) -> Scaling:
        """How many replicas a model has; those of canaries are fixed."""
        fixed = {one.revision.key: one.replicas for one in self.canaries}
        if key not in fixed or key == self.newest.key:
            return self.scaling
        return replace(self.scaling, least=fixed[key], most=fixed[key])

    def split(self, ready: Mapping[int, bool]) -> dict[int, int]:
        """Percent of traffic per revision number, by Knative's rules: a revision that is not ready
        gets nothing as long as the other one is. Canaries that are ready get theirs first."""
        theirs = {one.revision.number: one.percent for one in self.canaries if ready.get(one.revision.number)}
        left = 100 - sum(theirs.values())
        ours = {number: percent * left // 100 for number, percent in self._split(ready).items()}
        return {number: percent for number, percent in {**ours, **theirs}.items() if percent}

    def _split(self, ready: Mapping[int, bool]) -> dict[int, int]:
        newest, before = self.newest.number, self.rolled_out
        if newest == before:
            return {newest: 100}
        if not ready.get(newest):
            return {before: 100}
        if not ready.get(before):
            return {newest: 100}
        share = 100 if self.canary is None else self.canary
        return {number: percent for number, percent in ((newest, share), (before, 100 - share)) if percent}

    @property
    def needed(self) -> set[int]:
        """The revisions that shall be ready: those with traffic once all are, and canaries without any."""
        traffic = self.split({revision.number: True for revision in self.everything})
        return traffic.keys() | {one.number for one in self._canaries}

    def settled(self, ready: Mapping[int, bool]) -> Desired:
        """With the newest revision noted as rolled out, once it has all traffic."""
        if self.canary in (None, 100) and ready.get(self.newest.number):
            return replace(self, rolled_out=self.newest.number)
        return self


def run_folder(state: Path) -> Path:
    """Where the processes of the provider with this folder keep sockets, and files about each other that
    mean nothing once they ended; see `is_private`. Its path is short, and it is no part of the project: a
    project on a full disk is served on."""
    name = hashlib.sha256(str(state).encode()).hexdigest()[:12]
    temporary = tempfile.gettempdir()
    if len(os.fsencode(temporary)) > _LONGEST_TEMPORARY:
        temporary = "/tmp"
    return Path(temporary) / f"modelyard-{os.getuid()}-{name}"


def ring(state: Path) -> None:
    """Tell the controller that a file changed; one that hears nothing looks by itself."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.setblocking(False)
        bell.sendto(b"", str(run_folder(state) / BELL))


def is_private(folder: Path) -> bool:
    """Whether the folder is there and nobody but us can enter it."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return False
    return status.st_uid == os.getuid() and stat.S_ISDIR(status.st_mode) and status.st_mode & 0o077 == 0


def load(folder: Path) -> Desired | None:
    """The desired state in an endpoint's folder, or None.

    Raises:
        CorruptStateError: `state-corrupt`: the file is damaged; it is left as it is.
    """
    file = folder / DESIRED
    value = read_json(file)
    if value is None:
        if not file.exists():
            return None
        value = read_json(file)  # it was made just now, or says `null`
    try:
        revisions = tuple(_wanted(**revision) for revision in value.pop("revisions"))
        notes, scaling = tuple(value.pop("notes")), Scaling(**value.pop("scaling"))
        canaries = tuple(Canary(_wanted(**one.pop("revision")), **one) for one in value.pop("canaries", ()))
        made = Desired(**value, revisions=revisions, notes=notes, scaling=scaling, canaries=canaries)
        made.revision(made.rolled_out)
    except (AttributeError, KeyError, TypeError, StopIteration):
        raise CorruptStateError(
            "state-corrupt",
            f"{file} is damaged (it does not describe an endpoint)",
            f"look at it, then move it away: mv '{file}' '{file}.bad'",
        ) from None
    return made


def _wanted(components: Mapping[str, Mapping[str, Any]] = MappingProxyType({}), **revision: Any) -> Wanted:
    made = {
        kind: Component(**{**component, "scaling": Scaling(**component["scaling"])})
        for kind, component in components.items()
    }
    return Wanted(**revision, components=made)


def save(folder: Path, desired: Desired) -> None:
    """Write the desired state whole, and tell the controller."""
    write_json(folder / DESIRED, asdict(desired), mode=0o600)
    ring(folder.parent.parent)


def observed(folder: Path) -> dict[str, Any]:
    """What the controller says: `generation`, and per revision `ready` and `message`. A damaged file says
    nothing: the controller will notice and write it again."""
    with contextlib.suppress(CorruptStateError):
        value = read_json(folder / OBSERVED)
        if isinstance(value, dict) and isinstance(value.get("generation"), int):
            revisions = value.get("revisions")
            if isinstance(revisions, dict) and all(isinstance(r, dict) for r in revisions.values()):
                return value
    return {"generation": 0, "revisions": {}}
