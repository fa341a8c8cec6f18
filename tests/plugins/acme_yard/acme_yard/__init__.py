"""Acme's plugin for Modelyard: runs as JSON files in a folder."""

import modelyard


def open_tracker(context):
    from acme_yard.tracker import AcmeTracker

    return AcmeTracker(context.state)


@modelyard.hookimpl
def modelyard_trackers():
    yield modelyard.Offer(name="acme", summary="runs as JSON files", factory=open_tracker)
