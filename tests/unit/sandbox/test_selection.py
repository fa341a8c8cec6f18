"""Which components a sandbox holds, and in which order they come."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.components import Component
from modelyard.errors import ModelyardError, UsageError
from modelyard_sandbox.order import Stopped, by_urgency, in_order, needs_of
from modelyard_sandbox.selection import chosen, requests


def part(name: str, **more: Any) -> Component:
    return Component(name=name, summary="", version="1", objects=lambda site: (), **more)


PARTS = {
    p.name: p
    for p in (
        part("db", profiles=("minimal", "full")),
        part("app", profiles=("minimal", "full"), requires=("db",)),
        part("mesh", profiles=("full",)),
        part("serve", profiles=("minimal", "full"), after=("mesh",)),
        part("extra", requires=("app",)),
    )
}


def names(profile: str, with_: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> list[str]:
    return [component.name for component in chosen(PARTS, profile, with_, without)]


def test_a_profile_holds_its_components_each_after_what_it_requires() -> None:
    assert names("minimal") == ["db", "app", "serve"]
    assert names("full") == ["db", "app", "mesh", "serve"]


def test_what_is_added_brings_what_it_requires() -> None:
    assert names("minimal", ("extra",)) == ["db", "app", "serve", "extra"]


def test_what_others_only_come_after_may_be_left_out() -> None:
    assert names("full", without=("mesh",)) == ["db", "app", "serve"]


def test_what_is_required_can_not_be_left_out_alone() -> None:
    with pytest.raises(UsageError, match="'app' can't be without 'db'") as fault:
        names("minimal", without=("db",))
    assert fault.value.hint == "leave out both: --without db --without app"
    assert names("minimal", without=("db", "app")) == ["serve"]


def test_a_mistyped_component_is_said_with_the_one_that_was_meant() -> None:
    with pytest.raises(UsageError, match="did you mean 'serve'"):
        names("minimal", ("server",))
    with pytest.raises(UsageError, match="there is no profile 'huge'"):
        names("huge")


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 512)), max_size=5), st.integers(0, 3))
def test_requests_are_summed_over_containers_and_replicas(pods: list[tuple[int, int]], replicas: int) -> None:
    containers = [{"resources": {"requests": {"cpu": f"{c}m", "memory": f"{m}Mi"}}} for c, m in pods]
    manifest = {
        "kind": "Deployment",
        "spec": {"replicas": replicas, "template": {"spec": {"containers": containers}}},
    }
    cpus, memory = requests([manifest, {"kind": "ConfigMap"}])
    assert cpus == pytest.approx(replicas * sum(c for c, _ in pods) / 1000)
    assert memory == replicas * sum(m for _, m in pods) * 2**20


# -- the order ------------------------------------------------------------------------------------


def test_what_most_others_wait_for_comes_first() -> None:
    assert [component.name for component in by_urgency(PARTS.values())][:2] == ["db", "app"]
    assert needs_of(chosen(PARTS, "full", (), ()))["serve"] == {"mesh"}


def test_each_begins_when_what_it_needs_is_done_and_the_others_do_not_wait() -> None:
    ended: dict[str, float] = {}
    began: dict[str, float] = {}
    served = threading.Event()

    def bring(component: Component) -> None:
        began[component.name] = time.monotonic()
        if component.name == "db" and not served.wait(60):
            pytest.fail("who does not need it waits for it")
        ended[component.name] = time.monotonic()
        if component.name == "serve":
            served.set()

    in_order(chosen(PARTS, "full", (), ()), bring, threading.Event())
    assert began["app"] >= ended["db"]
    assert began["serve"] >= ended["mesh"]
    assert ended["serve"] < ended["db"]


def test_the_first_fault_ends_the_others_after_their_step() -> None:
    stop, done = threading.Event(), []

    def bring(component: Component) -> None:
        if component.name == "db":
            raise ModelyardError("broken", "it is broken")
        if not stop.wait(60):
            pytest.fail("nobody was told to stop")
        done.append(component.name)
        raise Stopped()

    with pytest.raises(ModelyardError, match="it is broken"):
        in_order(chosen(PARTS, "full", (), ()), bring, stop)
    assert done == ["mesh"], "what needs the broken one never begins"
