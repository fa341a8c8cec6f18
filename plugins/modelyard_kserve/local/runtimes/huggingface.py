"""Transformers' folders: text in, what the pipeline of the model's task says out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelyard_kserve.local.runtimes.base import (
    LoadedModel,
    Spec,
    unloadable,
    untrusted,
    without_probabilities,
)

#: How the class of a model ends -> what it does, as KServe's huggingfaceserver decides it.
_TASKS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
}


def load(folder: Path, *, trusted: bool, probabilities: bool) -> LoadedModel:
    """The model with its tokenizer in a folder; nothing is fetched from anywhere. Weights that are pickles,
    and code beside the model, are loaded if they are trusted."""
    without_probabilities(folder, probabilities)
    config = folder / "config.json"
    if not config.is_file():
        raise unloadable(folder, "it holds no config.json, so transformers did not save it")
    described = json.loads(config.read_text(encoding="utf-8"))
    task = _task(folder, described)
    if not trusted:
        _require_no_code(folder, described)
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch  # noqa: F401 - transformers goes on without it, and fails later in many words
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    place = str(folder)
    code = {"trust_remote_code": trusted}
    tokenizer = transformers.AutoTokenizer.from_pretrained(place, local_files_only=True, **code)
    pipeline = transformers.pipeline(
        task,
        model=place,
        tokenizer=tokenizer,
        model_kwargs={"use_safetensors": None if trusted else True},
        **code,
    )

    def answer(arrays: Mapping[str, Any]) -> dict[str, Any]:
        import numpy as np

        texts = [one.decode() if isinstance(one, bytes) else one for one in arrays["text"].ravel()]
        try:
            said = pipeline(texts)
        except transformers.pipelines.base.PipelineException as fault:
            raise ValueError(str(fault)) from None  # as "no mask_token found on the input"
        made = np.empty(len(texts), dtype=object)
        # One text alone is not always wrapped in a list.
        made[:] = said if len(said) == len(texts) and len(texts) > 1 else _alone(said, texts)
        return {"predictions": made}

    return LoadedModel((), answer, (Spec("text", "BYTES", (-1,)),), (Spec("predictions", "BYTES", (-1,)),))


def _alone(said: Any, texts: list[str]) -> list[Any]:
    wrapped = len(texts) == 1 and isinstance(said, list) and len(said) == 1
    return list(said) if wrapped else [said]


def _task(folder: Path, described: Mapping[str, Any]) -> str:
    classes = described.get("architectures") or []
    for name in classes:
        for ending, task in _TASKS.items():
            if name.endswith(ending):
                return task
    known = ", ".join(_TASKS.values())
    raise unloadable(folder, f"nobody knows what a {', '.join(classes) or 'model'} does; known: {known}")


def _require_no_code(folder: Path, described: Mapping[str, Any]) -> None:
    if described.get("auto_map"):
        raise untrusted(folder, "it brings code of its own")
    if not any(folder.glob("*.safetensors")):
        why = "it holds no *.safetensors: other weights are pickles, which run code when they are loaded"
        raise untrusted(folder, why)
