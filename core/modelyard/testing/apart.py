"""Opens a provider in a process of its own: `python -m modelyard.testing.apart JSON`."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from functools import reduce
from pathlib import Path
from typing import Any

from modelyard.offers import Offer
from modelyard.stages import StageContext
from modelyard.testing.contexts import make_context

#: The exit status when the other process can't import the factory, e.g. because a test defines it.
NOT_IMPORTABLE = 77


def open_apart(offer: Offer[Any], context: StageContext, method: str) -> subprocess.Popen[str]:
    """Start a process that opens the provider on the same state and calls a method without arguments."""
    settings = context.settings
    wanted = {
        "factory": _name_of(offer.factory),
        "settings": settings and [_name_of(type(settings)), settings.model_dump(mode="json")],
        "root": str(context.root),
        "provider": offer.name,
        "method": method,
        "path": sys.path,
    }
    command = [sys.executable, "-m", "modelyard.testing.apart", json.dumps(wanted)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _name_of(thing: Any) -> list[str]:
    return [thing.__module__, thing.__qualname__]


def _found(name: list[str]) -> Any:
    return reduce(getattr, name[1].split("."), importlib.import_module(name[0]))


def _main(wanted: dict[str, Any]) -> int:
    sys.path[:] = wanted["path"]
    try:
        factory = _found(wanted["factory"])
        settings = wanted["settings"] and _found(wanted["settings"][0])(**wanted["settings"][1])
    except (ImportError, AttributeError):
        return NOT_IMPORTABLE
    context = make_context(Path(wanted["root"]), provider=wanted["provider"], settings=settings)
    getattr(factory(context), wanted["method"])()
    return 0


if __name__ == "__main__":
    sys.exit(_main(json.loads(sys.argv[1])))
