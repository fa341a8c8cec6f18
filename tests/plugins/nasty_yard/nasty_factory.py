"""Its factory raises something that is no ModelyardError."""

import modelyard


def open_tracker(context):
    return {}["tracker"]


@modelyard.hookimpl
def modelyard_trackers():
    yield modelyard.Offer(name="raising", summary="raises when opened", factory=open_tracker)
