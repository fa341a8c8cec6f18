"""A project's background processes, and the checks of its doctor."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from modelyard.records.base import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Record):
    """One answer of `modelyard doctor`: `ok`, `warning` or `failed`, and what to do."""

    name: str
    status: Literal["ok", "warning", "failed"]
    message: str
    hint: str = ""


ServiceStatus = Literal["running", "stopped", "died"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service(Record):
    """A background process of the project."""

    name: str
    status: ServiceStatus
    pid: int | None = None
    port: int | None = None
    url: str | None = None
    log: Path
    started: datetime | None = None
    message: str = ""
