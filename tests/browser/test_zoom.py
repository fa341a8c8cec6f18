"""At 200 % zoom, which leaves half of the window: nothing is cut off, and every dialog can be used."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import modelyard

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

#: Sections, with what stands in them once they are loaded.
SECTIONS = {
    "Overview": "on target local",
    "Runs": "runs",
    "Data": "winter",
    "Models": "late-flights",
    "Serving": "late-flights",
    "Drift": "columns drifted",
}
WIDER = """() => [...document.querySelectorAll('#modelyard-panel [data-section]')]
    .filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.dataset.section)"""


@pytest.fixture
def lab(open_lab: Callable[..., Any], demo_server: Any) -> Any:
    return open_lab(demo_server, width=640, height=450)


def test_every_section_fits(lab: Any) -> None:
    for name, sentence in SECTIONS.items():
        section = lab.section(name)
        expect(section).to_contain_text(sentence)
        section.scroll_into_view_if_needed()
        lab.shot(f"zoom-{name.lower()}")
    assert lab.page.evaluate(WIDER) == []
    lab.must_be_accessible("#modelyard-panel")


def test_a_promotion_can_be_read_and_made(lab: Any, demo: Path) -> None:
    holder = modelyard.open(demo).registry.alias("late-flights", "production")
    other = "2" if holder == "1" else "1"
    lab.run("modelyard:promote", {"model": "late-flights", "version": other})
    form = lab.page.get_by_role("dialog")
    expect(form.get_by_role("table", name="Gates")).to_be_visible()
    box = form.locator(".jp-Dialog-content").bounding_box()
    assert box["x"] >= 0
    assert box["y"] >= 0
    assert box["x"] + box["width"] <= 640
    assert box["y"] + box["height"] <= 450
    button = form.get_by_role("button", name="Promote", exact=True)
    expect(button).to_be_in_viewport()
    reason = form.get_by_role("textbox", name=re.compile("^Reason"))
    reason.fill("read on half a screen")
    expect(reason).to_be_in_viewport()
    lab.must_be_accessible(".jp-Dialog")
    lab.shot("zoom-promote")
    lab.page.keyboard.press("Escape")
    expect(form).to_have_count(0)
