"""Images come into the node while it still boots."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future

from modelyard.components import Component
from modelyard_sandbox.node import Node
from modelyard_sandbox.order import Stopped, by_urgency
from modelyard_sandbox.progress import Progress
from modelyard_sandbox.supply import Supply


class Loading:
    """Loads images into the node while it still boots: those first for which most others wait.

    Args:
        components: whose images are needed.
        supply: where images come from.
        node: the node.
        progress: where it reports to.
    """

    def __init__(
        self, components: Iterable[Component], supply: Supply, node: Node, progress: Progress
    ) -> None:
        self._supply, self._node, self._progress = supply, node, progress
        self._images = {component.name: list(component.images) for component in by_urgency(components)}
        self._done: dict[str, Future[None]] = {name: Future() for name in self._images}
        self.count = 0

    def run(self, stop: threading.Event) -> None:
        """Load everything; each component's waiters go on as soon as its images are there."""
        try:
            with self._progress.phase("images", "loading what the node lacks"):
                self._supply.announce(image for images in self._images.values() for image in images)
                for name, images in self._images.items():
                    self._supply.fetch(images, self._progress)
                    while not self._node.takes_images():
                        if stop.wait(0.2):
                            raise Stopped()
                    if stop.is_set():
                        raise Stopped()
                    self.count += self._supply.load(images, self._progress)
                    self._done[name].set_result(None)
        except BaseException as fault:
            for future in self._done.values():
                if not future.done():
                    future.set_exception(fault)

    def wait(self, name: str) -> None:
        """Until a component's images are in the node.

        Raises:
            ImageFault: they can't be loaded.
        """
        self._done[name].result()
