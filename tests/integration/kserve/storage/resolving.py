"""What tests ask of `resolve`: the files that came, or the one sentence why none did."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelyard.errors import ModelyardError
from modelyard.stages import StageContext
from modelyard_kserve.storage import resolve


def content_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def fault_of(uri: str, context: StageContext) -> ModelyardError:
    with pytest.raises(ModelyardError) as caught:
        resolve(uri, context)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value
