"""Widgets for notebooks: a table of runs, metrics while a run trains, drift of an endpoint.

Each is also plain text and plain HTML, for exports, web pages and screen readers.

Example:
    from modelyard_jupyter.widgets import RunTable

    table = RunTable(yard)
    table                       # choose some rows, then
    table.to_frame()
"""

from modelyard_jupyter.widgets.drift_view import DriftView
from modelyard_jupyter.widgets.live_metrics import LiveMetrics
from modelyard_jupyter.widgets.run_table import RunTable

__all__ = ["DriftView", "LiveMetrics", "RunTable"]
