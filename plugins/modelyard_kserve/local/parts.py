"""What a revision runs: its predictor, and its transformer and explainer if it has them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace

from modelyard_kserve.local.addresses import Inner, Route, Share, cluster_of
from modelyard_kserve.local.desired import Component, Desired, Wanted
from modelyard_kserve.local.scaling import Scaling

#: Where a component finds the predictor of its revision. What an explainer asks there is not logged: it tries
#: out rows that nobody wants a prediction of.
_ADDRESSES = {"transformer": "predictor", "explainer": "unlogged"}


@dataclass(frozen=True)
class Part:
    """Processes of a revision.

    Attributes:
        revision: whose they are.
        wanted: what they run.
        scaling: how many there are.
    """

    revision: Wanted
    wanted: Wanted
    scaling: Scaling

    @property
    def kind(self) -> str:
        """`transformer`, `explainer`, or `predictor`."""
        return self.wanted.component or "predictor"

    @property
    def cluster(self) -> str:
        """What Envoy and the activator call them."""
        return cluster_of(self.revision.name, self.wanted.component)


def parts_of(desired: Desired, revision: Wanted, port: int) -> list[Part]:
    """Everything that a revision runs, the predictor first.

    Args:
        desired: the endpoint.
        revision: one of its revisions.
        port: where Envoy answers.
    """
    around = [
        Part(revision, _program(desired, revision, kind, component, port), component.scaling)
        for kind, component in revision.components.items()
    ]
    return [Part(revision, revision, desired.scaling_of(revision.key)), *around]


def entry_of(revision: Wanted) -> str:
    """The component to which requests go; empty: the predictor.

    It is the transformer if there is one.
    """
    return "transformer" if "transformer" in revision.components else ""


def route_of(desired: Desired, split: dict[int, int], token: str | None) -> Route:
    """How an endpoint's traffic is split. It is split once: a transformer asks the predictor of its own
    revision, so whoever is said to answer did.

    Args:
        desired: the endpoint.
        split: percent by the revision's number.
        token: see `Route`.
    """
    shares = [(desired.revision(number), percent) for number, percent in split.items()]
    newest = desired.newest
    explains = any("explainer" in revision.components for revision, _ in shares)
    return Route(
        desired.name,
        desired.namespace,
        tuple(_share(revision, percent, entry_of(revision)) for revision, percent in shares),
        _timeout(newest, entry_of(newest)),
        token,
        tuple(_share(revision, percent, _explaining(revision)) for revision, percent in shares)
        if explains
        else (),
        _timeout(newest, _explaining(newest)),
        tuple(
            Inner(
                _address(desired, revision, kind),
                (replace(_share(revision, 100), logged=kind != "explainer"),),
                revision.timeout,
                token,
            )
            for revision in desired.everything
            for kind in revision.components
        ),
    )


def _share(revision: Wanted, percent: int, component: str = "") -> Share:
    return Share(revision.name, revision.model, revision.version, percent, component)


def _explaining(revision: Wanted) -> str:
    return "explainer" if "explainer" in revision.components else entry_of(revision)


def _timeout(revision: Wanted, component: str) -> float:
    return revision.components[component].timeout if component else revision.timeout


def _address(desired: Desired, revision: Wanted, kind: str) -> str:
    return f"/serving/{desired.namespace}/{desired.name}/{revision.name}/{_ADDRESSES[kind]}"


def _program(desired: Desired, revision: Wanted, kind: str, component: Component, port: int) -> Wanted:
    """A component as a revision of its own, as those who start processes know them."""
    host = f"127.0.0.1:{port}{_address(desired, revision, kind)}"
    return replace(
        revision,
        path=component.path,
        digest=component.digest,
        storage_uri=component.storage_uri,
        env=dict(component.env),
        timeout=component.timeout,
        concurrency=component.concurrency,
        model_format="",
        batcher={},
        command=_command(component.command, desired.name, host),
        code=component.code,
        own_requirements=False,
        limits=dict(component.limits),
        components={},
        component=kind,
    )


def _command(command: str, name: str, host: str) -> str:
    """The command with what KServe's controller adds to it, unless it says that itself.

    Example:
        >>> _command("python -m ours --model_name=early", "late", "127.0.0.1:80/late")
        "python -m ours --model_name=early --predictor_host 127.0.0.1:80/late --http_port '$(PORT)'"
    """
    words = shlex.split(command)
    for option, value in (("--model_name", name), ("--predictor_host", host), ("--http_port", "$(PORT)")):
        if not any(word == option or word.startswith(f"{option}=") for word in words):
            words += [option, value]
    return shlex.join(words)
