"""What is so with an endpoint in KServe's words: its conditions, and events when something changes.

The controller says what it sees of each revision; what follows from that is pure: the same sight gives the
same words, and what is compared with is the last `observed.json`, so that a new controller goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelyard.errors import CorruptStateError
from modelyard.records import Event, now
from modelyard.state import read_json, write_json
from modelyard_kserve.local import desired as states
from modelyard_kserve.local.desired import Desired, Wanted

EVENTS = "events.json"
#: Events that are kept; one that happens again counts, and takes no more room.
_KEPT = 50
#: Characters of an event's message.
_LONGEST = 1000
#: The first words of a replica that has not said anything yet.
_LOADING = "loading the model"
#: What comes of it will not be `Ready` by waiting; `Unknown` may.
_WORST_FIRST = ("False", "Unknown", "True")

_State = Mapping[str, Any]
#: Status, reason, message.
Fact = tuple[str, str, str]
_TRUE: Fact = ("True", "", "")
#: What may be so with the gateway.
REACHABLE, STARTS = _TRUE, ("Unknown", "IngressNotReady", "Envoy does not run yet")
REFUSES: Fact = (
    "False",
    "IngressNotReady",
    "Envoy does not take its configuration, and goes by the one before; modelyard logs serving says why",
)


def reason_of(state: _State) -> str:
    """One word for what a revision does; empty: it answers.

    Example:
        >>> reason_of({"ready": False, "failed": True, "message": "model.pkl can't be loaded: it is torn"})
        'ModelLoadFailed'
        >>> reason_of({"ready": True, "failed": False, "message": "", "asleep": True})
        'NoTraffic'
    """
    said = str(state.get("message") or "")
    if state.get("ready"):
        return "NoTraffic" if state.get("asleep") else ""
    if state.get("failed"):
        return "RuntimeUnhealthy" if "the model server" in said else "ModelLoadFailed"
    return "Loading" if not said or said.endswith(_LOADING) else "CrashLoopBackOff"


def conditions(desired: Desired, revisions: Mapping[str, _State], ingress: Fact) -> dict[str, Fact]:
    """Status, reason and message by condition, as KServe and Knative report them.

    Args:
        desired: the endpoint.
        revisions: what its revisions do, by number; those without a process may be left out.
        ingress: what is so with the gateway.
    """
    seen = {int(number): state for number, state in revisions.items()}
    newest, state = desired.newest, seen.get(desired.newest.number, {})
    configuration = _configuration(newest.name, _part(state, "predictor"))
    around = {
        f"{kind.capitalize()}Ready": _configuration(f"{newest.name}, {kind}", _part(state, kind))
        for kind in newest.components
    }
    predictors = _route(desired, {number: _part(one, "predictor") for number, one in seen.items()})
    route = _route(desired, seen)
    predictor = _worst(configuration, predictors)
    return {
        "Ready": _worst(predictor, *around.values(), route, ingress),
        "PredictorReady": predictor,
        "PredictorConfigurationReady": configuration,
        "PredictorRouteReady": predictors,
        **around,
        "RoutesReady": route,
        "IngressReady": ingress,
    }


def _part(state: _State, kind: str) -> _State:
    """The state of one part of a revision; a revision that is a predictor alone has no others."""
    found: _State = state.get("parts", {}).get(kind, state)
    return found


def _configuration(name: str, state: _State) -> Fact:
    """Whether a part of the newest revision is as it should be."""
    if state.get("ready"):
        return _TRUE
    message = str(state.get("message") or _LOADING)
    if state.get("failed"):
        return "False", "RevisionFailed", f"revision {name} failed: {message}"
    return "Unknown", reason_of(state), f"revision {name}: {message}"


def _route(desired: Desired, seen: Mapping[int, _State]) -> Fact:
    """Whether whoever asks is sent to somebody."""
    split = desired.split({number: bool(state.get("ready")) for number, state in seen.items()})
    if all(seen.get(number, {}).get("ready") for number in split):
        return _TRUE
    if all(seen.get(number, {}).get("failed") for number in desired.needed):
        return "False", "RevisionMissing", "no revision is ready to take traffic"
    return "Unknown", "RevisionMissing", "no revision is ready to take traffic yet"


def _worst(*facts: Fact) -> Fact:
    return min(facts, key=lambda fact: _WORST_FIRST.index(fact[0]))


class Journal:
    """Remembers since when something is so, and what happened, for one endpoint.

    Args:
        folder: the endpoint's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / EVENTS
        self._before: _State = states.observed(folder)
        self._events = [one.to_dict() for one in events(folder)]
        self._saved = True
        self._asked: Any = None

    def told(self, desired: Desired, seen: _State, ingress: Fact) -> dict[str, Any]:
        """What was seen with everything that follows from it: conditions, reasons, and times.

        Args:
            desired: the endpoint.
            seen: what `observed.json` says of its revisions.
            ingress: what is so with the gateway.
        """
        if (asked := (desired, seen, ingress)) == self._asked:
            return dict(self._before)
        self._asked = asked
        at = now().isoformat()
        revisions = {
            number: _dated(state, self._before["revisions"].get(number, {}), at)
            for number, state in seen["revisions"].items()
        }
        facts = conditions(desired, revisions, ingress)
        was = {one["type"]: one for one in self._before.get("conditions") or ()}
        made = {
            **seen,
            "revisions": revisions,
            "newest": desired.newest.number,
            "traffic": _traffic(desired, revisions, self._before.get("traffic", "")),
            "conditions": [_condition(name, fact, was.get(name), at) for name, fact in facts.items()],
        }
        for event in changes(desired, self._before, made):
            self._add(*event, at)
        self._before = made
        return made

    def save(self) -> None:
        """Write the events, if there are new ones."""
        if not self._saved:
            write_json(self._file, self._events, mode=0o600)
            self._saved = True

    def _add(self, kind: str, reason: str, message: str, at: str) -> None:
        same = {"type": kind, "reason": reason, "message": message[:_LONGEST]}
        found = next((one for one in self._events if same.items() <= one.items()), None)
        kept = [one for one in self._events if one is not found]
        count, first = (found["count"] + 1, found["first"]) if found else (1, at)
        self._events = [*kept, {**same, "time": at, "count": count, "first": first}][-_KEPT:]
        self._saved = False


def events(folder: Path) -> list[Event]:
    """What happened to the endpoint in the folder, oldest first. A damaged file says nothing."""
    with contextlib.suppress(CorruptStateError, TypeError, ValueError, AttributeError):
        return [Event.from_dict(one) for one in read_json(folder / EVENTS) or ()]
    return []


def changes(desired: Desired, before: _State, after: _State) -> Iterator[tuple[str, str, str]]:
    """Type, reason and message of everything that is so now and was not before."""
    known = int(before.get("newest") or 0)
    for revision in desired.everything:
        if revision.number > known:
            yield "Normal", "RevisionCreated", _made(revision)
    # Older revisions of the same model share its processes, and have nothing of their own to tell.
    for revision in {one.key: one for one in desired.everything}.values():
        number = str(revision.number)
        if number in after["revisions"]:
            was = before["revisions"].get(number, {})
            yield from _of_revision(revision, was, after["revisions"][number])
    if after["traffic"] and after["traffic"] != before.get("traffic"):
        yield "Normal", "TrafficChanged", f"traffic goes to {after['traffic']}"
    was_ready, ready = _ready(before), _ready(after)
    if ready["status"] == was_ready.get("status"):
        return
    if ready["status"] == "True":
        yield "Normal", "InferenceServiceReady", f"{desired.name} is ready"
    elif ready["status"] == "False":
        yield "Warning", "InferenceServiceNotReady", f"{desired.name} is not ready: {ready['message']}"


def _of_revision(revision: Wanted, was: _State, state: _State) -> Iterator[tuple[str, str, str]]:
    reason, earlier = state["reason"], was.get("reason", "Loading")
    if reason == "NoTraffic" != earlier:
        yield "Normal", reason, f"{revision.name} sleeps: nobody asked it"
    elif earlier == "NoTraffic" != reason:
        yield "Normal", "Active", f"{revision.name} was woken by a request"
    elif state["ready"] and not was.get("ready"):
        yield "Normal", "RevisionReady", f"{revision.name} is ready"
    elif _troubled(state) and state["since"] != was.get("since"):
        yield "Warning", reason, f"{revision.name}: {state['message']}"


def _made(revision: Wanted) -> str:
    # A command of others has no files of ours, by which it could be told from another one.
    what = f"sha256:{revision.digest}" if revision.digest else "its command"
    consent = f"; its pickles and code are trusted by consent to {what}"
    made = f"made {revision.name} with {revision.model}/{revision.version}"
    return made + (consent if revision.trusted_by == "consent" else "")


def _traffic(desired: Desired, revisions: Mapping[str, _State], before: str) -> str:
    """Who takes how much, in words; as before while nobody does."""
    ready = {int(number): bool(state.get("ready")) for number, state in revisions.items()}
    split = desired.split(ready)
    if not all(ready.get(number) for number in split):
        return before
    return ", ".join(f"{desired.revision(number).name} {share} %" for number, share in split.items())


def _dated(state: _State, before: _State, at: str) -> dict[str, Any]:
    """A revision's state with its reason, since when it is so, and how often it was in trouble."""
    made = {**state, "reason": reason_of(state)}
    same = all(before.get(key) == made[key] for key in ("reason", "message", "failed"))
    made["since"] = before["since"] if same and before.get("since") else at
    began = _troubled(made) and made["since"] != before.get("since")
    made["restarts"] = int(before.get("restarts") or 0) + bool(began)
    return made


def _troubled(state: _State) -> bool:
    return state["reason"] not in ("", "Loading", "NoTraffic")


def _condition(name: str, fact: Fact, was: _State | None, at: str) -> dict[str, Any]:
    status, reason, message = fact
    since = was["since"] if was is not None and was["status"] == status else at
    return {"type": name, "status": status, "reason": reason, "message": message, "since": since}


def _ready(told: _State) -> _State:
    return next((one for one in told.get("conditions") or () if one["type"] == "Ready"), {})
