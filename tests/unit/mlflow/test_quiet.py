"""Silence belongs to the whole process: the last of several threads puts everything back."""

from __future__ import annotations

import logging
import threading
import warnings

import pytest

pytest.importorskip("mlflow")


def test_what_two_threads_silenced_is_restored_whichever_ends_first() -> None:
    from modelyard_mlflow.store import quiet

    with quiet():
        pass  # MLflow sets levels of its own when it is imported
    before = warnings.showwarning, list(warnings.filters), logging.getLogger("mlflow").level
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))

    def first() -> None:
        with quiet():
            first_is_in.set()
            assert second_is_in.wait(10)
        first_is_out.set()

    thread = threading.Thread(target=first)
    thread.start()
    assert first_is_in.wait(10)
    with quiet():
        second_is_in.set()
        assert first_is_out.wait(10)
        assert logging.getLogger("mlflow").level == logging.ERROR, "the other one left too early"
    thread.join(10)
    assert (warnings.showwarning, list(warnings.filters), logging.getLogger("mlflow").level) == before
