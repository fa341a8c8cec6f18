"""Endpoints for people: a few lines where everything is well, else everything that explains why not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import click

from modelyard import console
from modelyard.records import Endpoint, Explanation, GraphStep, Replica, Revision, now

#: The node of a graph where every request begins.
ROOT = "root"
#: Events that people are shown; `--json` has all.
_EVENTS = 12
_LONGEST = 200


def print_endpoint(endpoint: Endpoint) -> None:
    """Where it answers, and its revisions."""
    state = "ready" if endpoint.ready else "not ready"
    click.echo(
        f"{endpoint.name} is {state} on {endpoint.url or 'no address'}, follows {endpoint.storage_uri}"
    )
    if endpoint.message:
        click.echo(f"  {endpoint.message}")
    said = [revision.message for revision in endpoint.revisions]
    rows = [
        (
            *(r.name, f"{r.model}/{r.version}", f"{r.traffic} %", state_of(r), r.created),
            _remark(r, said[:place]),
        )
        for place, r in enumerate(endpoint.revisions)
    ]
    console.table(("REVISION", "MODEL", "TRAFFIC", "STATE", "CREATED (UTC)", ""), rows)


def print_graph(steps: Sequence[GraphStep]) -> None:
    """The nodes of a graph as a tree, with the health of each step; nothing for other endpoints."""
    root = [step for step in steps if step.node == ROOT]
    for step in root[:1]:
        click.echo(f"{ROOT}: {step.router}")
    for line in _branches(steps, ROOT):
        click.echo(line)


def _branches(steps: Sequence[GraphStep], node: str) -> Iterator[str]:
    inside = [step for step in steps if step.node == node]
    for place, step in enumerate(inside, start=1):
        first, further = ("└─ ", "   ") if place == len(inside) else ("├─ ", "│  ")
        yield first + _step(steps, step)
        if step.leads_to:
            yield from (further + line for line in _branches(steps, step.leads_to))


def _step(steps: Sequence[GraphStep], step: GraphStep) -> str:
    when = f" ({step.when})" if step.when else ""
    if step.leads_to:
        routers = [other.router for other in steps if other.node == step.leads_to]
        return f"{step.name}{when}: node {step.leads_to}, {''.join(routers[:1])}"
    state = {True: "ready", False: "not ready", None: "not known"}[step.ready]
    message = f": {_short(step.message)}" if step.message else ""
    return f"{step.name}{when}: {step.target}, {state}{message}"


def print_explanation(found: Explanation) -> None:
    """What is not as it should be, since when and why, and what can be done; nothing where all is well."""
    if found.settled:
        return
    endpoint = found.endpoint
    click.echo()
    said = [revision.message for revision in endpoint.revisions if revision.message]
    rows = [(c.type, c.status, ago(c.since), c.reason, _new(c.message, said)) for c in endpoint.conditions]
    console.table(("CONDITION", "STATUS", "SINCE", "REASON", ""), rows, empty="no conditions are known")
    if found.replicas:
        click.echo()
        table = [_replica(one, said) for one in found.replicas]
        console.table(("REPLICA", "REVISION", "STATE", "SINCE", "RESTARTS", "WAITS FOR"), table)
    for name, lines in found.logs.items():
        click.echo(f"\nthe last lines of {name}:")
        for line in lines or ("(it wrote nothing)",):
            click.echo(f"  {_new(line, said)}")
    if found.events:
        click.echo()
        last = found.events[-_EVENTS:]
        told = [(ago(e.time), e.count, e.type, e.reason, _new(e.message, said)) for e in last]
        console.table(("LAST", "COUNT", "TYPE", "EVENT", ""), told)
    if found.unknown:
        click.echo(f"\n{found.unknown}")
    click.echo()
    for step in next_steps(endpoint, found.advice):
        click.echo(f"next: {step}")


def waits(endpoint: Endpoint) -> Iterator[tuple[str, datetime | None]]:
    """What it waits for before it is as it was asked to be, and since when."""
    if endpoint.url is None and not endpoint.revisions:
        yield f"{endpoint.name}: {endpoint.message or 'no revision yet'}", None
    for place, revision in enumerate(endpoint.revisions):
        if (place == 0 or revision.traffic) and not revision.ready:
            model = f"{revision.model}/{revision.version}"
            yield f"{revision.name} with {model}: {revision.message or 'starting'}", revision.since
    ready = next((one for one in endpoint.conditions if one.type == "Ready"), None)
    if endpoint.revisions and endpoint.revisions[0].ready and ready and ready.status != "True":
        yield f"{endpoint.name}: {ready.message or ready.reason or 'not ready yet'}", ready.since


def next_steps(endpoint: Endpoint, advice: str = "") -> Iterator[str]:
    """What somebody can do about an endpoint that is not as it should be; `advice` is its provider's."""
    failed = [revision for revision in endpoint.revisions[:1] if revision.failed]
    if endpoint.url is None and endpoint.target == "local":
        yield "modelyard up"
    elif failed:
        if advice:
            yield advice
        yield f"modelyard endpoints logs {endpoint.name}; then apply a file that works, or the same again"
        answering = [r for r in endpoint.revisions if r.traffic and r.ready]
        for revision in answering[:1]:
            yield f"nothing is urgent: {revision.name} answers with {revision.model}/{revision.version}"
    else:
        yield f"wait, and look again: modelyard endpoints show {endpoint.name}"


def state_of(revision: Revision) -> str:
    """In one word."""
    if revision.ready:
        return "asleep" if revision.reason == "NoTraffic" else "ready"
    if revision.failed:
        return "failed"
    return "loading" if revision.message or revision.reason or revision.traffic else "retired"


def ago(moment: datetime | None) -> str:
    """How long ago it was.

    Example:
        >>> from datetime import timedelta
        >>> ago(now() - timedelta(seconds=75)), ago(None)
        ('1m15s', '-')
    """
    if moment is None:
        return "-"
    seconds = max(0, round((now() - moment).total_seconds()))
    for size, unit, below, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= size:
            rest = seconds % size // below
            return f"{seconds // size}{unit}" + (f"{rest}{small}" if rest else "")
    return f"{seconds}s"


def _remark(revision: Revision, said: Sequence[str]) -> str:
    by = {"consent": "trusted by consent", "settings": "trusted by trust_pickle"}.get(revision.trust, "")
    return "; ".join(filter(None, [_new(revision.message, said), by]))


def _replica(one: Replica, said: Sequence[str]) -> tuple[object, ...]:
    state = "ready" if one.ready else "not ready"
    return one.name, one.revision, state, ago(one.since), one.restarts, _new(one.waits_for, said)


def _new(text: str, said: Sequence[str]) -> str:
    """The text without what stands above already."""
    for sentence in filter(None, said):
        text = text.replace(sentence, "(as above)")
    return _short(text)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
