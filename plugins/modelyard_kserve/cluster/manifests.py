"""The objects that are applied for an endpoint: its InferenceService, and what fetches its model from S3."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from modelyard.digests import digest_of
from modelyard.errors import ConfigError
from modelyard.records import Trust
from modelyard.targets import Address
from modelyard_kserve.manifest import Manifest
from modelyard_kserve.own_annotations import PREFIX, PROJECT, WRITTEN

API = "serving.kserve.io/v1beta1"
KIND = "InferenceService"
#: Labels of KServe on everything that it makes.
OF_SERVICE, OF_COMPONENT = "serving.kserve.io/inferenceservice", "component"
#: Secret and ServiceAccount with which models are fetched.
ACCESS = "modelyard-models"
#: The file as it was applied, where `kubectl apply view-last-applied` looks too. KServe copies every other
#: annotation to the revisions, and a file that differs in its canary alone must not make a new one.
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_MANAGED_BY = {"app.kubernetes.io/managed-by": "modelyard"}
#: The id of a prediction. KServe's agent names an event by `Ce-Id`, which plain callers don't send, and tells
#: nobody which name it made up; this one is the caller's, or Envoy's.
REQUEST_ID = "X-Request-Id"
_LOGGED = (f"{PREFIX}model", f"{PREFIX}version")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Served:
    """The model behind an InferenceService.

    Attributes:
        storage_uri: what the file asks for, perhaps an alias.
        address: where its files lie, as pods read them.
        digest: SHA-256 of its files; None: nobody recorded it.
        trust: who answers for its pickles and code; empty: nobody, so they are not loaded.
    """

    model: str
    version: str
    storage_uri: str
    address: str
    digest: str | None = None
    lineage_id: str | None = None
    trust: Trust = ""


@dataclass(frozen=True)
class Identity:
    """What an object of the cluster says about itself by our annotations.

    Attributes:
        trust: who answers for the model's pickles and code.
        spec: identifies everything that makes a new revision when it changes.
        generation: counts the tries of one spec: it rises when a failed revision is applied again.
    """

    model: str = ""
    version: str = "0"
    storage_uri: str = ""
    spec: str = ""
    generation: int = 1
    trust: Trust = ""


def identity_of(metadata: Mapping[str, Any]) -> Identity:
    """The identity in an object's (or pod template's) metadata."""
    said = metadata.get("annotations") or {}
    generation = said.get(f"{PREFIX}generation", "")
    return Identity(
        model=said.get(f"{PREFIX}model", ""),
        version=said.get(f"{PREFIX}version", "0"),
        storage_uri=said.get(f"{PREFIX}storage-uri", ""),
        spec=said.get(f"{PREFIX}spec", ""),
        generation=int(generation) if generation.isdigit() else 1,
        trust=said.get(f"{PREFIX}trusted-by", ""),
    )


def applied_document(service: Mapping[str, Any]) -> str | None:
    """The file from which an InferenceService was made, as JSON; None: it was not made by us."""
    found = (service["metadata"].get("annotations") or {}).get(_APPLIED)
    return found if isinstance(found, str) else None


def project_label(project: str) -> str:
    """A project's name as the value of a label.

    Example:
        >>> project_label("late-flights"), project_label("Späte Flüge")
        ('late-flights', 'Sp-te-Fl-ge-b18ed80a')
    """
    if _LABEL.fullmatch(project):
        return project
    digest = hashlib.sha256(project.encode()).hexdigest()[:8]
    return f"{re.sub('[^A-Za-z0-9]+', '-', project)[:50].strip('-') or 'project'}-{digest}"


def inference_service(
    manifest: Manifest,
    served: Served,
    *,
    project: str,
    sink: str | None,
    account: str | None,
    canary: int | None,
    generation: int = 1,
) -> dict[str, Any]:
    """The InferenceService to apply.

    Args:
        manifest: the file.
        served: its model.
        project: the project's name.
        sink: where the prediction log takes events, as pods reach it; None: there is no monitor.
        account: the ServiceAccount that may fetch the model, unless the file names one.
        canary: the newest revision's share.
        generation: see `Identity`.

    Raises:
        ConfigError: `model-not-loggable`.
    """
    made: dict[str, Any] = copy.deepcopy(dict(manifest.document))
    made.pop("status", None)  # in files that somebody copied out of a cluster
    metadata, predictor = made["metadata"], made["spec"]["predictor"]
    predictor.pop("canaryTrafficPercent", None)
    _name_model(predictor["model"], served)
    if account and not predictor.get("serviceAccountName"):
        predictor["serviceAccountName"] = account
    if predictor.get("logger") is not None:
        _direct_logger(predictor, served, sink)
    metadata["namespace"] = manifest.namespace
    metadata["labels"] = {**(metadata.get("labels") or {}), **_MANAGED_BY, PROJECT: project_label(project)}
    theirs = {k: v for k, v in (metadata.get("annotations") or {}).items() if k not in WRITTEN}
    metadata["annotations"] = {**theirs, **_annotations(served)}
    metadata["annotations"][f"{PREFIX}spec"] = digest_of(made)[:16]
    metadata["annotations"][f"{PREFIX}generation"] = str(generation)
    metadata["annotations"][_APPLIED] = json.dumps(manifest.document, ensure_ascii=False)
    if canary is not None:
        predictor["canaryTrafficPercent"] = canary
    return made


def _name_model(model: dict[str, Any], served: Served) -> None:
    """Every revision carries who it is, and proves it before it answers."""
    model["storageUri"] = served.address
    said = {
        "MODELYARD_MODEL": served.model,
        "MODELYARD_VERSION": served.version,
        "MODELYARD_DIGEST": served.digest or "",
        "MODELYARD_TRUST": "true" if served.trust else "",
    }
    theirs = [item for item in model.get("env") or [] if item.get("name") not in said]
    model["env"] = [*theirs, *({"name": name, "value": value} for name, value in said.items() if value)]


def _direct_logger(predictor: dict[str, Any], served: Served, sink: str | None) -> None:
    logger = predictor["logger"]
    logger["url"] = logger.get("url") or sink
    if not logger["url"]:
        del predictor["logger"]  # KServe would send the events to a broker that is not there
        return
    if set(served.model) & set(',"\n'):
        raise ConfigError(
            "model-not-loggable",
            f"KServe's agent can't write the name of the model '{served.model}' into the prediction log",
            "take the logger out of the file, or register the model under a name without ',' and '\"'",
        )
    # The agent compares names as Go writes them: any other spelling would find nothing.
    headers = [_canonical(name) for name in logger.get("metadataHeaders") or ()]
    logger["metadataHeaders"] = list(dict.fromkeys([*headers, REQUEST_ID]))
    logger["metadataAnnotations"] = list(
        dict.fromkeys([*(logger.get("metadataAnnotations") or ()), *_LOGGED])
    )


def _annotations(served: Served) -> dict[str, str]:
    said = {
        "model": served.model,
        "version": served.version,
        "storage-uri": served.storage_uri,
        "digest": served.digest,
        "lineage-id": served.lineage_id,
        "trusted-by": served.trust,
    }
    if served.trust == "consent":
        said["trust"] = f"sha256:{served.digest}"  # it is remembered where the file says it, too
    return {f"{PREFIX}{key}": value for key, value in said.items() if value}


def _canonical(header: str) -> str:
    """A header's name as Go spells it.

    Example:
        >>> _canonical("x-event-TIME")
        'X-Event-Time'
    """
    return "-".join(part[:1].upper() + part[1:].lower() for part in header.split("-"))


def with_canary(service: Mapping[str, Any], canary: int) -> dict[str, Any]:
    """A live InferenceService to apply again with another split: nothing of it makes a new revision."""
    metadata = {key: service["metadata"].get(key) for key in ("name", "namespace", "labels", "annotations")}
    predictor = {**service["spec"]["predictor"], "canaryTrafficPercent": canary}
    spec = {**service["spec"], "predictor": predictor}
    return {"apiVersion": API, "kind": KIND, "metadata": metadata, "spec": spec}


def storage_access(namespace: str, s3: Address) -> list[dict[str, Any]]:
    """Secret and ServiceAccount with which KServe's storage initializer reads an S3 server.

    Args:
        namespace: the InferenceServices'.
        s3: the server's address, with its keys.
    """
    parts = urlsplit(s3.inside)
    secure = "1" if parts.scheme == "https" else "0"
    annotations = {
        "serving.kserve.io/s3-endpoint": parts.netloc,
        "serving.kserve.io/s3-usehttps": secure,
        "serving.kserve.io/s3-verifyssl": secure,
        "serving.kserve.io/s3-region": "us-east-1",
    }
    keys = {"AWS_ACCESS_KEY_ID": s3.user, "AWS_SECRET_ACCESS_KEY": s3.password}
    named = {"name": ACCESS, "namespace": namespace, "labels": _MANAGED_BY}
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {**named, "annotations": annotations},
            "type": "Opaque",
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in keys.items()},
        },
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": named,
            # Models have nothing to say to the cluster's API.
            "automountServiceAccountToken": False,
            "secrets": [{"name": ACCESS}],
        },
    ]
