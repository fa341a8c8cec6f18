"""The model repository extension: whether a model that is there shall answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Repository:
    """One model, loaded until somebody says otherwise. Unloaded, it answers like one that is not there; its
    process stays, so that loading it is done at once.

    Args:
        name, version: of the model.
        marker: a file that is there while it is unloaded, for all processes of the model, those that come
            later as well; None: this process alone knows.
    """

    def __init__(self, name: str, version: str, marker: Path | None = None) -> None:
        self._name, self._version, self._marker = name, version, marker
        self._loaded = True

    @property
    def loaded(self) -> bool:
        """Whether it shall answer."""
        return self._loaded if self._marker is None else not self._marker.exists()

    def load(self) -> dict[str, Any]:
        """Let it answer; what KServe says to that."""
        self._loaded = True
        if self._marker is not None:
            self._marker.unlink(missing_ok=True)
        return {"name": self._name, "load": True}

    def unload(self) -> dict[str, Any]:
        """Let it answer no more; what KServe says to that."""
        self._loaded = False
        if self._marker is not None:
            self._marker.touch(mode=0o600)
        return {"name": self._name, "unload": True}

    def index(self, body: Any) -> list[dict[str, str]]:
        """What is there, as Triton says it; `{"ready": true}` asks for what answers alone.

        Raises:
            ValueError: the body is something else.
        """
        if only_ready(body) and not self.loaded:
            return []
        return [entry(self._name, self._version, "" if self.loaded else "unloaded")]


def only_ready(body: Any) -> bool:
    """Whether an index shall have what answers alone.

    Raises:
        ValueError: the body is something else.
    """
    if not isinstance(body, dict) or not isinstance(body.get("ready", False), bool):
        raise ValueError('the body is {} or {"ready": true}')
    return bool(body.get("ready"))


def entry(name: str, version: str, reason: str) -> dict[str, str]:
    """A model in an index, as Triton says it.

    Args:
        reason: why it does not answer; empty: it does.
    """
    return {
        "name": name,
        "version": version,
        "state": "UNAVAILABLE" if reason else "READY",
        "reason": reason,
    }
