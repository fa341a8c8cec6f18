"""The settings of `[providers.dvc]` in `modelyard.toml`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class DvcSettings(BaseModel):
    """`[providers.dvc]`

    Example:
        >>> DvcSettings(remote="../store").autostage
        True
    """

    model_config = ConfigDict(extra="forbid")
    remote: str | None = Field(
        None,
        description="Where data is pushed: a folder (relative to the project) or a URL that DVC "
        "understands. Absent: what `.dvc/config` says.",
    )
    autostage: bool = Field(
        True, description="`git add` the .dvc files and .gitignore that `data add` writes."
    )
    lock_timeout: float = Field(
        30.0, ge=0, description="Seconds to wait for another process that works on the same data."
    )
