"""Data, runs, and what they came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from modelyard.records.base import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRef(Record):
    """One version of a file or folder of data.

    Attributes:
        name: what people call it, by default the file name without its ending.
        scheme: the data store that understands `version`, e.g. `dvc`.
        path: where it lies, relative to the project, with `/`.
        version: the store's own version, at most 36 characters (DVC: MD5, `.dir` for folders).
        digest: SHA-256 of the manifest (`modelyard.digests`), equal for equal bytes in every store.
        size: bytes, all files together.
        files: number of files.
        remote: where it was pushed, without credentials; None before the first push.
        published: True once the remote holds all of it.
    """

    name: str
    scheme: str
    path: str
    version: str
    digest: str
    size: int
    files: int
    remote: str | None = None
    published: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DataUse(Record):
    """A data version in the part it played for a run: `train`, `valid`, `test`, or your own word."""

    role: str
    ref: DataRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Code(Record):
    """The code of a run. `commit` is None outside git; `dirty` means uncommitted changes.

    `changed` names the first of the files, `diff_sha256` identifies the changes. `entry_point` is the script,
    notebook or command; `cell` and `execution_count` say where in the notebook.
    """

    commit: str | None = None
    branch: str | None = None
    dirty: bool = False
    repository: str | None = None
    changed: tuple[str, ...] = ()
    diff_sha256: str | None = None
    entry_point: str = ""
    cell: str | None = None
    execution_count: int | None = None

    @property
    def state(self) -> str:
        """The commit for people, with what was not committed.

        Example:
            >>> Code(commit="27b3bbd75cf1", dirty=True, changed=("notes.txt",)).state
            'commit 27b3bbd75c, notes.txt not committed'
        """
        if self.commit is None:
            return "not in git"
        more = " and more" if len(self.changed) > 3 else ""
        files = ", ".join(self.changed[:3]) or "changes"
        return f"commit {self.commit[:10]}" + (f", {files}{more} not committed" if self.dirty else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment(Record):
    """The Python environment of a run; `lock_sha256` identifies the exact installed versions."""

    python: str
    platform: str
    lock_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext(Record):
    """What the core knows about a run before it starts; the tracker stores it with the run.
    `environment` is None for a copied run of which nobody knows it."""

    user: str
    code: Code
    environment: Environment | None


RunStatus = Literal["running", "finished", "failed", "killed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric(Record):
    """One measured value; `step` counts epochs or iterations."""

    name: str
    value: float
    step: int = 0
    time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Record):
    """One tracked piece of work. `metrics` holds the last value of each; `models` their URIs."""

    id: str
    name: str
    status: RunStatus
    started: datetime
    ended: datetime | None = None
    user: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    data: tuple[DataUse, ...] = ()
    code: Code = Code()
    environment: Environment | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModel(Record):
    """A model stored with a run, not (yet) registered under a name.

    `uri` is the registry's source (`models:/m-...` in MLflow); `digest` the manifest's SHA-256.
    """

    uri: str
    run_id: str
    digest: str
    lineage_id: str | None = None
