"""Claims a name that is taken."""

import modelyard


@modelyard.hookimpl
def modelyard_trackers():
    yield modelyard.Offer(name="mlflow", summary="a better one, honestly", factory=lambda context: None)
