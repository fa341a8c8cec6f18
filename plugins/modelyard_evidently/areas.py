"""What a cluster's monitor keeps apart: an area is what one project has that lives in one namespace.

    areas/NAMESPACE/PROJECT/    a folder as the local monitor has it, and settings.json

The namespace is that of the project's target. Two projects never meet, whatever their endpoints are
called; two clones of one project that deploy to the same namespace share its endpoints, and so its area.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelyard.state import read_json, write_json
from modelyard_evidently.config import EvidentlySettings
from modelyard_evidently.folder import MonitorFolder
from modelyard_evidently.values import folder_name, name_of

_AREAS, _SETTINGS = "areas", "settings.json"


@dataclass(frozen=True)
class Area:
    """One area of the monitor whose data lies in `state`.

    Raises:
        ValueError: a name can't be that of a folder.
    """

    state: Path
    namespace: str
    project: str

    def __post_init__(self) -> None:
        _ = self.folder

    @property
    def folder(self) -> Path:
        """Where everything of it lies."""
        return self.state / _AREAS / folder_name(self.namespace) / folder_name(self.project)

    @property
    def labels(self) -> dict[str, str]:
        """What tells its samples from those of others."""
        return {"namespace": self.namespace, "project": self.project}

    def remember(self, settings: EvidentlySettings) -> None:
        """Make it, if it is new; the settings are those of the project now."""
        said = settings.model_dump(mode="json")
        if read_json(self.folder / _SETTINGS) != said:
            write_json(self.folder / _SETTINGS, said)

    def open(self) -> MonitorFolder:
        """Its folder, with the project's settings."""
        said = read_json(self.folder / _SETTINGS) or {}
        return MonitorFolder(self.folder, EvidentlySettings.model_validate(said), labels=self.labels)


def areas(state: Path) -> list[Area]:
    """All that there are."""
    return [
        Area(state, name_of(file.parent.parent.name), name_of(file.parent.name))
        for file in sorted((state / _AREAS).glob(f"*/*/{_SETTINGS}"))
    ]
