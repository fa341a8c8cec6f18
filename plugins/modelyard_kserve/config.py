"""The table `[providers.kserve]`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _compiled(text: str) -> str:
    try:
        re.compile(text)
    except re.error as fault:
        raise ValueError(f"{text!r} is no pattern: {fault}") from None
    return text


Pattern = Annotated[str, AfterValidator(_compiled)]


class KserveSettings(BaseModel):
    """How InferenceServices run here."""

    model_config = ConfigDict(extra="forbid")
    ready_timeout: float = Field(
        600.0, gt=0, description="Seconds that `apply` waits for a model that loads, as Knative does."
    )
    token: bool = Field(
        False,
        description="Local endpoints answer only to callers with the project's token (`modelyard endpoints "
        "token NAME`); our own commands send it by themselves. One endpoint: the annotation "
        "`modelyard.dev/token`.",
    )
    trust_pickle: bool = Field(
        False,
        description="Load pickles from plain folders, and of versions that another tool registered, too. A "
        "pickle runs code: without this, only those are loaded that the registry handed out with their "
        "recorded SHA-256. Lets custom predictors run programs that are not the project's, too.",
    )
    access_log: bool = Field(
        False,
        description="Write a line of JSON for each request that comes to local endpoints: when, for which "
        "endpoint, method and path, status, who answered, how long it took, the request's id; no headers, "
        "no query, no body. `modelyard endpoints logs NAME --access` shows it. It costs the gateway some "
        "ten microseconds a request, and up to 64 MB of disk.",
    )
    pvc: dict[str, str] = Field(
        default_factory=dict,
        description='Folders that stand for PersistentVolumeClaims: with `models = "/srv/models"`, '
        "`pvc://models/late` is `/srv/models/late`.",
    )
    fetch_limit: float = Field(
        20.0, gt=0, description="Gigabytes that a model from elsewhere may take, unpacked."
    )
    graph_headers: list[Pattern] = Field(
        default_factory=list,
        description="Patterns of the request headers that InferenceGraphs hand on to their steps, as "
        "`router.headers.propagate` in KServe's configuration. The request's id, `X-Event-Time` and W3C's "
        "trace headers always go on.",
    )
