"""Misspells a hook."""

import modelyard


@modelyard.hookimpl
def modelyard_trackerz():
    yield modelyard.Offer(name="nasty", summary="never seen", factory=lambda context: None)
