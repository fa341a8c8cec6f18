"""PyTorch models that bring their code along: TorchScript (.pt, .pth) and torch.export's programs (.pt2)."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelyard_kserve.local.runtimes.base import (
    LoadedModel,
    Spec,
    found,
    unloadable,
    untrusted,
    without_probabilities,
)
from modelyard_kserve.local.tensors import datatype_named

_FILES = ("*.pt2", "*.pt", "*.pth")
#: What PyTorch says about inputs that do not fit; everything else that it raises is the model's fault.
_MISFIT = re.compile(r"shape|size|dtype|expected|dimension|out of range|must match|same type", re.IGNORECASE)


def load(folder: Path, *, trusted: bool, probabilities: bool) -> LoadedModel:
    """The one model in a folder. Pickles are loaded if they are trusted: whole modules, and programs of
    torch.export, whose archives hold pickles."""
    import torch

    without_probabilities(folder, probabilities)
    file, _, _ = found(folder, "pytorch", _FILES)
    if file.suffix != ".pt2" and _is_script(file):
        script = torch.jit.load(str(file), map_location=_device(torch)).eval()
        return LoadedModel((), _answer(torch, script, names := _arguments(script)), _untyped(names))
    if not trusted:
        why = "it holds pickles, which run code when they are loaded (files of torch.jit.save do not)"
        raise untrusted(file, why)
    if file.suffix == ".pt2":
        program = torch.export.load(str(file))
        inputs = _exported(program)
        return LoadedModel((), _answer(torch, program.module(), [one.name for one in inputs]), inputs)
    module = torch.load(str(file), map_location=_device(torch), weights_only=False)
    if not isinstance(module, torch.nn.Module):
        raise unloadable(file, "it holds weights without a model; save the model with torch.jit.save")
    return LoadedModel((), _answer(torch, module.eval(), ["input"]), _untyped(["input"]))


def _is_script(file: Path) -> bool:
    """TorchScript's archives hold the model's code beside its weights."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.split("/")[1:2] == ["code"] for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _device(torch: Any) -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _arguments(script: Any) -> list[str]:
    """The names that `forward` gives its inputs; those with a default need not be sent."""
    needed = [a for a in script.forward.schema.arguments[1:] if not a.has_default_value()]
    return [argument.name for argument in needed]


def _untyped(names: Sequence[str]) -> tuple[Spec, ...]:
    return tuple(Spec(name) for name in names)


def _exported(program: Any) -> tuple[Spec, ...]:
    """The inputs with the types and shapes that the program was exported with."""
    nodes = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
    values = [(name, nodes[name]) for name in program.graph_signature.user_inputs]
    return tuple(
        Spec(
            name,
            datatype_named(str(value.dtype).removeprefix("torch.")),
            tuple(size if isinstance(size, int) else -1 for size in value.shape),
        )
        for name, value in values
    )


def _answer(torch: Any, module: Any, names: Sequence[str]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    device = _device(torch)

    def answer(arrays: Mapping[str, Any]) -> dict[str, Any]:
        given = [torch.from_numpy(arrays[name].copy()).to(device) for name in names]
        try:
            with torch.inference_mode():
                made = module(*given)
        except (RuntimeError, AssertionError) as fault:
            said = str(fault).strip().splitlines()[-1].removeprefix("RuntimeError: ")
            raise ValueError(said) if _MISFIT.search(said) else RuntimeError(said) from None
        return _named(made)

    return answer


def _named(made: Any) -> dict[str, Any]:
    """What a module returned: one tensor, several, or some by name."""
    if isinstance(made, Mapping):
        return {str(name): value.cpu().numpy() for name, value in made.items()}
    if isinstance(made, (tuple, list)):
        return {f"output_{number}": value.cpu().numpy() for number, value in enumerate(made)}
    return {"output": made.cpu().numpy()}
