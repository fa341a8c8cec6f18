"""Yields something else than offers."""

import modelyard


@modelyard.hookimpl
def modelyard_trackers():
    yield {"name": "dict", "factory": None}
