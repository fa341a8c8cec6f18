"""Models of PyTorch, TensorFlow and transformers, which `.ci/libraries` puts into a folder of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.errors import ModelyardError

_HOME = Path(os.environ.get("MODELYARD_TEST_REAL_HOME") or Path.home())
LIBRARIES = Path(os.environ.get("MODELYARD_TEST_LIBRARIES") or _HOME / ".cache" / "modelyard-libraries")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (LIBRARIES / "stamp").exists(), reason="needs .ci/libraries"),
]

TORCH = """
import torch
class Both(torch.nn.Module):
    def forward(self, left, right):
        return {"sum": left + right, "product": left * right}
line = torch.nn.Linear(2, 1, dtype=torch.float32)
with torch.no_grad():
    line.weight.copy_(torch.tensor([[2.0, -1.0]])); line.bias.fill_(0.5)
torch.jit.save(torch.jit.script(line), "line/model.pt") if make("line") else None
torch.jit.save(torch.jit.script(Both()), "both/model.pt") if make("both") else None
torch.save(line, "eager/model.pt") if make("eager") else None
torch.save(line.state_dict(), "weights/model.pt") if make("weights") else None
rows = torch.export.Dim("rows", min=1)
torch.export.save(
    torch.export.export(line, (torch.zeros(3, 2),), dynamic_shapes=({0: rows},)), "exported/model.pt2"
) if make("exported") else None
"""
TENSORFLOW = """
import numpy as np, tensorflow as tf
class Both(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="left"),
                                  tf.TensorSpec([None, 2], tf.float32, name="right")])
    def both(self, left, right):
        return {"sum": left + right, "product": left * right}
both = Both()
make("saved")
tf.saved_model.save(both, "saved/3", signatures={"serving_default": both.both})
make("unsigned")
tf.saved_model.save(tf.Module(), "unsigned/1")
net = tf.keras.Sequential([tf.keras.Input((2,), name="x"), tf.keras.layers.Dense(1, name="y")])
net.layers[-1].set_weights([np.array([[2.0], [-1.0]]), np.array([0.5])])
make("keras")
net.save("keras/model.keras")
code = tf.keras.Sequential([tf.keras.Input((2,)), tf.keras.layers.Lambda(lambda x: x * 2)])
make("lambda")
code.save("lambda/model.keras")
"""
TRANSFORMERS = """
import torch, transformers
from transformers import BertConfig, BertTokenizerFast
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "late", "flight", "on", "time", "."]
torch.manual_seed(0)
size = dict(vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=16, max_position_embeddings=512)
def save(name, cls, config):
    make(name)
    open("vocab.txt", "w").write("\\n".join(words))
    BertTokenizerFast("vocab.txt").save_pretrained(name)
    cls(config).save_pretrained(name)
labels = dict(id2label={0: "on time", 1: "late"}, label2id={"on time": 0, "late": 1})
save("classes", transformers.BertForSequenceClassification, BertConfig(**size, **labels))
save("tokens", transformers.BertForTokenClassification, BertConfig(**size, **labels))
save("masks", transformers.BertForMaskedLM, BertConfig(**size))
save("words", transformers.BertLMHeadModel, BertConfig(**size, is_decoder=True))
save("pickled", transformers.BertForMaskedLM, BertConfig(**size))
import os
os.remove("pickled/model.safetensors")
torch.save({}, "pickled/pytorch_model.bin")
"""
MAKE = "import os\nfrom pathlib import Path\ndef make(name):\n    Path(name).mkdir(); return True\n"


@pytest.fixture(scope="module")
def big(new_project: Callable[[], Any]) -> Iterator[Any]:
    """A project whose processes find the libraries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(LIBRARIES))
        yield new_project()


def made(folder: Path, code: str) -> Path:
    env = {**os.environ, "PYTHONPATH": str(LIBRARIES), "TF_CPP_MIN_LOG_LEVEL": "2"}
    (folder / "make.py").write_text(MAKE + code)  # TorchScript reads the source
    said = subprocess.run(
        [sys.executable, "make.py"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert said.returncode == 0, said.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("torch"), TORCH)


@pytest.fixture(scope="module")
def tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("tensorflow"), TENSORFLOW)


@pytest.fixture(scope="module")
def transformers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("transformers"), TRANSFORMERS)


@pytest.fixture
def serve(big: Any, post: Callable[..., Any]) -> Iterator[Callable[..., Callable[..., Any]]]:
    """Serve a folder; gives what asks it. The endpoint is gone after the test: these are large."""
    names = []

    def served(folder: Path, format_: str) -> Callable[..., Any]:
        name = f"{format_}-{folder.name}"
        url = big.apply(name, str(folder), modelFormat={"name": format_}).url
        names.append(name)

        def ask(**body: Any) -> Any:
            path = f"/v1/models/{name}:predict" if "instances" in body else f"/v2/models/{name}/infer"
            status, _, text = post(url, path, json.dumps(body).encode())
            said = json.loads(text)
            return said.get("predictions", said.get("outputs")) if status == 200 else (status, said["error"])

        return ask

    yield served
    for name in names:
        big.server.delete(name)


def refused(big: Any, folder: Path, format_: str) -> str:
    name = f"refused-{format_}"
    with pytest.raises(ModelyardError) as caught:
        big.apply(name, str(folder), modelFormat={"name": format_})
    assert caught.value.code == "revision-failed"
    message: str = caught.value.message
    big.server.delete(name)
    assert "\n" not in message
    return message


LOAD = """
import sys
from pathlib import Path
import numpy as np
from modelyard.errors import ModelyardError
from modelyard_kserve.local.runtimes import load
for name in sys.argv[2:]:
    try:
        model = load(Path(name.strip("+")), model_format=sys.argv[1], trust_pickle=name[0] == "+")
        said = model.answer({one.name: np.ones((2, 2), np.float32) for one in model.inputs})
        print([(one, *(v.ravel().tolist() for v in said.values())) for one in model.inputs])
    except ModelyardError as fault:
        print(fault.message.partition(",")[0].partition("; its")[0])
"""


def loaded(folder: Path, format_: str, *names: str) -> list[str]:
    """What models answer when both inputs are ones, or why they can't be loaded; `+` trusts them."""
    said = subprocess.run(
        [sys.executable, "-c", LOAD, format_, *names],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(LIBRARIES)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert said.returncode == 0, said.stderr[-2000:]
    return said.stdout.splitlines()


def tensor(name: str, rows: list[list[float]], datatype: str = "FP32") -> dict[str, Any]:
    shape = [len(rows), len(rows[0])]
    return {"name": name, "shape": shape, "datatype": datatype, "data": [v for row in rows for v in row]}


BOTH = [{"left": [1, 2], "right": [3, 4]}, {"left": [0, -1], "right": [5, 6]}]
ANSWERS = [{"sum": [4.0, 6.0], "product": [3.0, 8.0]}, {"sum": [5.0, 5.0], "product": [0.0, -6.0]}]


# -- PyTorch --------------------------------------------------------------------------------


def test_torchscript_answers(serve: Callable[..., Any], torch: Path) -> None:
    ask = serve(torch / "line", "pytorch")
    assert ask(instances=[[1, 2], [3.5, 0]]) == [[0.5], [7.5]]
    (said,) = ask(inputs=[tensor("anything", [[1, 2], [3.5, 0]])])
    assert said == {"name": "output", "shape": [2, 1], "datatype": "FP32", "data": [0.5, 7.5]}
    status, sentence = ask(instances=[[1, 2, 3]])
    assert (status, "shapes cannot be multiplied" in sentence) == (400, True), sentence


def test_torchscripts_inputs_have_names(serve: Callable[..., Any], torch: Path) -> None:
    ask = serve(torch / "both", "pytorch")
    assert ask(instances=BOTH) == ANSWERS
    said = ask(inputs=[tensor("right", [[3, 4]], "INT64"), tensor("left", [[1, 2]], "INT64")])
    assert [(one["name"], one["datatype"], one["data"]) for one in said] == [
        ("sum", "INT64", [4, 6]),
        ("product", "INT64", [3, 8]),
    ]
    assert ask(inputs=[tensor("left", [[1, 2]])]) == (400, "there is no input 'right'")


def test_pickles_of_pytorch_are_not_served(big: Any, torch: Path) -> None:
    assert "it holds pickles, which run code when they are loaded" in refused(big, torch / "eager", "pytorch")


def test_only_trusted_pickles_of_pytorch_are_loaded(torch: Path) -> None:
    pickles, no_model = (
        "it holds pickles",
        "it holds weights without a model; save the model with torch.jit.save",
    )
    assert loaded(torch, "pytorch", "weights", "exported", "+weights", "+eager", "+exported") == [
        f"model.pt can't be loaded: {pickles}",
        f"model.pt2 can't be loaded: {pickles}",
        f"model.pt can't be loaded: {no_model}",
        "[(Spec(name='input', datatype='', shape=None), [1.5, 1.5])]",
        "[(Spec(name='input', datatype='FP32', shape=(-1, 2)), [1.5, 1.5])]",
    ]


def test_a_broken_file_of_pytorch_is_refused(big: Any, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"torn")
    assert "model.pt can't be loaded: it holds pickles" in refused(big, tmp_path, "pytorch")


# -- TensorFlow -----------------------------------------------------------------------------


def test_a_saved_model_answers_by_its_signature(serve: Callable[..., Any], tensorflow: Path) -> None:
    ask = serve(tensorflow / "saved", "tensorflow")
    assert ask(instances=BOTH) == ANSWERS
    said = ask(inputs=[tensor("left", [[1, 2]]), tensor("right", [[3, 4]])])
    assert {one["name"]: one["data"] for one in said} == {"sum": [4.0, 6.0], "product": [3.0, 8.0]}
    assert ask(instances=[{"left": [1], "right": [1]}]) == (
        400,
        "input 'left' has the shape [1, 1], the model takes [-1, 2]",
    )


def test_a_keras_file_answers(serve: Callable[..., Any], tensorflow: Path) -> None:
    ask = serve(tensorflow / "keras", "tensorflow")
    assert ask(instances=[[1, 2], [3.5, 0]]) == [[0.5], [7.5]]


def test_code_in_a_keras_file_runs_only_if_it_is_trusted(tensorflow: Path) -> None:
    refused, trusted, unsigned = loaded(tensorflow, "tensorflow", "lambda", "+lambda", "unsigned")
    assert "model.keras can't be loaded: " in refused or "lambda can't be loaded: " in refused
    assert "[2.0, 2.0, 2.0, 2.0]" in trusted
    assert unsigned == "1 can't be loaded: it has no signature 'serving_default'"


# -- transformers ---------------------------------------------------------------------------


def test_texts_get_classes(serve: Callable[..., Any], transformers: Path) -> None:
    ask = serve(transformers / "classes", "huggingface")
    one, two = ask(instances=["late flight", "on time"])
    assert {one["label"], two["label"]} <= {"late", "on time"}
    assert 0.0 < one["score"] < 1.0
    assert ask(instances=["late flight"]) == [pytest.approx(one)]
    (said,) = ask(inputs=[{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["late flight"]}])
    assert json.loads(said["data"][0]) == pytest.approx(one)
    assert ask(instances=[1]) == (400, "input 'text': 1 is not text")


def test_tokens_get_classes(serve: Callable[..., Any], transformers: Path) -> None:
    ask = serve(transformers / "tokens", "huggingface")
    (one,), two = ask(instances=["late", "late flight"])
    assert one["word"] == "late"
    assert [token["word"] for token in two] == ["late", "flight"]
    assert [token["word"] for token in ask(instances=["late flight"])[0]] == ["late", "flight"]


def test_masks_are_filled(serve: Callable[..., Any], transformers: Path) -> None:
    ask = serve(transformers / "masks", "huggingface")
    (filled,) = ask(instances=["late [MASK]"])
    assert len(filled) == 5
    assert all(guess["sequence"].startswith("late") for guess in filled)
    status, said = ask(instances=["late"])
    assert (status, "No mask_token" in said) == (400, True), said


def test_texts_go_on(serve: Callable[..., Any], transformers: Path) -> None:
    ask = serve(transformers / "words", "huggingface")
    one, two = ask(instances=["late", "flight"])
    assert one[0]["generated_text"].startswith("late")
    assert two[0]["generated_text"].startswith("flight")


def test_weights_that_are_pickles_are_not_loaded(big: Any, transformers: Path) -> None:
    assert "it holds no *.safetensors" in refused(big, transformers / "pickled", "huggingface")


def test_code_beside_the_weights_is_not_run(big: Any, transformers: Path, tmp_path: Path) -> None:
    config = json.loads((transformers / "masks" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.Model"}}))
    assert "it brings code of its own" in refused(big, tmp_path, "huggingface")
