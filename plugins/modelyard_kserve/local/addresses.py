"""Who answers under which address: what Envoy is to do, without how it is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """A revision's part of an endpoint's traffic, in percent."""

    revision: str
    model: str
    version: str
    percent: int
    #: Who of the revision answers, where it is not its predictor.
    component: str = ""
    #: What it answers is no prediction that somebody asked for: an explainer tries things out.
    logged: bool = True

    @property
    def cluster(self) -> str:
        """What Envoy calls those who answer."""
        return cluster_of(self.revision, self.component)


def cluster_of(revision: str, component: str = "") -> str:
    """What Envoy and the activator call those who answer for a revision, or for a component of it."""
    return f"{revision}-{component}" if component else revision


@dataclass(frozen=True)
class Inner:
    """Where a component asks the predictor of its revision; `timeout` and `token` as in `Route`."""

    path: str
    shares: tuple[Share, ...]
    timeout: float = 300.0
    token: str | None = None

    @property
    def authority(self) -> str:
        """The same for gRPC, whose paths are fixed. No endpoint's host name is like it."""
        return authority_of(self.path)


def authority_of(path: str) -> str:
    """See `Inner.authority`.

    Example:
        >>> authority_of("/serving/default/late/late-00001/predictor")
        'serving.default.late.late-00001.predictor'
    """
    return path.strip("/").replace("/", ".")


@dataclass(frozen=True)
class Route:
    """An endpoint: its names and who answers. `timeout` is in seconds. `token` is asked of callers; None:
    anybody may ask; empty: nobody knows it. `explainers` answer `:explain`; none: who answers everything.
    `inner` is where its components ask its predictors."""

    name: str
    namespace: str
    shares: tuple[Share, ...]
    timeout: float = 300.0
    token: str | None = None
    explainers: tuple[Share, ...] = ()
    explain_timeout: float = 300.0
    inner: tuple[Inner, ...] = ()

    @property
    def path(self) -> str:
        """Where it answers beside its host name."""
        return f"/serving/{self.namespace}/{self.name}"

    @property
    def host(self) -> str:
        """The host name that KServe gives it."""
        return f"{self.name}-{self.namespace}.example.com"
