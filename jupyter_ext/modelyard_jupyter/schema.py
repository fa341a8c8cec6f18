"""Prints one JSON schema of every message, from which the front end's TypeScript types are made.

Run it with `python -m modelyard_jupyter.schema`; `npm run types` in `jupyter_ext/` does.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from modelyard_jupyter.api import MESSAGES


class _Sent(GenerateJsonSchema):
    """What is sent holds every field, those with defaults too."""

    def field_is_required(self, field: Any, total: bool) -> bool:  # noqa: ARG002 - pydantic's signature
        return True


def document() -> dict[str, Any]:
    """Every message with what it holds, as definitions of one JSON schema."""
    _, found = models_json_schema(
        [(message, "serialization") for message in MESSAGES],
        schema_generator=_Sent,
        ref_template="#/definitions/{model}",
    )
    return {"title": "Messages", "type": "object", "definitions": found["$defs"]}


if __name__ == "__main__":
    print(json.dumps(document(), indent=1))
