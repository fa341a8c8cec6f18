"""Takes two seconds to import, and then offers nothing bad."""

import time

import modelyard

time.sleep(2)


@modelyard.hookimpl
def modelyard_trackers():
    yield modelyard.Offer(name="slow", summary="late but fine", factory=lambda context: None)
