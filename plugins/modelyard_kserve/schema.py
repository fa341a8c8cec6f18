"""The fields of an InferenceService, read from the kserve SDK's own model classes.

Importing kserve costs seconds and reads the host program's command line; its generated classes
state their fields as literal dictionaries, so these are read from the source files, each when
a manifest reaches it.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from modelyard.errors import MissingRequirementError
from modelyard_kserve.documents import Level, Place, Said

_PLAIN: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
    "datetime": (str,),
}


#: Amounts (`cpu: 2`), which the API takes as numbers too, and the SDK calls texts.
_AMOUNTS = ("V1ResourceRequirements", "V1VolumeResourceRequirements")

#: What an object's fields are often forgotten to stand below: the field and its type.
_BELOW = {
    "V1beta1InferenceService": ("spec", "V1beta1InferenceServiceSpec"),
    "V1beta1InferenceServiceSpec": ("predictor", "V1beta1PredictorSpec"),
    "V1beta1PredictorSpec": ("model", "V1beta1ModelSpec"),
    "V1alpha1InferenceGraph": ("spec", "V1alpha1InferenceGraphSpec"),
}
_NEWER = ("is newer than KServe 0.21, which drops it without a word", "")
_CONTAINERS = (
    "is a kind of explainer that KServe gave up",
    "write it as a container: explainer.containers",
)
_STEPS = ("is of a KServe before 0.9; nodes have steps", "steps: [{serviceName: NAME}]")
#: Fields of KServe's own examples that the SDK does not describe: level, and message with hint.
_OTHERS: dict[tuple[str, str], tuple[Level, tuple[str, str]]] = {
    ("V1beta1AutoScalingSpec", "keda"): ("warning", _NEWER),
    ("V1beta1MetricsSpec", "name"): ("warning", _NEWER),
    ("V1beta1PredictorSpec", "catboost"): ("error", (_NEWER[0], "model: {modelFormat: {name: catboost}}")),
    ("V1beta1ExplainerSpec", "alibi"): ("error", _CONTAINERS),
    ("V1beta1ExplainerSpec", "aix"): ("error", _CONTAINERS),
    ("V1beta1ExplainerSpec", "model"): ("error", ("is for predictors alone", _CONTAINERS[1])),
    ("V1alpha1InferenceRouter", "routes"): ("error", _STEPS),
    ("V1alpha1InferenceRouter", "nextRoutes"): ("error", _STEPS),
}


def faults(value: Any, kind: str, path: Place = ()) -> Iterator[Said]:
    """Everything in the value that does not fit the SDK's type `kind`, outermost first.

    Args:
        value: what YAML gave.
        kind: a type as the SDK writes it: `str`, `list[V1Container]`, `dict(str, str)`, a class.
        path: where the value lies.
    """
    if value is None:
        return
    if kind.startswith(("list[", "List[")):
        yield from _list_faults(value, kind[5:-1], path)
    elif kind.startswith(("dict(", "Dict[")):
        yield from _dict_faults(value, kind[5:-1].split(", ", 1)[1], path)
    elif kind in _PLAIN:
        if not isinstance(value, _PLAIN[kind]) or (isinstance(value, bool) and kind != "bool"):
            yield Said(path, f"{value!r:.60} is not {_article(kind)}")
    elif kind != "object":
        yield from _class_faults(value, kind, path)


def _list_faults(value: Any, kind: str, path: Place) -> Iterator[Said]:
    if not isinstance(value, list):
        yield Said(path, f"{value!r:.60} is not a list")
        return
    for number, item in enumerate(value):
        if item is None:
            yield Said((*path, number), "is empty")
        yield from faults(item, kind, (*path, number))


def _dict_faults(value: Any, kind: str, path: Place) -> Iterator[Said]:
    if not isinstance(value, dict):
        yield Said(path, f"{value!r:.60} is not a mapping")
        return
    for key, item in value.items():
        yield from faults(item, kind, (*path, str(key)))


def _class_faults(value: Any, kind: str, path: Place) -> Iterator[Said]:
    fields = fields_of(kind)
    if fields is None:
        return  # a type that neither SDK describes (a quantity, say): the cluster will judge it
    if not isinstance(value, dict):
        yield Said(path, f"{value!r:.60} is not a mapping")
        return
    for key, item in value.items():
        if (kind, key) in _OTHERS:
            level, (message, hint) = _OTHERS[kind, key]
            yield Said((*path, str(key)), message, level, hint)
        elif key not in fields and (above := _above(kind, key)):
            yield Said((*path, str(key)), f"unknown field; it belongs below '{above}'")
        elif key not in fields:
            spelt = {name.lower(): name for name in fields}
            near = difflib.get_close_matches(str(key).lower(), spelt, n=1, cutoff=0.5)
            meant = (
                f"; did you mean '{spelt[near[0]]}'?"
                if near
                else f"; known: {', '.join(sorted(fields))[:200]}"
            )
            yield Said((*path, str(key)), f"unknown field{meant}")
        else:
            amounts = kind in _AMOUNTS and key in ("limits", "requests")
            wanted = "dict(str, object)" if amounts else fields[key]
            yield from faults(item, wanted, (*path, str(key)))


def _above(kind: str, key: Any) -> str:
    """The field below which somebody forgot to write one; empty: it is none of those."""
    field, below = _BELOW.get(kind, ("", ""))
    if not below:
        return ""
    if key in (fields_of(below) or {}):
        return field
    further = _above(below, key)
    return f"{field}.{further}" if further else ""


@cache
def fields_of(kind: str) -> dict[str, str] | None:
    """Field name in YAML -> type of a class of the kserve or kubernetes SDK; None: neither has it."""
    for folder in _folders():
        file = folder / f"{_snake(kind)}.py"
        if file.is_file():
            return _read(file)
    return None


def _read(file: Path) -> dict[str, str]:
    literals: dict[str, dict[str, str]] = {}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        # The generators of the two SDKs differ: plain and annotated assignments.
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        name = target.id if isinstance(target, ast.Name) else ""
        if name in ("openapi_types", "attribute_map") and isinstance(node, (ast.Assign, ast.AnnAssign)):
            literals[name] = ast.literal_eval(node.value) if node.value else {}
    return {literals["attribute_map"][name]: kind for name, kind in literals["openapi_types"].items()}


@cache
def _folders() -> tuple[Path, ...]:
    found = []
    for package, inside in (("kserve", "models"), ("kubernetes", "client/models")):
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise MissingRequirementError(
                "extra-missing",
                f"reading InferenceServices needs {package}",
                "pip install 'modelyard[kserve]'",
            )
        found.append(Path(next(iter(spec.submodule_search_locations))) / inside)
    return tuple(found)


def _snake(name: str) -> str:
    """The file name that the SDKs' generator gives a class."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()


def _article(kind: str) -> str:
    return {"int": "an integer", "float": "a number", "str": "text", "bool": "true or false"}.get(kind, kind)
