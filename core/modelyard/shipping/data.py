"""Versions of data on their way, batch after batch, while everything else goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from modelyard.errors import EnvironmentFault
from modelyard.records import DataRef
from modelyard.shipping.records import Progress, ShippedData, State

if TYPE_CHECKING:
    from modelyard.stages import DataStore


class Data:
    """What is published.

    Args:
        store: the target's.
        progress: is told of every byte.
        dry_run: only look.
    """

    def __init__(self, store: DataStore, progress: Progress, *, dry_run: bool) -> None:
        self._store, self._progress, self._dry_run = store, progress, dry_run
        self._pool = ThreadPoolExecutor(1)
        self._stopped = threading.Event()
        self._batches: list[Future[None]] = []
        self._lacking: dict[tuple[str, str, str], tuple[DataRef, int | None]] = {}

    def begin(self, refs: Iterable[DataRef]) -> None:
        """Compare these with what is there, and begin to copy what is not."""
        new = list({_key(ref): ref for ref in refs if _key(ref) not in self._lacking}.values())
        lacking = dict(zip(new, self._store.lacking(new) if new else ()))
        self._lacking |= {_key(ref): (ref, size) for ref, size in lacking.items()}
        self._progress.more(sum(filter(None, lacking.values())))
        wanted = [ref for ref, size in lacking.items() if size]
        if wanted and not self._dry_run:
            self._batches.append(self._pool.submit(self._publish, wanted))

    def there(self, ref: DataRef) -> DataRef:
        """What the version is called there, once it arrived."""
        if self._lacking.get(_key(ref), (ref, None))[1] is None:
            return ref
        return replace(ref, published=True, remote=self._store.remote())

    def finish(self) -> None:
        """Wait until all of it is there."""
        for batch in self._batches:
            batch.result()

    def close(self) -> None:
        """End it, also in the middle of a file: whoever has to read an error shall not wait for gigabytes."""
        self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def shipped(self) -> tuple[ShippedData, ...]:
        """What was, or would be, done."""
        return tuple(_shipped(ref, size) for ref, size in self._lacking.values())

    def _publish(self, refs: list[DataRef]) -> None:
        for ref in self._store.publish(refs, progress=self._advance):
            if not ref.published:
                raise EnvironmentFault(
                    "data-not-published",
                    f"the target does not hold all of {ref.path}, though it was copied",
                    "run this again",
                )

    def _advance(self, size: int) -> None:
        if self._stopped.is_set():
            raise Stopped
        self._progress.advance(size)


class Stopped(Exception):
    """Nobody waits for it any more."""


def _key(ref: DataRef) -> tuple[str, str, str]:
    """Names a version of data, however much was known of it when it was written down."""
    return ref.scheme, ref.version, ref.path


def _shipped(ref: DataRef, lacking: int | None) -> ShippedData:
    state: State = "missing" if lacking is None else "new" if lacking else "there"
    return ShippedData(name=ref.name, version=ref.version, bytes=lacking or 0, state=state)
