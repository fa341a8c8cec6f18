"""Has every method, and fails in the middle of the work."""

import modelyard


class FailingTracker:
    def __getattr__(self, name):
        def fail(*args, **kwargs):
            raise ZeroDivisionError(f"nobody thought of this in {name}")

        return fail


@modelyard.hookimpl
def modelyard_trackers():
    yield modelyard.Offer(name="failing", summary="fails later", factory=lambda context: FailingTracker())
