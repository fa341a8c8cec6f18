"""The projects of a Jupyter server with their workers."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from modelyard import targets
from modelyard.errors import ModelyardError, NotFoundError
from modelyard.targets import LOCAL
from modelyard_jupyter import projects
from modelyard_jupyter.folders import Folders
from modelyard_jupyter.projects import Found
from modelyard_jupyter.stamps import Stamps
from modelyard_jupyter.supervisor import Worker

#: Seconds for which nobody looks again which projects there are.
_KNOWN_SECONDS = 10.0
#: Seconds for which stamps are good.
_STAMP_SECONDS = 1.0


class Yards:
    """Finds projects by id, and keeps a worker for each that was asked about.

    Args:
        root: the server's root folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders = Folders()
        self._found: list[Found] = []
        self._looked = -_KNOWN_SECONDS
        self._workers: dict[tuple[str, str], Worker] = {}
        self._stamps: dict[tuple[str, str], Stamps] = {}
        self._stamped: dict[tuple[str, str], tuple[float, dict[str, str]]] = {}

    async def look(self, asked: str, near: str) -> tuple[list[Found], Found | None, str, dict[str, str]]:
        """Every project that is served; the one that is asked for, else that of a document; its target and
        stamps. All of it in one thread: this is asked every few seconds."""
        return await asyncio.to_thread(self._look, asked, near)

    def _look(self, asked: str, near: str) -> tuple[list[Found], Found | None, str, dict[str, str]]:
        found = self._all()
        chosen = next((one for one in found if one.id == asked), None) or projects.nearest(found, near)
        if chosen is None:
            return found, None, LOCAL, {}
        try:
            target = targets.chosen(chosen.root)
        except ModelyardError:
            target = LOCAL  # its sections say what is wrong with its file
        return found, chosen, target, self._stamps_of(chosen, target)

    def _all(self) -> list[Found]:
        if time.monotonic() - self._looked > _KNOWN_SECONDS:
            self._found = projects.find(self._root, self._folders)
            self._looked = time.monotonic()
        return self._found

    async def get(self, id: str) -> Found:
        """One project.

        Raises:
            NotFoundError: `project-not-found`.
        """
        for found in await asyncio.to_thread(self._all):
            if found.id == id:
                return found
        raise NotFoundError(
            "project-not-found",
            "this server has no such project (any more)",
            "reload the page, or make a project here: modelyard init",
        )

    async def target_of(self, project: Found) -> str:
        """The target that the project's commands take now."""
        return await asyncio.to_thread(targets.chosen, project.root)

    async def stamps(self, project: Found, target: str) -> dict[str, str]:
        """A stamp per section, at most a second old, however many ask."""
        return await asyncio.to_thread(self._stamps_of, project, target)

    def _stamps_of(self, project: Found, target: str) -> dict[str, str]:
        key = (project.id, target)
        looked, known = self._stamped.get(key, (0.0, {}))
        if time.monotonic() - looked > _STAMP_SECONDS:
            known = self._stamps.setdefault(key, Stamps(project.root, target)).now()
            self._stamped[key] = (time.monotonic(), known)
        return known

    async def worker(self, project: Found) -> Worker:
        """Who answers questions about the project on its target."""
        target = await self.target_of(project)
        return self._workers.setdefault((project.id, target), Worker(project.root, target))
