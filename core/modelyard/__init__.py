"""Modelyard carries a model from a notebook cell to a monitored endpoint.

Example:
    import modelyard

    yard = modelyard.open()
    with yard.run("late-flights", params={"depth": 6}) as run:
        run.log({"auc": 0.71})
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if sys.version_info < (3, 10):  # noqa: UP036 - pip refuses too, a checkout on PYTHONPATH gets this far
    sys.stderr.write("error: modelyard needs Python 3.10 or newer, this is {}.{}\n".format(*sys.version_info))
    raise SystemExit(7)

if TYPE_CHECKING:
    from modelyard.errors import ModelyardError as ModelyardError
    from modelyard.hookspecs import hookimpl as hookimpl
    from modelyard.offers import CheckOffer as CheckOffer
    from modelyard.offers import GateOffer as GateOffer
    from modelyard.offers import Offer as Offer
    from modelyard.stages import Label as Label
    from modelyard.stages import Reference as Reference
    from modelyard.yard import Yard as Yard
    from modelyard.yard import init as init
    from modelyard.yard import open as open

__version__ = "0.1.0"

# Public names are imported on first use: `import modelyard` must cost nothing in a notebook or CLI.
_PUBLIC = {
    "CheckOffer": "modelyard.offers",
    "GateOffer": "modelyard.offers",
    "Label": "modelyard.stages",
    "ModelyardError": "modelyard.errors",
    "Offer": "modelyard.offers",
    "Reference": "modelyard.stages",
    "Yard": "modelyard.yard",
    "hookimpl": "modelyard.hookspecs",
    "init": "modelyard.yard",
    "open": "modelyard.yard",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'modelyard' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
