"""Ask an endpoint for predictions, with nothing but the standard library."""

from __future__ import annotations

import http.client
import json
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import SplitResult, quote, urlsplit

from modelyard.errors import EnvironmentFault, UsageError
from modelyard.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Record):
    """What an endpoint answered: `predictions` has one item per row; `id` finds it in the log. `first` is
    the number of its first row among those of several requests."""

    id: str
    predictions: tuple[Any, ...]
    model: str
    version: str
    revision: str
    first: int = 1


def predict(
    url: str,
    name: str,
    rows: Any,
    *,
    protocol: Literal["v1", "v2"] = "v1",
    params: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> Answer:
    """Predictions for rows.

    Args:
        url: the endpoint's URL, e.g. `http://127.0.0.1:8012`.
        name: the InferenceService's name.
        rows: a pandas DataFrame, a NumPy array, a list of dicts or a list of lists; n rows. A mapping with
            `instances` (V1) or `inputs` (V2) is a whole request, and is sent as it is.
        protocol: KServe's V1 or V2 (Open Inference Protocol) JSON.
        params: what the signature of an MLflow model states as such, by name; others have their defaults.
        headers: e.g. `X-Request-Id` (made up if it is missing) or `X-Event-Time`.
        timeout: seconds.

    Raises:
        UsageError: `prediction-refused`: the endpoint answered 4xx; its sentence is the message.
            `token-refused`: it asks for a token (`Authorization: Bearer TOKEN` in `headers`).
        EnvironmentFault: `endpoint-unreachable`, `prediction-failed`.
    """
    model = quote(name, safe="")
    path = f"/v1/models/{model}:predict" if protocol == "v1" else f"/v2/models/{model}/infer"
    body = _request(rows, protocol)
    if params:
        where = "params" if protocol == "v1" else "parameters"
        body[where] = {**(body.get(where) or {}), **_plain(params)}
    status, got, answer = _post(url, path, body, _with_id(headers or {}), timeout)
    if status != 200:
        said, caused = _sentence(answer)
        if status == 404 and "X-Modelyard-Revision" not in got:  # no model said that
            raise EnvironmentFault(
                "endpoint-unreachable", f"no {name} answers on {url}: {said}", "modelyard endpoints list"
            )
        if status == 401:
            raise UsageError(
                "token-refused", f"{name} refused the token: {said}", f"modelyard endpoints token {name}"
            )
        if 400 <= status < 500:
            takes = f"what it takes: GET {url}/v2/models/{model}"
            hint = f"modelyard endpoints show {name}" if caused else takes
            raise UsageError("prediction-refused", f"{name} refused the rows: {said}", hint)
        raise EnvironmentFault(
            "prediction-failed", f"{name} answered {status}: {said}", f"modelyard endpoints logs {name}"
        )
    return Answer(
        id=got.get("X-Request-Id", ""),
        predictions=tuple(_predictions(answer)),
        model=got.get("X-Modelyard-Model", ""),
        version=got.get("X-Modelyard-Version", ""),
        revision=got.get("X-Modelyard-Revision", ""),
    )


def _sentence(answer: Any) -> tuple[Any, bool]:
    """What an answer says of its error, and whether it is a graph's, which says the cause apart."""
    if not isinstance(answer, dict):
        return answer, False
    said, cause = answer.get("error", answer), answer.get("cause")
    return (f"{said}: {cause}", True) if cause else (said, False)


def _request(rows: Any, protocol: str) -> dict[str, Any]:
    if isinstance(rows, Mapping) and ("instances" if protocol == "v1" else "inputs") in rows:
        return dict(rows)
    instances = as_instances(rows)
    return {"instances": instances} if protocol == "v1" else {"inputs": _tensors(instances)}


def _predictions(answer: Any) -> Sequence[Any]:
    """One item per row, an object of several outputs as V1 has it; of an answer without rows, as graphs may
    give, the whole."""
    named = answer if isinstance(answer, dict) else {}
    predictions, outputs = named.get("predictions"), named.get("outputs")
    if isinstance(predictions, list):
        return predictions
    if isinstance(outputs, list) and outputs:
        columns = {one.get("name"): _rows_of(one) for one in outputs}
        first, *more = columns.values()
        if not more:
            return first
        if all(len(rows) == len(first) for rows in more):
            return [dict(zip(columns, row)) for row in zip(*columns.values())]
    return [answer]


def inputs_of(
    url: str, name: str, *, headers: Mapping[str, str] | None = None, timeout: float = 60.0
) -> dict[str, str]:
    """The columns that a model takes, with their datatypes in V2's words; empty: it takes one matrix, or does
    not say.

    Args:
        url: the endpoint's URL.
        name: the InferenceService's name.
        headers: e.g. `Authorization`.
        timeout: seconds.

    Raises:
        EnvironmentFault: `endpoint-unreachable`.
    """
    path = f"/v2/models/{quote(name, safe='')}"
    status, _, said = _exchange("GET", url, path, None, dict(headers or {}), timeout)
    inputs = said.get("inputs") if status == 200 and isinstance(said, dict) else None
    found = [one for one in inputs or () if isinstance(one, dict) and "name" in one]
    if any(len(one.get("shape") or ()) > 1 and one["shape"][-1] != 1 for one in found):
        return {}
    return {str(one["name"]): str(one.get("datatype") or "") for one in found}


def as_instances(rows: Any) -> list[Any]:
    """Rows as V1 instances; a missing number becomes None.

    Example:
        >>> as_instances([{"temp": float("nan"), "carrier": "UA"}])
        [{'temp': None, 'carrier': 'UA'}]

    Raises:
        UsageError: `rows-invalid`: it is none of what `predict` takes.
    """
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        rows = rows.to_dict(orient="records")
    elif hasattr(rows, "tolist"):
        rows = rows.tolist()
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
        raise UsageError(
            "rows-invalid",
            f"a {type(rows).__name__} is no list of rows",
            "give a DataFrame, a NumPy array, a list of dicts or a list of lists",
        )
    return [_plain(row) for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _tensors(instances: Sequence[Any]) -> list[dict[str, Any]]:
    first = instances[0] if instances else []
    for number, row in enumerate(instances, start=1):
        if said := _difference(first, row):
            raise UsageError(
                "rows-invalid",
                f"row {number} {said}",
                "give every row the same columns, or use the protocol v1",
            )
    if isinstance(first, Mapping):
        return [_tensor(name, [row[name] for row in instances], [len(instances)]) for name in first]
    flat = [value for row in instances for value in row]
    return [_tensor("input-0", flat, [len(instances), len(first)])]


def _difference(first: Any, row: Any) -> str:
    """What keeps the row from standing in columns with the first one; V2 sends columns."""
    if isinstance(row, Mapping) and isinstance(first, Mapping):
        differing = sorted(row.keys() ^ first.keys())
        return f"and row 1 differ in '{differing[0]}'" if differing else ""
    if isinstance(row, list) and isinstance(first, list):
        same = len(row) == len(first)
        return "" if same else f"has {len(row)} values, row 1 has {len(first)}"
    return f"is {row!r:.40}, neither a dict nor a list like row 1"


def _tensor(name: str, data: list[Any], shape: list[int]) -> dict[str, Any]:
    kinds = {type(value) for value in data if value is not None}
    if kinds <= {int} and kinds and None not in data:
        datatype = "INT64"
    elif kinds <= {int, float}:
        datatype = "FP64"
    elif kinds == {bool}:
        datatype = "BOOL"
    else:
        datatype = "BYTES"
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def _rows_of(tensor: Mapping[str, Any]) -> list[Any]:
    data, shape = list(tensor["data"]), tensor["shape"]
    if len(shape) < 2 or (len(shape) == 2 and len(data) == shape[0] and isinstance(data[0], list)):
        return data
    width = len(data) // shape[0] if shape[0] else 0
    return [data[start : start + width] for start in range(0, len(data), width or 1)]


def _with_id(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers with the prediction's id, which KServe's own logger reads from `Ce-Id`."""
    given = {name.lower(): value for name, value in headers.items()}
    request_id = given.get("x-request-id") or given.get("ce-id") or str(uuid.uuid4())
    missing = {"X-Request-Id": request_id, "Ce-Id": request_id}
    return {**headers, **{name: value for name, value in missing.items() if name.lower() not in given}}


def _connection(parts: SplitResult, timeout: float) -> http.client.HTTPConnection:
    """A connection to the host of a URL; names below `localhost` are this machine (RFC 6761), but few
    resolvers know that."""
    host = parts.hostname or "127.0.0.1"
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout)
    is_here = host.endswith(".localhost")
    return http.client.HTTPConnection("127.0.0.1" if is_here else host, parts.port, timeout=timeout)


def _post(
    url: str, path: str, body: Any, headers: dict[str, str], timeout: float
) -> tuple[int, http.client.HTTPMessage, Any]:
    try:
        content = json.dumps(body).encode()
    except (TypeError, ValueError) as fault:  # a set, an object, a list that contains itself
        raise UsageError(
            "rows-invalid", f"the rows can't be sent as JSON: {fault}", "give numbers, texts and booleans"
        ) from None
    return _exchange("POST", url, path, content, {"Content-Type": "application/json", **headers}, timeout)


def _exchange(
    method: str, url: str, path: str, content: bytes | None, headers: dict[str, str], timeout: float
) -> tuple[int, http.client.HTTPMessage, Any]:
    parts = urlsplit(url)
    connection = _connection(parts, timeout)
    try:
        connection.request(
            method,
            parts.path.rstrip("/") + path,
            content,
            {"Host": parts.netloc.rpartition("@")[2], **headers},
        )
        response = connection.getresponse()
        text = response.read()
    except (OSError, http.client.HTTPException) as fault:
        raise EnvironmentFault(
            "endpoint-unreachable", f"{url} does not answer: {fault}", "modelyard up"
        ) from None
    finally:
        connection.close()
    try:
        return response.status, response.headers, json.loads(text)
    except ValueError:
        return response.status, response.headers, text.decode(errors="replace")
