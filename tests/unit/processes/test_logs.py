"""What services write: appended, headed, turned over, tailed and followed."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from modelyard.processes import ProcessServices
from modelyard.stages import ServiceSpec

Make = Callable[..., ServiceSpec]


@pytest.fixture
def log(state: Path) -> Path:
    file = state / "logs" / "web.log"
    file.parent.mkdir()
    return file


def test_each_start_and_stop_leaves_a_line_and_old_output_stays(
    services: ProcessServices, sleep: Make
) -> None:
    awake: list[str] = []
    for _ in range(2):
        services.start(sleep())
        awake.append("awake")
        deadline = time.monotonic() + 60
        while [line for line in services.logs("web") if line == "awake"] != awake:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        services.stop("web")
    kinds = [line.split()[2] if line.startswith("---") else line for line in services.logs("web")]
    assert kinds == ["starting", "awake", "stopped"] * 2


def test_a_log_over_ten_megabytes_is_turned_over_at_the_next_start(
    services: ProcessServices, sleep: Make, log: Path
) -> None:
    log.write_bytes(b"x" * 99 + b"\n")
    services.start(sleep())
    services.stop("web")
    assert log.read_bytes().startswith(b"xxx")
    log.write_bytes(b"old\n" * 2_600_000)
    services.start(sleep())
    assert log.stat().st_size < 1000
    assert (log.parent / "web.log.1").stat().st_size == 4 * 2_600_000


@pytest.mark.parametrize(
    ("content", "lines", "expected"),
    [
        ("a\nb\nc\n", 2, ["b", "c"]),
        ("a\nb\nc", 2, ["b", "c"]),
        ("a\n\nc\n", 2, ["", "c"]),
        ("a\n", 5, ["a"]),
        ("a\n", 1, ["a"]),
        ("a\nb\n", 0, []),
        ("", 3, []),
        ("y" * 50_000 + "\nb\n", 2, ["y" * 50_000, "b"]),
        ("\n".join(str(n) for n in range(100_000)), 3, ["99997", "99998", "99999"]),
    ],
)
def test_the_last_lines_are_read_whole(
    services: ProcessServices, log: Path, content: str, lines: int, expected: list[str]
) -> None:
    log.write_text(content)
    assert list(services.logs("web", lines=lines)) == expected


def test_bytes_that_are_no_text_do_not_hinder(services: ProcessServices, log: Path) -> None:
    log.write_bytes(b"a\xff\nb\n")
    assert list(services.logs("web")) == ["a�", "b"]


def test_a_service_without_a_log_has_no_lines(services: ProcessServices) -> None:
    assert list(services.logs("web")) == []


def test_following_gives_whole_lines_and_goes_on_in_a_new_log(services: ProcessServices, log: Path) -> None:
    log.write_text("a\nb\nc\nhal")

    following = services.follow("web", lines=3)
    assert list(islice(following, 2)) == ["b", "c"]
    with log.open("a") as file:
        file.write("f\nd\n")
    assert list(islice(following, 2)) == ["half", "d"]
    log.replace(log.parent / "web.log.1")
    log.write_text("new\n")
    assert next(following) == "new"
