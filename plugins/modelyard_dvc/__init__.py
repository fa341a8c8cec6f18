"""DVC as the data store of Modelyard: big data versioned by content, its metadata in git."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import modelyard
from modelyard.offers import CheckOffer, Offer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from modelyard.records import Check
    from modelyard.stages import DataStore, StageContext


@modelyard.hookimpl
def modelyard_data_stores() -> Iterable[Offer[DataStore]]:
    """Offer DVC for the stage `data`."""
    yield Offer(
        name="dvc",
        summary="DVC: versions by content, .dvc files in git, bytes in a folder, S3, GCS or Azure",
        factory=_open,
        settings=_settings,
        requires=("dvc",),
        install="modelyard[dvc]",
    )


@modelyard.hookimpl
def modelyard_checks() -> Iterable[CheckOffer]:
    """Offer a look at the project's DVC repository for `modelyard doctor`."""
    yield CheckOffer(name="dvc", run=_check)


def _open(context: StageContext) -> DataStore:
    from modelyard_dvc.provider import DvcStore

    return DvcStore(context)


def _settings() -> type[BaseModel]:
    from modelyard_dvc.config import DvcSettings

    return DvcSettings


def _check(root: Path | None) -> Iterable[Check]:
    from modelyard_dvc.checks import check

    return check(root)
