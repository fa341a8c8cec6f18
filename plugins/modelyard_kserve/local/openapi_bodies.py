"""The schemas of bodies: KServe's, and those of one model's inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from modelyard_kserve.local.runtimes import Column, LoadedModel, Spec
from modelyard_kserve.local.signature import Signature
from modelyard_kserve.local.tensors import DATATYPES

Schema = dict[str, Any]
#: Values beyond which a tensor gets no example.
_FEW = 64
_KINDS: dict[str, Schema] = {
    "double": {"type": ["number", "null"]},
    "float": {"type": ["number", "null"]},
    "long": {"type": ["integer", "null"], "minimum": -(2**63), "maximum": 2**63 - 1},
    "integer": {"type": ["integer", "null"], "minimum": -(2**31), "maximum": 2**31 - 1},
    "boolean": {"type": ["boolean", "null"]},
    "datetime": {"type": ["string", "null"], "description": "ISO 8601"},
}
_EXAMPLES = {"double": 1.5, "float": 1.5, "long": 1, "integer": 1, "boolean": True, "datetime": "2026-01-31"}


def record(*, optional: Iterable[str] = (), **types: str | Schema) -> Schema:
    """An object.

    Args:
        optional: properties that may lack.
        types: of its properties, by name.

    Example:
        >>> record(live="boolean")
        {'type': 'object', 'properties': {'live': {'type': 'boolean'}}, 'required': ['live']}
    """
    properties = {n: {"type": said} if isinstance(said, str) else said for n, said in types.items()}
    made: Schema = {"type": "object", "properties": properties}
    required = [name for name in types if name not in set(optional)]
    return {**made, "required": required} if required else made


def _list_of(kind: str | Schema, **more: Any) -> Schema:
    return {"type": "array", "items": {"type": kind} if isinstance(kind, str) else kind, **more}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_DATATYPE: Schema = {"type": "string", "enum": list(DATATYPES)}
_SHAPE = _list_of({"type": "integer", "minimum": 0}, maxItems=32)
_TENSOR: dict[str, str | Schema] = {"name": "string", "datatype": _DATATYPE, "shape": _SHAPE}
#: What all models have in common.
SCHEMAS: dict[str, Schema] = {
    "Error": record(error={"description": "One sentence: what is wrong, and where."}),
    "ListModelsResponse": record(models=_list_of("string")),
    "MetadataTensor": record(name="string", datatype="string", shape=_list_of("integer")),
    "ModelMetadataResponse": record(
        name="string",
        versions=_list_of("string"),
        platform="string",
        inputs=_list_of(_ref("MetadataTensor")),
        outputs=_list_of(_ref("MetadataTensor")),
    ),
    "ModelReadyResponse": record(name="string", ready="boolean"),
    "RepositoryIndexEntry": record(
        name="string",
        version="string",
        state={"type": "string", "enum": ["READY", "UNAVAILABLE"]},
        reason="string",
    ),
    "RepositoryIndexRequest": record(
        optional=["ready"],
        ready={"type": "boolean", "description": "true: only models that answer.", "default": False},
    ),
    "RequestInput": record(
        optional=["parameters"],
        **_TENSOR,
        data={"type": "array", "description": "Flat in row-major order, or nested as the shape says."},
        parameters={"type": ["object", "null"]},
    ),
    "RequestOutput": record(
        optional=["parameters"],
        name="string",
        parameters={"type": ["object", "null"], "properties": {"binary_data": {"type": "boolean"}}},
    ),
    "ResponseOutput": record(
        **_TENSOR, data={"type": "array", "description": "Flat, in row-major order; NaN is null."}
    ),
    "ServerLiveResponse": record(live="boolean"),
    "ServerMetadataResponse": record(name="string", version="string", extensions=_list_of("string")),
    "ServerReadyResponse": record(ready="boolean"),
}


_BINARY = {"binary_data_output": {"type": "boolean"}}

# -- V2 -------------------------------------------------------------------------------------


def v2_request(model: LoadedModel, signature: Signature, outputs: Sequence[Spec]) -> Schema:
    """`InferenceRequest` of a model, with an example if its inputs are known."""
    inputs = model.inputs or signature.inputs
    named = [spec for spec in inputs if spec.name]
    anything: Schema = {**_ref("RequestInput"), "description": _unnamed(model, inputs)}
    one_suits_all = bool(model.columns) or len(inputs) < 2
    possible = [_named("RequestInput", spec) for spec in named] + ([anything] if one_suits_all else [])
    wanted = _list_of(_ref("RequestOutput"))
    if outputs and all(spec.name for spec in outputs):
        wanted["description"] = listed("All if it lacks. There are", outputs)
    made = record(
        optional=["id", "parameters", "outputs"],
        id={"type": ["string", "null"]},
        parameters={"type": ["object", "null"], "properties": {**_params(model), **_BINARY}},
        inputs=_list_of(possible[0] if len(possible) == 1 else {"anyOf": possible}, minItems=1),
        outputs={**wanted, "type": ["array", "null"]},
    )
    kinds = {column.name: column.kind for column in model.columns}
    tensors = [_tensor_example(spec, kinds.get(spec.name, "")) for spec in inputs]
    if tensors and all(tensors):
        made["examples"] = [{"inputs": tensors}]
    return made


def v2_response(outputs: Sequence[Spec]) -> Schema:
    """`InferenceResponse` of a model. What it answers need not be what its signature says."""
    possible = [_named("ResponseOutput", spec) for spec in outputs if spec.name] + [_ref("ResponseOutput")]
    items = possible[0] if len(possible) == 1 else {"anyOf": possible}
    return record(model_name="string", model_version="string", id="string", outputs=_list_of(items))


def _named(base: str, spec: Spec) -> Schema:
    said = f"{spec.datatype or 'Of any datatype'}, shape {list(spec.shape or (-1,))}"
    return {
        **_ref(base),
        "title": spec.name,
        "description": said,
        "properties": {"name": {"const": spec.name}},
    }


def _unnamed(model: LoadedModel, inputs: Sequence[Spec]) -> str:
    if model.columns:
        return f"All {len(model.columns)} columns as one matrix of any other name."
    if len(inputs) == 1:
        shape = list(inputs[0].shape or (-1,))
        return f"The only input, of any name: {inputs[0].datatype or 'any datatype'}, shape {shape}."
    return "The only input, of any name."


def _tensor_example(spec: Spec, kind: str) -> Schema | None:
    if not _is_small(spec):
        return None
    shape = [abs(size) for size in spec.shape or (-1,)]
    data = [_EXAMPLES.get(kind, _value(spec.datatype))] * math.prod(shape)
    return {"name": spec.name or "input-0", "shape": shape, "datatype": spec.datatype or "FP32", "data": data}


# -- V1 -------------------------------------------------------------------------------------


def v1_request(model: LoadedModel, signature: Signature) -> Schema:
    """`{"instances": [...]}` of a model, with an example if its inputs are known."""
    if model.columns:
        instances, example = _row(model.columns)
    elif model.inputs or signature.by_name:
        instances, example = _tensors(model.inputs or signature.inputs)
    else:
        instances, example = _array(signature.inputs)
    lists = [_list_of(instance, minItems=1) for instance in instances]  # they are all of one kind
    made = record(instances=lists[0] if len(lists) == 1 else {"anyOf": lists})
    if model.params:
        made["properties"]["params"] = {"type": ["object", "null"], "properties": _params(model)}
    return made if example is None else {**made, "examples": [{"instances": [example]}]}


def _params(model: LoadedModel) -> Schema:
    return {name: {"description": "Its default is the model's."} for name in model.params}


def v1_response(outputs: Sequence[Spec], *, batched: bool) -> Schema:
    """`{"predictions": [...]}` of a model."""
    said = listed("One for each instance", outputs)
    made = record(predictions={"type": ["array", "object"], "description": said})
    if not batched:
        return made
    return record(message="string", batchId="string", **made["properties"])


def _row(columns: Sequence[Column]) -> tuple[list[Schema], Any]:
    """A row is an object, or a list in the order of the columns."""
    kinds = {c.name: _KINDS.get(c.kind, {"type": ["string", "null"]}) for c in columns}
    by_name: Schema = {"type": "object", "properties": kinds}
    by_name["required"] = [column.name for column in columns if column.required]
    in_order = {"type": "array", "prefixItems": list(kinds.values()), "items": False, "minItems": len(kinds)}
    return [by_name, in_order], {c.name: _EXAMPLES.get(c.kind, "text") for c in columns}


def _tensors(inputs: Sequence[Spec]) -> tuple[list[Schema], Any]:
    """An object with all tensors; of a single one its value does."""
    values = {spec.name: _instance(spec) for spec in inputs}
    by_name: Schema = {"type": "object", "properties": values, "required": list(values)}
    example = {spec.name: _example(spec) for spec in inputs} if all(map(_is_small, inputs)) else None
    return [by_name, *(values.values() if len(inputs) == 1 else ())], example


def _array(inputs: Sequence[Spec]) -> tuple[list[Schema], Any]:
    if len(inputs) == 1 and len(inputs[0].shape or ()) > 1:
        return [_instance(inputs[0])], _example(inputs[0]) if _is_small(inputs[0]) else None
    if len(inputs) == 1 and inputs[0].datatype == "BYTES":
        return [{"type": "string"}], "text"
    numbers = {"type": "array", "description": "Numbers; the lists of all instances are of one length."}
    return [numbers], None


def _instance(spec: Spec) -> Schema:
    """A tensor without its first axis."""
    if spec.shape is None:
        return {}
    made = _json_type(spec.datatype)
    for size in reversed(spec.shape[1:]):
        made = _list_of(made, **({} if size == -1 else {"minItems": size, "maxItems": size}))
    return made


def _example(spec: Spec) -> Any:
    made = _value(spec.datatype)
    for size in reversed((spec.shape or ())[1:]):
        made = [made] * abs(size)
    return made


def _is_small(spec: Spec) -> bool:
    return math.prod(abs(size) for size in spec.shape or ()) <= _FEW


# -- values ---------------------------------------------------------------------------------


def _json_type(datatype: str) -> Schema:
    if datatype == "BOOL":
        return {"type": "boolean"}
    if datatype == "BYTES":
        return {"type": "string"}
    if datatype.startswith("UINT"):
        return {"type": "integer", "minimum": 0}
    return {"type": "integer"} if datatype.startswith("INT") else {"type": ["number", "null"]}


def _value(datatype: str) -> Any:
    if datatype == "BOOL":
        return True
    if datatype == "BYTES":
        return "text"
    return 1 if "INT" in datatype else 1.5


def listed(what: str, specs: Sequence[Spec]) -> str:
    """The tensors in a sentence.

    Example:
        >>> listed("Outputs", [Spec("late", "FP64", (-1,)), Spec("", "INT64")])
        'Outputs: late FP64 [-1], predict INT64 [-1].'
    """
    said = (
        f"{s.name or 'predict'} {s.datatype or 'of any datatype'} {list(s.shape or (-1,))}" for s in specs
    )
    return ": ".join(filter(None, [what, ", ".join(said)])) + "."
