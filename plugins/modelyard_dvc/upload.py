"""Objects into a target's bucket, without DVC: its own push takes three times as long, and reads back all
that it wrote in order to check it. Here the server says what arrived."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from modelyard.s3 import LARGEST, Bucket, OtherBytes
from modelyard_dvc import objects
from modelyard_dvc.objects import Damaged, Entry

_AT_ONCE = 4
_FOLDER = "files/md5"


class Upload:
    """Copies from the cache into the bucket.

    Args:
        cache: the folder `files/md5` of the cache.
        bucket: where DVC will look for the same names.
    """

    def __init__(self, cache: Path, bucket: Bucket) -> None:
        self._cache, self._bucket = cache, bucket

    def lacking(self, oids: Iterable[str]) -> set[str]:
        """Those objects that the bucket lacks, or holds with other bytes."""
        wanted = set(oids)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            pages = pool.map(self._listed, sorted({oid[:2] for oid in wanted}))
            held = {oid for page in pages for oid in page}
        return wanted - held

    def send(self, oids: Iterable[str], progress: Callable[[int], None]) -> set[str]:
        """Copy these objects; listings of folders last, so that nobody reads half a folder. Returns those
        that are too large for one request, with the listings: they are left to DVC.

        Raises:
            Damaged: the cache holds other bytes than the name says.
        """
        wanted = set(oids)
        large = {oid for oid in wanted if objects.object_path(self._cache, oid).stat().st_size > LARGEST}
        listings = {oid for oid in wanted if oid.endswith(".dir")}
        for some in (wanted - large - listings, set() if large else listings):
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                sent = [pool.submit(self._put, oid, progress) for oid in sorted(some)]
                try:
                    for each in sent:
                        each.result()
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
        return large | listings if large else set()

    def _put(self, oid: str, progress: Callable[[int], None]) -> None:
        path = objects.object_path(self._cache, oid)
        key = f"{_FOLDER}/{oid[:2]}/{oid[2:]}"
        try:
            self._bucket.put(key, path, md5=oid.removesuffix(".dir"), progress=progress)
        except OtherBytes:
            raise Damaged(path, Entry("", oid)) from None

    def _listed(self, start: str) -> set[str]:
        """The objects whose name begins so and whose bytes are as their name says. One that came in
        several pieces has no such ETag: DVC checked it when it wrote it."""
        found = self._bucket.list(f"{_FOLDER}/{start}/")
        return {
            oid
            for key, stored in found.items()
            if stored.etag == (oid := key.removeprefix(f"{_FOLDER}/").replace("/", "")).removesuffix(".dir")
            or "-" in stored.etag
        }
