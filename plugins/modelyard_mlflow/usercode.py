"""What a model brings along of its user's code, and which packages it needs to be loaded."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import pickletools
import re
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

_LOCK = threading.RLock()
_STANDARD_LIBRARY = sysconfig.get_paths()["stdlib"] + os.sep
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


@contextlib.contextmanager
def stored_by_value(root: Path) -> Iterator[None]:
    """Let pickles hold the code of the user's own modules, as they hold that of `__main__`: a server that
    loads the model has no such module, or tomorrow another one of that name."""
    import cloudpickle

    with _LOCK:
        known = set(cloudpickle.list_registry_pickle_by_value())
        added = [module for module in _own_modules(root) if module.__name__ not in known]
        for module in added:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in added:
                cloudpickle.unregister_pickle_by_value(module)


def requirements_of(model: object, *packages: str) -> list[str]:
    """`NAME==VERSION` of these packages, and of those that the pickle of the model mentions: MLflow's own
    inference starts a process for six seconds."""
    wanted = [*packages, *sorted(_mentioned(model) - set(packages))]
    return [f"{name}=={importlib.metadata.version(name)}" for name in _distributions(wanted)]


def _own_modules(root: Path) -> list[ModuleType]:
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    places = [Path.cwd(), root, *([Path(main).absolute().parent] if main else [])]
    homes = tuple({str(place).rstrip(os.sep) + os.sep for place in places})
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name == "__main__" or name.split(".")[0].startswith("modelyard") or not isinstance(file, str):
            continue
        if _is_own(file, homes) and getattr(module, "__name__", None) == name:
            found.append(module)
    return found


def _is_own(file: str, homes: tuple[str, ...]) -> bool:
    """Below a home, but not in an environment there: those are packages, and named as requirements.
    Thousands of modules are asked, hence no `Path`."""
    return (
        file.startswith(homes)
        and file.endswith(".py")
        and not file.startswith(_STANDARD_LIBRARY)
        and f"{os.sep}site-packages{os.sep}" not in file
        and f"{os.sep}dist-packages{os.sep}" not in file
    )


def _mentioned(model: object) -> set[str]:
    """The imported top-level packages that a pickle of the model names."""
    import cloudpickle

    if model is None:
        return set()
    names = set()
    for _, text, _ in pickletools.genops(cloudpickle.dumps(model)):
        if isinstance(text, str):
            # protocol 0 puts module and name into one string, with a space between
            word = text.split(" ")[0]
            if _DOTTED.fullmatch(word) and word in sys.modules:
                names.add(word.split(".")[0])
    return {name for name in names if name not in sys.stdlib_module_names and name != "__main__"}


def _distributions(packages: list[str]) -> list[str]:
    """What is installed under which name; asking for all of them takes a third of a second."""
    found: dict[str, None] = {}
    for package in packages:
        name = {"sklearn": "scikit-learn"}.get(package, package)
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found.update(dict.fromkeys(_all_distributions().get(package, ())))
        else:
            found[name] = None
    return list(found)


def _all_distributions() -> dict[str, Any]:
    return dict(importlib.metadata.packages_distributions())
