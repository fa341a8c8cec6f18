"""The document of a model server: valid, whatever the model is, with examples that fit it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import jsonschema_rs
import pytest

from modelyard_kserve.local import openapi
from modelyard_kserve.local.answers import stated_outputs
from modelyard_kserve.local.messages import Request
from modelyard_kserve.local.model_app import ModelApp
from modelyard_kserve.local.runtimes import Column, LoadedModel, Spec
from modelyard_kserve.local.signature import Signature

MATRIX = Signature((Spec("", "FP64", (-1, 4)),), (Spec("", "INT64", (-1,)),))
PAIR = (Spec("a", "BOOL", (-1, 2)), Spec("b", "UINT8"))
IMAGE = (Spec("image", "FP32", (-1, 3, 224, 224)),)
KINDS = ("double", "float", "long", "integer", "boolean", "datetime", "string", "binary")
COLUMNS = tuple(Column(f"ä {kind}/~", kind, kind != "long") for kind in KINDS)
MODELS: dict[str, tuple[LoadedModel, Signature]] = {
    "columns": (LoadedModel(COLUMNS, len), Signature(tuple(Spec(c.name, "BYTES") for c in COLUMNS))),
    "nothing stated": (LoadedModel((), len), Signature()),
    "matrix": (LoadedModel((), len), MATRIX),
    "texts": (LoadedModel((), len), Signature((Spec("", "BYTES", (-1,)),))),
    "an image": (LoadedModel((), len, IMAGE, (Spec("class", "INT64"),)), Signature(IMAGE)),
    "tensors": (
        LoadedModel((), len),
        Signature((Spec("a", "BOOL", (-1, 2)), Spec("b", "UINT8")), by_name=True),
    ),
    "unknown tensors": (LoadedModel((), len, (Spec("x"),)), Signature((Spec("x"),))),
}


def valid(document: dict[str, Any]) -> dict[str, Any]:
    """The schemas of a valid document; each fits its own examples."""
    from schemathesis.specs.openapi.definitions import OPENAPI_31

    jsonschema_rs.validator_for(OPENAPI_31).validate(json.loads(json.dumps(document)))
    schemas: dict[str, Any] = document["components"]["schemas"]
    for name, schema in schemas.items():
        jsonschema_rs.meta.validate(schema)
        whole = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
        for example in schema.get("examples", ()):
            jsonschema_rs.validator_for(whole).validate(example)
    operations = [one for path in document["paths"].values() for one in path.values()]
    names = [one["operationId"] for one in operations]
    assert len(names) == len(set(names)), "two operations have one name"
    return schemas


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_the_document_is_valid_and_so_are_its_examples(kind: str, batched: bool) -> None:
    model, signature = MODELS[kind]
    outputs = stated_outputs(signature, False)
    schemas = valid(openapi.of_model("late", "3", model, signature, outputs, batched=batched))
    with_example = {name for name, schema in schemas.items() if "examples" in schema}
    assert with_example == {
        "nothing stated": set(),
        "an image": set(),
        "unknown tensors": {"InferenceRequest", "PredictRequest"},
    }.get(kind, {"InferenceRequest", "PredictRequest"})


@pytest.mark.parametrize(
    ("instance", "fits"),
    [([1, 2, 3, None], True), ([1, 2, 3], False), ([1, 2, 3, "4"], False), ({"a": 1}, False), (1, False)],
)
def test_a_matrix_has_rows_of_its_width(instance: Any, fits: bool) -> None:
    made = openapi.of_model("late", "3", *MODELS["matrix"], (), batched=False)
    schema = made["components"]["schemas"]["PredictRequest"]
    assert jsonschema_rs.validator_for(schema).is_valid({"instances": [instance]}) == fits


def test_a_row_of_columns_has_their_types_and_lacks_only_what_is_optional() -> None:
    model = LoadedModel((Column("temp", "double"), Column("stops", "integer", False)), len)
    made = openapi.of_model("late", "3", model, Signature(), (), batched=False)
    fits = jsonschema_rs.validator_for(made["components"]["schemas"]["PredictRequest"]).is_valid
    for row in ({"temp": 1.5}, {"temp": None, "stops": 2}, [1.5, 2]):
        assert fits({"instances": [row]}), row
    for row in ({"stops": 2}, {"temp": "warm"}, {"temp": 1, "stops": 2.5}, [1.5], [1.5, 2, 3], [1, 2**31]):
        assert not fits({"instances": [row]}), row


def test_it_is_answered_even_while_the_model_is_unloaded_and_only_to_get() -> None:
    app = ModelApp("late", "3", *MODELS["matrix"][:1], False, MATRIX)

    def ask(method: str, path: str) -> Any:
        return asyncio.run(app(Request(method, path, b"", {}, b"")))

    assert ask("POST", "/v2/repository/models/late/unload").status == 200
    answer = ask("GET", "/openapi.json")
    assert answer.status == 200
    valid(json.loads(answer.body()))
    assert ask("POST", "/openapi.json").status == 405


def test_classes_of_ones_own_are_described_by_what_they_say() -> None:
    inputs = [{"name": "rows", "datatype": "FP64", "shape": [-1, 2]}]
    schemas = valid(openapi.of_classes("late", "3", ["late", "ours"], inputs, []))
    (example,) = schemas["InferenceRequest"]["examples"]
    assert example["inputs"] == [{"name": "rows", "datatype": "FP64", "shape": [1, 2], "data": [1.5, 1.5]}]
    made = openapi.of_classes("late", "3", ["late", "ours"], [None, "odd", {}], [])
    valid(made)
    path = made["paths"]["/v2/models/{model_name}"]["get"]["parameters"][0]
    assert path["schema"]["enum"] == ["late", "ours"]
