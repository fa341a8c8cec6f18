"""The access log: a line of JSON for each request that came to Envoy, which writes it behind the answer.

It says who was asked for what, who answered, and how that ended. It says nothing that could be a secret: no
headers, no query, no body. The file is turned over as it grows, and a full disk costs lines, not answers.
"""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelyard_kserve.local.logs import MOST

#: Beside the other logs.
FILE = "serving-access.log"
_TYPE = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
_METADATA = "modelyard"
#: What callers write is cut off, so that a line stays one.
_FIELDS = {
    "time": "%START_TIME%",
    "endpoint": f"%METADATA(ROUTE:{_METADATA}:endpoint)%",
    "namespace": f"%METADATA(ROUTE:{_METADATA}:namespace)%",
    # Of the answer: those of a request may be the caller's.
    "model": "%RESP(X-MODELYARD-MODEL)%",
    "version": "%RESP(X-MODELYARD-VERSION)%",
    "revision": "%RESP(X-MODELYARD-REVISION)%",
    "answered_by": "%UPSTREAM_CLUSTER%",
    "method": "%REQ(:METHOD):16%",
    "path": "%PATH(NQ:PATH):300%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS_NUMBER%",
    "flags": "%RESPONSE_FLAGS%",
    "duration_ms": "%DURATION%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "request_id": "%REQ(X-REQUEST-ID):128%",
    "protocol": "%PROTOCOL%",
}


def logger(file: Path) -> dict[str, Any]:
    """What Envoy is told, for its HTTP connections."""
    # It reads `%` in the name of a file as it is.
    config = {"@type": _TYPE, "path": str(file), "log_format": {"json_format": _FIELDS}}
    return {"name": "envoy.access_loggers.file", "typed_config": config}


def belongs(path: str) -> dict[str, Any]:
    """A route's metadata: which endpoint a request is for.

    Args:
        path: `/serving/NAMESPACE/NAME`, or below it.
    """
    _, _, namespace, name, *_ = path.split("/")
    return {"filter_metadata": {_METADATA: {"endpoint": name, "namespace": namespace}}}


def writable(file: Path) -> bool:
    """Whether Envoy can open it. If it could not, it would take no requests at all.

    Example:
        >>> writable(Path("/proc/access.log"))
        False
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab"):
            file.chmod(0o600)
    except OSError:
        return False
    return True


def turn_over(file: Path, reopen: Callable[[], None], most: int = MOST) -> None:
    """Move it to `NAME.1`, in place of what was there, when it became too much. No line is lost: Envoy writes
    to the old one until it opens the new one, which it is told until there is one.

    Args:
        file: the log.
        reopen: tells Envoy; an OSError means that it heard nothing.
        most: bytes.
    """
    with contextlib.suppress(OSError):
        if file.exists() and file.stat().st_size > most:
            file.replace(_older(file))
        if not file.exists():
            reopen()


def lines(file: Path, endpoint: str, most: int) -> list[str]:
    """The last lines about an endpoint, oldest first.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "access.log"
        >>> _ = file.write_text('{"endpoint":"late","status":200}\\n{"endpoint":"later","status":404}\\n')
        >>> lines(file, "late", 100)
        ['{"endpoint":"late","status":200}']
    """
    # A caller can't write this: a quotation mark in JSON's texts has a backslash.
    wanted = f'"endpoint":{json.dumps(endpoint)},'.encode()
    found: deque[bytes] = deque(maxlen=most)
    for each in (_older(file), file):
        with contextlib.suppress(OSError), each.open("rb") as log:
            found.extend(line for line in log if wanted in line and line.endswith(b"}\n"))
    # What a full disk cut off stands before the first line that it had room for again.
    return [line[line.rfind(b'{"') :].decode(errors="replace").rstrip("\n") for line in found]


def _older(file: Path) -> Path:
    return file.with_name(f"{file.name}.1")
