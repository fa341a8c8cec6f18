"""Its factory returns something else than a tracker."""

import modelyard


class HalfATracker:
    def start(self, name, context, *, parent=None):
        return None

    def runs(self, *, name=None, limit=50):
        return []


@modelyard.hookimpl
def modelyard_trackers():
    yield modelyard.Offer(name="half", summary="half a tracker", factory=lambda context: HalfATracker())
