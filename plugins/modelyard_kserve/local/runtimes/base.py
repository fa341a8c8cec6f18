"""What a loaded model is, and how its file is found."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from modelyard.errors import ConfigError
from modelyard_kserve.trust import CONSENT


@dataclass(frozen=True)
class Column:
    """An input of the model.

    Attributes:
        kind: MLflow's (`double`, `long`, `string`, `boolean`, `array`, `object`, ...).
        items: of an array: the kind of what lies innermost.
        label: what the model's table calls it; pandas' columns without names are numbers.
    """

    name: str
    kind: str
    required: bool = True
    items: str = ""
    label: str | int = ""


@dataclass(frozen=True)
class Spec:
    """An input or output of a model that takes tensors.

    Attributes:
        datatype: V2's (`FP32`, `INT64`, `BYTES`, ...); empty: the model does not say.
        shape: -1 for a size that is free; None: the model does not say.
    """

    name: str
    datatype: str = ""
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory.

    Attributes:
        columns: its inputs by name; empty when it takes one unnamed matrix, or tensors.
        answer: takes a DataFrame (or a matrix) of n rows, gives n answers; with `inputs`, takes and gives
            arrays by name. A `ValueError` is the caller's fault.
        inputs: the tensors that it takes instead of rows.
        outputs: the tensors that it gives; empty: it does not say.
        platform: the format it was loaded as.
        listed: it takes a list of what JSON says instead of a table or an array.
        tables: without `columns`, it takes a DataFrame where callers name theirs, and texts as they are.
        row_by_row: what it answers to a row does not depend on the rows beside it, whoever asked for them.
        params: names of what may be said beside the rows (MLflow's `params`); those that were said are the
            second argument of `answer`, if any were.
    """

    columns: tuple[Column, ...]
    answer: Callable[..., Any]
    inputs: tuple[Spec, ...] = ()
    outputs: tuple[Spec, ...] = ()
    platform: str = "mlflow"
    listed: bool = False
    tables: bool = False
    row_by_row: bool = False
    params: tuple[str, ...] = ()


class Found(NamedTuple):
    """A model's file, and what an MLmodel beside it says."""

    file: Path
    columns: tuple[Column, ...] = ()
    flavor: Mapping[str, Any] = MappingProxyType({})


def found(
    folder: Path, name: str, patterns: Collection[str], *, key: str = "data", besides: Collection[str] = ()
) -> Found:
    """The file of the model in a folder: the one that has such a name, or that MLmodel names.

    Args:
        folder: or the file itself.
        name: of the format, and of MLflow's flavor.
        patterns: what its file may be called.
        key: under which MLflow's flavor names the file.
        besides: names of files that only look like a model.

    Raises:
        ConfigError: `model-unloadable`: it is not exactly one.
    """
    if folder.is_file():
        return Found(folder)
    if (folder / "MLmodel").is_file():
        flavor = described(folder)[name]
        file = folder / flavor[key]
        if not file.resolve().is_relative_to(folder.resolve()):
            raise unloadable(folder, f"its MLmodel names {flavor[key]}, which lies outside of it")
        return Found(file, columns(folder), flavor)
    files = sorted({p for pattern in patterns for p in folder.glob(pattern) if p.is_file()})
    return Found(_one(folder, [file for file in files if file.name not in besides], patterns))


def _one(folder: Path, files: list[Path], patterns: Collection[str]) -> Path:
    if len(files) == 1:
        return files[0]
    names = f" ({', '.join(file.name for file in files[:4])})" if files else ""
    wanted = ", ".join(patterns)
    raise unloadable(folder, f"it holds {len(files)} model files{names}; one of {wanted} is needed")


def versioned(folder: Path, patterns: Collection[str]) -> Path:
    """The subfolder with the highest number, as TensorFlow and Triton lay out models; or the folder itself,
    if there is none with such a file."""
    if folder.is_dir() and not any(next(folder.glob(pattern), None) for pattern in patterns):
        numbered = [path for path in folder.iterdir() if path.name.isdigit() and path.is_dir()]
        return max(numbered, key=lambda path: int(path.name), default=folder)
    return folder


def described(folder: Path) -> dict[str, Any]:
    """The flavors that the MLmodel in a folder describes; none if there is no (readable) one."""
    flavors = mlmodel(folder).get("flavors")
    return flavors if isinstance(flavors, dict) else {}


def mlmodel(folder: Path) -> dict[str, Any]:
    """What the MLmodel in a folder says; nothing if there is no (readable) one."""
    import yaml

    with contextlib.suppress(OSError, ValueError, yaml.YAMLError):
        said = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
        return said if isinstance(said, dict) else {}
    return {}


def columns(folder: Path) -> tuple[Column, ...]:
    """The inputs in the signature of an MLmodel; none if they are tensors."""
    import yaml

    said = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
    inputs = json.loads((said.get("signature") or {}).get("inputs") or "[]")
    if any(item.get("type") == "tensor" or "name" not in item for item in inputs):
        return ()
    return tuple(
        Column(
            str(i["name"]),
            i["type"],
            i.get("required", True),
            innermost(i)[0] if "items" in i else "",
            i["name"],
        )
        for i in inputs
    )


def innermost(described: Mapping[str, Any]) -> tuple[str, int]:
    """Of an array in MLflow's words: the kind of its items, and how deep they lie.

    Example:
        >>> innermost({"type": "array", "items": {"type": "array", "items": {"type": "float"}}})
        ('float', 2)
    """
    depth = 0
    while described["type"] == "array":
        described, depth = described["items"], depth + 1
    return described["type"], depth


def unloadable(path: Path, why: str) -> ConfigError:
    """`model-unloadable`, in one sentence."""
    return ConfigError(
        "model-unloadable",
        f"{path.name} can't be loaded: {why}",
        "register the model, or see [providers.kserve]",
    )


def untrusted(path: Path, why: str) -> ConfigError:
    """`model-unloadable`: it would run code, and nobody answers for it."""
    return unloadable(path, f"{why}, and it does not come from the registry; {CONSENT}")


def without_probabilities(path: Path, probabilities: bool) -> None:
    """Refuse `PREDICT_PROBA` for a format that has no such thing."""
    if probabilities:
        raise unloadable(
            path, "PREDICT_PROBA is for scikit-learn's models; take it out of the InferenceService"
        )
