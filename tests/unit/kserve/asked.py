"""A model's application, asked without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from modelyard_kserve.local.messages import Answer, Request
from modelyard_kserve.local.model_app import ModelApp
from modelyard_kserve.local.runtimes import Column, LoadedModel
from modelyard_kserve.local.signature import Signature, Spec

COLUMNS = (Column("temp", "double"), Column("stops", "long"))


@dataclass(frozen=True)
class Said:
    """An answer: its JSON, and the bytes behind it."""

    status: int
    json: Any
    raw: bytes
    answer: Answer

    @property
    def error(self) -> str:
        """The sentence of a refusal."""
        sentence: str = self.json["error"]
        assert "\n" not in sentence
        assert "Traceback" not in sentence
        return sentence


def app(answer: Any = None, columns: Any = (), stated: Any = None, **options: Any) -> ModelApp:
    """Of a model `late`, version 3; without `answer` it gives back what it got.

    Args:
        answer: what it answers, or a function of its rows.
        columns, stated: its columns, and its signature.
    """
    function = answer if callable(answer) else lambda rows: rows if answer is None else answer
    signature = stated or Signature(inputs=tuple(Spec(c.name, "FP64") for c in columns))
    options = {"probabilities": False, "signature": signature, **options}
    return ModelApp("late", "3", LoadedModel(tuple(columns), function), **options)


def ask(
    of: ModelApp, path: str, body: Any = None, headers: Mapping[str, str] | None = None, method: str = "POST"
) -> Said:
    """One request; a body that is not bytes is sent as JSON."""
    sent = body if isinstance(body, bytes) else orjson.dumps(body)
    answer = asyncio.run(of(Request(method, path, b"", headers or {}, sent)))
    whole = answer.body()
    length = int(answer.headers.get("inference-header-content-length", len(whole)))
    return Said(answer.status, orjson.loads(whole[:length]), whole[length:], answer)


def get(of: ModelApp, path: str) -> Said:
    """A GET."""
    return ask(of, path, b"", method="GET")
