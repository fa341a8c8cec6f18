"""Models at `https://` and `http://`: a file, or an archive of files."""

from __future__ import annotations

import contextlib
import os
import ssl
import time
from collections.abc import Iterator
from netrc import NetrcParseError
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

from modelyard.errors import ConfigError, EnvironmentFault, ModelyardError
from modelyard.state import os_errors
from modelyard_kserve.storage import faults
from modelyard_kserve.storage.orders import Fetched, Order, Tell
from modelyard_kserve.storage.uris import shown

if TYPE_CHECKING:
    import httpx

#: Seconds before each further attempt, where a connection broke or the server is busy.
_PAUSES = (0.5, 2.0, 5.0)
_CONNECT, _SILENCE = 15.0, 60.0
_PIECE = 1 << 18


def fetch(order: Order, tell: Tell) -> Fetched:
    """Fetch the file; one that broke off goes on where it was, if the server can do that.

    Raises:
        NotFoundError: `model-files-missing`.
        EnvironmentFault: `storage-refused`, `storage-unreachable`, or the disk's.
    """
    target = order.folder / _name_of(order.uri)
    state = _Download(order, target, tell)
    for pause in (*_PAUSES, None):
        try:
            return state.attempt()
        except EnvironmentFault as fault:
            if fault.code != "storage-unreachable" or pause is None:
                raise
            time.sleep(pause)
    raise AssertionError("the last attempt raises")


def _name_of(uri: str) -> str:
    name = unquote(urlsplit(uri).path.rpartition("/")[2])
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise ConfigError(
            "storage-unknown",
            f"{shown(uri)} names no file",
            "let storageUri end with the name of a file, a .zip or a .tar.gz",
        )
    return name


class _Download:
    """What has arrived so far."""

    def __init__(self, order: Order, target: Path, tell: Tell) -> None:
        self._order, self._target, self._tell = order, target, tell
        self._version: str | None = None
        self._resumes = False

    def attempt(self) -> Fetched:
        """One request."""
        uri = self._order.uri
        asked = self._asked()
        with _explained(uri), _client(uri) as client, client.stream("GET", uri, headers=asked) as answer:
            if answer.status_code == 304:
                return Fetched(self._order.known, same=True)
            if answer.status_code == 416:  # other bytes than those that we have
                self._target.unlink(missing_ok=True)
                raise faults.unreachable(uri, "what is there became shorter meanwhile")
            if answer.status_code >= 300:
                raise faults.by_status(uri, answer.status_code, _said(answer))
            self._take(answer)
        return Fetched(self._version)

    def _asked(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        have = self._target.stat().st_size if self._target.exists() else 0
        if have and self._version and self._resumes:
            return {**headers, "Range": f"bytes={have}-", "If-Range": self._version}
        if self._order.known and self._order.known.startswith(('"', "W/")):
            headers["If-None-Match"] = self._order.known
        elif self._order.known:
            headers["If-Modified-Since"] = self._order.known
        return headers

    def _take(self, answer: httpx.Response) -> None:
        etag = answer.headers.get("etag") or ""
        self._version = etag or answer.headers.get("last-modified")
        # A weak tag does not stand for the bytes; nor do the bytes of another encoding add up.
        self._resumes = etag.startswith('"') and "content-encoding" not in answer.headers
        goes_on = answer.status_code == 206
        have = self._target.stat().st_size if goes_on else 0
        length = int(answer.headers.get("content-length") or 0)
        total = have + length if length else None
        # What the network does are errors of httpx.
        with os_errors(self._target), open(self._target, "ab" if goes_on else "wb") as file:
            for piece in answer.iter_bytes(_PIECE):
                file.write(piece)
                have += len(piece)
                self._order.require_room(have)
                self._tell(have, total)
        if total is not None and have < total:
            raise faults.unreachable(self._order.uri, f"{have} of {total} bytes arrived")


def _client(uri: str) -> httpx.Client:
    import httpx

    def refuse_downgrade(answer: httpx.Response) -> None:
        if answer.has_redirect_location:
            there = urljoin(str(answer.url), answer.headers["location"])
            if answer.url.scheme == "https" and urlsplit(there).scheme != "https":
                raise faults.refused(uri, f"it sends us to {shown(there)}, which is not encrypted")

    login: httpx.Auth | None = None
    with contextlib.suppress(OSError, ValueError, NetrcParseError):  # there is no file, or it is none
        login = None if "@" in urlsplit(uri).netloc else httpx.NetRCAuth(os.environ.get("NETRC"))
    return httpx.Client(
        auth=login,
        follow_redirects=True,
        max_redirects=10,
        timeout=httpx.Timeout(_SILENCE, connect=_CONNECT),
        event_hooks={"response": [refuse_downgrade]},
        headers={"User-Agent": "modelyard"},
    )


@contextlib.contextmanager
def _explained(uri: str) -> Iterator[None]:
    import httpx

    try:
        yield
    except ModelyardError:
        raise
    except httpx.TooManyRedirects:
        raise faults.failed(uri, "it sends us from one address to the next without an end") from None
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as fault:
        raise faults.failed(uri, str(fault)) from None
    except httpx.HTTPError as fault:
        if isinstance(_first_cause(fault), ssl.SSLError):  # another attempt would say the same
            raise faults.failed(uri, str(fault)) from None
        raise faults.unreachable(uri, str(fault) or type(fault).__name__) from None


def _first_cause(fault: BaseException) -> BaseException:
    while found := fault.__cause__ or fault.__context__:
        fault = found
    return fault


def _said(answer: httpx.Response) -> str:
    return f"the server answers {answer.status_code} {answer.reason_phrase}".strip()
