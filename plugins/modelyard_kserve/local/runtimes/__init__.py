"""What loads models: one module for each of KServe's `modelFormat`s, and the table of them.

Each module has one function, `load(folder, trusted=..., probabilities=...)`. Nothing heavy is imported to
read the table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from modelyard.errors import ModelyardError
from modelyard_kserve.local.resources import in_words
from modelyard_kserve.local.runtimes.base import Column, LoadedModel, Spec, described, unloadable
from modelyard_kserve.local.runtimes.frames import frame

__all__ = ["FORMATS", "RUNTIMES", "Column", "LoadedModel", "Runtime", "Spec", "forked_as", "frame", "load"]


@dataclass(frozen=True)
class Runtime:
    """How models of a format are loaded.

    Attributes:
        files: what the model is in its folder: exactly one file has one of these names.
        library: the module that loads it.
        package: what pip installs.
        forked: what is imported once for all models of the format. Empty: the library starts threads when it
            is imported, and a process with threads can't be forked safely.
    """

    files: tuple[str, ...]
    library: str
    package: str
    forked: tuple[str, ...] = ()


RUNTIMES = {
    "mlflow": Runtime(("MLmodel",), "mlflow", "mlflow", ("mlflow.pyfunc", "sklearn.pipeline")),
    "sklearn": Runtime(
        ("*.skops", "*.joblib", "*.pkl", "*.pickle"),
        *("sklearn", "scikit-learn"),
        (*("sklearn.pipeline", "sklearn.ensemble", "sklearn.linear_model", "sklearn.compose"), "skops.io"),
    ),
    "xgboost": Runtime(("*.bst", "*.json", "*.ubj"), "xgboost", "xgboost", ("xgboost",)),
    "lightgbm": Runtime(("*.bst", "*.txt"), "lightgbm", "lightgbm", ("lightgbm",)),
    "onnx": Runtime(("*.onnx",), "onnxruntime", "onnxruntime"),
    "pytorch": Runtime(("*.pt2", "*.pt", "*.pth"), "torch", "torch", ("torch",)),
    "tensorflow": Runtime(("saved_model.pb", "*.keras"), "tensorflow", "tensorflow"),
    "huggingface": Runtime(
        ("config.json",), "transformers", "transformers torch", ("torch", "transformers.pipelines")
    ),
}
#: Names that files of any kind have; nothing is guessed from them.
_OF_ANYTHING = ("*.json", "*.txt")
#: Formats that are read out of MLflow's folders, too, without MLflow.
_WITHOUT_MLFLOW = ("sklearn", "xgboost", "lightgbm", "onnx")
#: What `modelFormat` may say.
FORMATS = tuple(sorted(RUNTIMES))


def load(
    folder: Path, *, model_format: str = "", trust_pickle: bool, probabilities: bool = False
) -> LoadedModel:
    """Load the model in a folder.

    Args:
        folder: what `storageUri` names: a folder, or a single file.
        model_format: one of `FORMATS`; empty: what its files look like.
        trust_pickle: pickles and the model's own code may be loaded: it came from the registry with its
            recorded digest, or somebody said so.
        probabilities: answer with class probabilities (`PREDICT_PROBA=true`).

    Raises:
        ModelyardError: `model-unloadable`, in one sentence.
    """
    try:
        name = model_format or _guessed(folder) or "sklearn"
        if name not in RUNTIMES:
            raise unloadable(folder, f"{name!r} is not served here; known: {', '.join(FORMATS)}")
        _require_format(folder, name)
        module = import_module(f"{__name__}.{name}")
        model: LoadedModel = module.load(folder, trusted=trust_pickle, probabilities=probabilities)
        return replace(model, platform=name, answer=_labelled(model))
    except ModelyardError:
        raise
    except ModuleNotFoundError as fault:
        raise _missing(folder, fault) from fault
    except MemoryError as fault:
        raise unloadable(folder, in_words(fault)) from fault
    except Exception as fault:
        said = " ".join(str(fault).partition("Stack trace")[0].split())[:400]
        raise unloadable(folder, f"{type(fault).__name__}: {said}{_made_with(folder)}") from fault


def _labelled(model: LoadedModel) -> Callable[..., Any]:
    """The model's answer to a table whose columns are called as in requests, where all names are texts."""
    labels = [column.label for column in model.columns]
    if not any(isinstance(label, int) for label in labels):
        return model.answer
    return lambda rows, *params: model.answer(rows.set_axis(labels, axis=1), *params)


def forked_as(model_format: str, folder: Path) -> str | None:
    """The format whose fork server a model comes out of; None: it needs a process of its own."""
    name = model_format or _guessed(folder) or "sklearn"
    if name in ("mlflow", "sklearn"):
        flavor = described(folder).get("sklearn")
        plain = name == "sklearn" or (flavor and not flavor.get("code"))
        name = "sklearn" if plain else "mlflow"
    runtime = RUNTIMES.get(name)
    return name if runtime and runtime.forked and find_spec(runtime.library) else None


def _require_format(folder: Path, name: str) -> None:
    """Nothing of the format, but something of another one, is a slip in the file."""
    if folder.is_dir() and name != "mlflow" and (folder / "MLmodel").is_file():
        if name not in _WITHOUT_MLFLOW or name not in described(folder):
            raise unloadable(folder, f"its MLmodel describes no {name} model; say modelFormat mlflow")
        return
    looks = _guessed(folder)
    if looks and looks != name and not _matches(folder, name):
        wanted = ", ".join(RUNTIMES[name].files)
        raise unloadable(
            folder, f"no {name} model ({wanted}) is in it; it looks like {looks}: say so in modelFormat"
        )


def _guessed(folder: Path) -> str | None:
    return next((name for name in RUNTIMES if _matches(folder, name, but=_OF_ANYTHING)), None)


def _matches(folder: Path, name: str, but: Collection[str] = ()) -> bool:
    patterns = [pattern for pattern in RUNTIMES[name].files if pattern not in but]
    if folder.is_file():
        return any(folder.match(pattern) for pattern in patterns)
    # TensorFlow and Triton look for versions in folders that are named 1, 2, ...
    deeper = [f"[0-9]*/{pattern}" for pattern in patterns] if name in ("tensorflow", "onnx") else []
    return any(next(folder.glob(pattern), None) is not None for pattern in (*patterns, *deeper))


def _made_with(folder: Path) -> str:
    """Other versions than the model's are why many can't be loaded."""
    from modelyard_kserve.local.environments import differences

    said = differences(folder) if folder.is_dir() else ""
    return f"; it was made with {said}" if said else ""


def _missing(folder: Path, fault: ModuleNotFoundError) -> ModelyardError:
    """Names what pip installs, for a library that we know."""
    lacking = (fault.name or "").partition(".")[0]
    package = next((r.package for r in RUNTIMES.values() if r.library == lacking), None)
    if package is None:
        return unloadable(folder, f"{type(fault).__name__}: {fault}")
    return unloadable(folder, f"{lacking} is not installed: pip install {package}")
