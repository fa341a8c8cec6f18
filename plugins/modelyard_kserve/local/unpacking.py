"""Compressed bodies: what they hold, and no more than a body may."""

from __future__ import annotations

import zlib

_WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


def unpacked(raw: bytes, encoding: str, limit: int) -> bytes:
    """What a compressed body holds.

    Args:
        raw: the body.
        encoding: `gzip`, which may be called `x-gzip`, or `deflate`, in letters of any case.
        limit: bytes that it may hold.

    Raises:
        ValueError: it is something else, cut off, or holds more.

    Example:
        >>> unpacked(zlib.compress(b"text"), "deflate", 100)
        b'text'
    """
    window = _WINDOWS.get(encoding.lower())
    if window is None:
        raise ValueError(f"bodies may be compressed with gzip or deflate, not with {encoding!r:.40}")
    unpacking = zlib.decompressobj(window)
    try:
        plain = unpacking.decompress(raw, limit)
    except zlib.error:
        raise ValueError(f"the body can't be unpacked with {encoding}") from None
    if unpacking.unconsumed_tail or not unpacking.eof:
        raise ValueError(f"the body is cut off, or larger than {limit // 1024 // 1024} MiB unpacked")
    return plain
