"""Files to an S3 server: whole files at once, many at a time, each checked by the server as it arrives.

Nothing here needs a package. A target's login is a key and its secret; requests are signed with it
(AWS Signature Version 4), and the secret itself never leaves this process.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import queue
import socket
import ssl
import time
import xml.etree.ElementTree as ET
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from modelyard.errors import EnvironmentFault, NotFoundError
from modelyard.state import os_errors

if TYPE_CHECKING:
    from modelyard.targets import Address

#: What S3 takes in one request; larger files need its multipart uploads.
LARGEST = 5 * 1000**3
_UNSIGNED = "UNSIGNED-PAYLOAD"
_EMPTY = hashlib.sha256(b"").hexdigest()
_PIECE = 1 << 22
_TIMEOUT = 120.0
#: Seconds before each further attempt, where a connection broke or the server is busy.
_PAUSES = (0.2, 0.8, 2.0)
_BUSY = {429, 500, 502, 503, 504}
_OTHER_BYTES = {"BadDigest", "XAmzContentSHA256Mismatch"}


@dataclass(frozen=True, slots=True)
class Stored:
    """An object: its size, and its ETag (MD5 of its bytes where it arrived in one piece)."""

    size: int
    etag: str


class OtherBytes(Exception):
    """A file does not hold the bytes that it should."""


class Refused(Exception):
    """The server answered, and said no: its HTTP status and S3's code, e.g. `NoSuchBucket`."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message or code or f"status {status}")
        self.status, self.code = status, code


class Bucket:
    """The bucket that `storage` names, at a target's address.

    Args:
        address: the server, with key as user and secret as password.
        storage: `s3://BUCKET` or `s3://BUCKET/PREFIX`.
    """

    def __init__(self, address: Address, storage: str) -> None:
        parts, at = urlsplit(storage), urlsplit(address.url)
        self.storage = storage.rstrip("/")
        self.url = address.url
        self._https, self._host, self._port = at.scheme == "https", at.hostname or "", at.port
        self._netloc = at.netloc.rpartition("@")[2]
        self._path = f"{at.path.rstrip('/')}/{parts.netloc}"
        self._prefix = f"{parts.path.strip('/')}/".lstrip("/")
        self._key, self._secret = address.user, address.password
        self._region = "us-east-1"
        self._idle: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue()

    def require(self) -> None:
        """See that the bucket is there and takes the login.

        Raises:
            NotFoundError: `bucket-not-found`.
            EnvironmentFault: `s3-refused` or `s3-unreachable`.
        """
        # Not HEAD: its answers have no body, and so no reason.
        self._ask({"list-type": "2", "max-keys": "1"})

    def put(
        self,
        key: str,
        file: Path,
        *,
        md5: str | None = None,
        sha256: str | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Store a file under the key; what arrives there has the given hash, or is not stored.

        Args:
            key: below the prefix.
            file: at most `LARGEST` bytes.
            md5, sha256: what is known of the bytes, in hex; one of them should be.
            progress: is told of bytes as they leave (negative: they have to be sent again).

        Raises:
            OtherBytes: the file does not hold what was said.
            EnvironmentFault: `s3-refused`, `s3-unreachable`; or the file can't be read.
        """
        with os_errors(file):
            headers = {"content-length": str(file.stat().st_size)}

            def send(extra: Mapping[str, str]) -> str:
                told = partial(_Told, file, progress)
                _, answered, _ = self._request(
                    "PUT", key, {**headers, **extra}, body=told, sha256=sha256 or _UNSIGNED
                )
                return answered.get("etag", "").strip('"')

            try:
                # The ETag is the MD5 that the server made anyhow; to let it compare costs it a second one.
                if send({}) == md5 or md5 is None:
                    return
                # It is something else where objects are encrypted: then the server has to compare.
                progress(-int(headers["content-length"]))
                send({"content-md5": b64encode(bytes.fromhex(md5)).decode()})
            except Refused as fault:
                if fault.code not in _OTHER_BYTES:
                    raise self._explained(fault) from None
                if md5 is not None:
                    self._request("DELETE", key, {})
                raise OtherBytes(str(file)) from None

    def list(self, prefix: str = "") -> dict[str, Stored]:
        """Every object whose key begins so, by its key.

        Raises:
            EnvironmentFault: `s3-refused`, `s3-unreachable`.
        """
        found: dict[str, Stored] = {}
        asked = {"list-type": "2", "prefix": self._prefix + prefix}
        while True:
            page = ET.fromstring(self._ask(asked))
            for item in page.iterfind("{*}Contents"):
                key = item.findtext("{*}Key", "").removeprefix(self._prefix)
                etag = item.findtext("{*}ETag", "").strip('"')
                found[key] = Stored(int(item.findtext("{*}Size", "0")), etag)
            token = page.findtext("{*}NextContinuationToken")
            if not token:
                return found
            asked["continuation-token"] = token

    # -- requests ---------------------------------------------------------------------------

    def _ask(self, query: Mapping[str, str]) -> bytes:
        """What it says about itself."""
        try:
            return self._request("GET", None, {}, query=query)[2]
        except Refused as fault:
            raise self._explained(fault) from None

    def _request(
        self,
        method: str,
        key: str | None,
        headers: Mapping[str, str],
        *,
        query: Mapping[str, str] | None = None,
        body: Callable[[], _Told] | None = None,
        sha256: str = _EMPTY,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send it until it is answered. A wrong region is named by the server, and then used."""
        place = self._path if key is None else f"{self._path}/{self._prefix}{key}"
        path = quote(place, safe="/-_.~")
        asked = urlencode(sorted((query or {}).items()), quote_via=quote)
        fault: Exception | None = None
        for pause in (0.0, *_PAUSES):
            time.sleep(pause)
            try:
                status, answered, content = self._once(method, path, asked, headers, body, sha256)
            except (OSError, http.client.HTTPException) as broken:
                fault = broken
                continue
            if status < 300:
                return status, answered, content
            refused = _refusal(status, content)
            region = answered.get("x-amz-bucket-region")
            if region and region != self._region:
                self._region, fault = region, refused
            elif status in _BUSY:
                fault = refused
            else:
                raise refused
        raise EnvironmentFault(
            "s3-unreachable",
            f"the S3 server {self.url} does not answer: {fault}",
            "see that it runs, then run this again: what arrived is not sent twice",
        )

    def _once(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        body: Callable[[], _Told] | None,
        sha256: str,
    ) -> tuple[int, Mapping[str, str], bytes]:
        link = self._link()
        sent = body() if body else None
        try:
            signed = self._signed(method, path, query, headers, sha256)
            link.putrequest(
                method, f"{path}?{query}" if query else path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in signed.items():
                link.putheader(name, value)
            link.endheaders()
            if sent is not None:
                sent.send(link.sock, int(headers["content-length"]))
            answer = link.getresponse()
            content = answer.read()
        except BaseException:
            link.close()
            if sent is not None:
                sent.undo()
            raise
        finally:
            if sent is not None:
                sent.close()
        if sent is not None and answer.status >= 300:
            sent.undo()
        self._idle.put(link)
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, content

    def _link(self) -> http.client.HTTPConnection:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            pass
        if self._https:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=_TIMEOUT, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT)

    def _signed(
        self, method: str, path: str, query: str, headers: Mapping[str, str], sha256: str
    ) -> dict[str, str]:
        now = datetime.now(timezone.utc)
        day, moment = f"{now:%Y%m%d}", f"{now:%Y%m%dT%H%M%SZ}"
        known = {**headers, "host": self._netloc, "x-amz-date": moment, "x-amz-content-sha256": sha256}
        names = ";".join(sorted(known))
        lines = "".join(f"{name}:{known[name]}\n" for name in sorted(known))
        request = "\n".join([method, path, query, lines, names, sha256])
        scope = f"{day}/{self._region}/s3/aws4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        key = f"AWS4{self._secret}".encode()
        for part in (day, self._region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
        signature = hmac.new(key, to_sign.encode(), "sha256").hexdigest()
        proof = f"Credential={self._key}/{scope}, SignedHeaders={names}, Signature={signature}"
        return {**known, "authorization": f"AWS4-HMAC-SHA256 {proof}"}

    def _explained(self, fault: Refused) -> EnvironmentFault | NotFoundError:
        if fault.code == "NoSuchBucket":
            return NotFoundError(
                "bucket-not-found",
                f"the S3 server {self.url} has no bucket for {self.storage}",
                "make it, or correct `storage` of the target's service in modelyard.toml",
            )
        return EnvironmentFault(
            "s3-refused",
            f"the S3 server {self.url} refuses the login '{self._key}' for {self.storage}: {fault}",
            "correct key and secret of the target's service s3",
        )


class _Told:
    """A file that says how much of it was sent."""

    def __init__(self, file: Path, progress: Callable[[int], None]) -> None:
        with os_errors(file):
            self._file = open(file, "rb")  # noqa: SIM115 - closed by whoever sent it
        self._progress, self._sent = progress, 0

    def send(self, link: socket.socket, size: int) -> None:
        """Have the system send it, which spares the way through this process."""
        while self._sent < size:
            sent = link.sendfile(self._file, self._sent, min(_PIECE, size - self._sent))
            if not sent:
                raise ConnectionError(f"{self._file.name} became shorter")
            self._sent += sent
            self._progress(sent)

    def undo(self) -> None:
        """What was sent did not arrive."""
        if self._sent:
            self._progress(-self._sent)
            self._sent = 0

    def close(self) -> None:
        self._file.close()


def _refusal(status: int, content: bytes) -> Refused:
    try:
        said = ET.fromstring(content)
    except ET.ParseError:
        return Refused(status, "", "")
    return Refused(status, said.findtext("{*}Code", ""), said.findtext("{*}Message", ""))
