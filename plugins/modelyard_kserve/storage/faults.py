"""What can go wrong when a model is fetched, in our words and with our codes."""

from __future__ import annotations

import errno
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

from modelyard.errors import ConfigError, EnvironmentFault, ModelyardError, NotFoundError
from modelyard.state import fault_of
from modelyard_kserve.storage.uris import hidden, is_azure, scheme_of, shown

#: What lets us in, by scheme.
_LOGINS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE), and AWS_ENDPOINT_URL",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS",
    "azure": "set AZURE_STORAGE_ACCESS_KEY, or AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID",
    "hf": "set HF_TOKEN, and ask for access on the model's page",
    "oci": "docker login REGISTRY",
    "dvc": "dvc remote modify --local modelyard ...",
    "modelscope": "set MODELSCOPE_API_TOKEN",
    "http": "write the login into ~/.netrc",
    "https": "write the login into ~/.netrc",
}
_REFUSED = {401, 402, 403, 407, 451}
_MISSING = {404, 410}
_BUSY = {408, 425, 429, 500, 502, 503, 504}
#: Names of exceptions of the libraries that carry no status, and words of KServe's library.
_REFUSALS = ("NoCredentials", "PartialCredentials", "DefaultCredentials", "GatedRepo", "ClientAuthentication")
_LOSSES = (
    *("EndpointConnection", "ConnectTimeout", "ReadTimeout", "ConnectionError", "ServiceRequest"),
    *("ServiceResponse", "TransportError", "MaxRetry", "gaierror", "IncompleteDownload", "RetryError"),
    *("OfflineModeIsEnabled", "IncompleteRead", "ProtocolError", "ConnectionClosed", "TimeoutException"),
)
_MISSES = (
    *("no model found", "not found", "does not exist", "has no /models/ directory"),
    "unknown git revision",
)
_DENIALS = ("authentication failed", "access denied", "invalid aws credentials")
_BREAKS = ("failed to connect",)
_BOTO = re.compile(r"An error occurred \((\w+)\) when calling the \w+ operation[^:]*: ")
_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}


def missing(uri: str, why: str = "") -> NotFoundError:
    """Nothing is there."""
    said = f" ({hidden(why, uri)})" if why else ""
    return NotFoundError(
        "model-files-missing",
        f"there is no model at {shown(uri)}{said}",
        "correct storageUri in the file, then apply it again",
    )


def refused(uri: str, why: str) -> EnvironmentFault:
    """Something is or may be there, but not for us."""
    kind = "azure" if is_azure(uri) else scheme_of(uri)
    return EnvironmentFault(
        "storage-refused",
        f"{shown(uri)} is refused: {hidden(why, uri)}",
        _LOGINS.get(kind, "look who may read it"),
    )


def unreachable(uri: str, why: str) -> EnvironmentFault:
    """Nobody answers, or not to the end."""
    return EnvironmentFault(
        "storage-unreachable",
        f"{shown(uri)} can't be reached: {hidden(why, uri)}",
        "look at the network and the address, then run this again",
    )


def failed(uri: str, why: str) -> EnvironmentFault:
    """What fetches says something that we know no better word for."""
    return EnvironmentFault(
        "fetch-failed", f"{shown(uri)} can't be fetched: {hidden(why, uri)}", "see that the address is right"
    )


def too_large(uri: str, limit: float) -> ConfigError:
    """More bytes than the project takes."""
    return ConfigError(
        "model-too-large",
        f"the model at {shown(uri)} takes more than {limit:g} GB",
        "is it the right one? then write into modelyard.toml: [providers.kserve] fetch_limit = GIGABYTES",
    )


def changed(uri: str) -> EnvironmentFault:
    """It became another one while we were at it."""
    return EnvironmentFault(
        "model-changed", f"{shown(uri)} was changed while it was fetched", "run this again"
    )


def by_status(uri: str, status: int, why: str) -> ModelyardError:
    """The error for a status of HTTP's."""
    if status in _REFUSED:
        return refused(uri, why)
    if status in _MISSING:
        return missing(uri, why)
    return unreachable(uri, why) if status in _BUSY else failed(uri, why)


def explained(fault: BaseException, uri: str, folder: Path) -> ModelyardError:
    """The error for whatever a library raised: the first of its causes that says what it is."""
    chain = list(_causes(fault))
    said = _BOTO.sub(r"\1: ", str(fault)).partition("RequestId:")[0] or type(fault).__name__
    for cause in chain:
        if isinstance(cause, ModelyardError):
            return cause
        if isinstance(cause, ssl.SSLError):  # an OSError, too, whose numbers mean something else
            return failed(uri, said)
        if isinstance(cause, OSError) and cause.errno in _MACHINE:
            return fault_of(cause, folder)
        status = _status(cause)
        if status:
            return by_status(uri, status, said)
        names = " ".join(kind.__name__ for kind in type(cause).__mro__)
        if any(name in names for name in _REFUSALS):
            return refused(uri, said)
        if any(name in names for name in _LOSSES) or isinstance(cause, (ConnectionError, TimeoutError)):
            return unreachable(uri, said)
    return _by_words(uri, said)


def _by_words(uri: str, said: str) -> ModelyardError:
    low = said.lower()
    for words, made in ((_MISSES, missing), (_DENIALS, refused), (_BREAKS, unreachable)):
        if any(word in low for word in words):
            return made(uri, said)
    return failed(uri, said)


def _causes(fault: BaseException) -> Iterator[BaseException]:
    """The deepest first: those above only retell it."""
    chain: list[BaseException] = []
    found: BaseException | None = fault
    while found is not None and found not in chain:
        chain.append(found)
        found = found.__cause__ or found.__context__
    return reversed(chain)


def _status(fault: BaseException) -> int | None:
    answer = getattr(fault, "response", None)
    if isinstance(answer, dict):  # botocore's
        answered = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return answered if isinstance(answered, int) and answered >= 400 else None
    own = (getattr(fault, name, None) for name in ("status_code", "code", "status"))
    for found in (getattr(answer, "status_code", None), *own):
        if isinstance(found, int) and 400 <= found < 600:
            return int(found)
    return None
