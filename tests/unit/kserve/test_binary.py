"""The binary tensor extension: bytes in, bytes out, and a sentence for each that is wrong."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from tests.unit.kserve.asked import COLUMNS, Said, app, ask

from modelyard_kserve.local.runtimes import Column
from modelyard_kserve.local.signature import Signature, Spec
from modelyard_kserve.local.tensors import NUMPY, Tensor, array, from_bytes

INFER = "/v2/models/late/infer"
LENGTH = "inference-header-content-length"


def tensor(name: str, shape: list[int], datatype: str, raw: bytes | int, **more: Any) -> dict[str, Any]:
    size = raw if isinstance(raw, int) else len(raw)
    return {
        "name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}, **more
    }  # fmt: skip


def binary(of: Any, inputs: list[Any], raw: bytes, length: Any = None, **more: Any) -> Said:
    said = orjson.dumps({"inputs": inputs, **more})
    return ask(of, INFER, said + raw, {LENGTH: str(len(said) if length is None else length)})


def framed(*items: bytes) -> bytes:
    return b"".join(len(item).to_bytes(4, "little") + item for item in items)


def got(rows: list[Any]) -> Any:
    """A model that keeps what it was given."""

    def answer(given: Any) -> Any:
        rows.append(given)
        return np.zeros(1)

    return answer


@pytest.mark.parametrize("datatype", sorted(NUMPY))
def test_every_datatype_and_more_than_two_dimensions_arrive_as_they_were_sent(datatype: str) -> None:
    sent = np.array([0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 0, 1]).astype(NUMPY[datatype]).reshape(2, 3, 2, 1)
    rows: list[Any] = []
    raw = sent.astype(sent.dtype.newbyteorder("<")).tobytes()
    assert binary(app(got(rows)), [tensor("x", [2, 3, 2, 1], datatype, raw)], raw).status == 200
    (given,) = rows
    assert (given.dtype, given.shape) == (sent.dtype, sent.shape)
    assert np.array_equal(given, sent)
    assert given.flags.writeable, "models write into their input"
    assert given.flags.aligned


def test_answers_are_binary_when_they_are_asked_for_so() -> None:
    answered = np.array([[0.5, 0.25]], np.float32)
    raw = np.ones((1, 2), "<f4").tobytes()
    inputs = [tensor("x", [1, 2], "FP32", raw)]
    for more, is_binary in (
        ({"parameters": {"binary_data_output": True}}, True),
        ({"outputs": [{"name": "predict", "parameters": {"binary_data": True}}]}, True),
        ({"parameters": {"binary_data_output": True}, "outputs": [{"name": "predict"}]}, True),
        (
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "predict", "parameters": {"binary_data": False}}],
            },
            False,
        ),
        ({}, False),
    ):
        said = binary(app(answered), inputs, raw, **more)
        (output,) = said.json["outputs"]
        assert (output["shape"], output["datatype"]) == ([1, 2], "FP32")
        if is_binary:
            assert output["parameters"] == {"binary_data_size": 8}
            assert "data" not in output
            assert np.frombuffer(said.raw, "<f4").tolist() == [0.5, 0.25]
            assert said.answer.headers["content-type"] == "application/octet-stream"
        else:
            assert output["data"] == [0.5, 0.25]
            assert not said.raw


def test_json_may_ask_for_bytes_and_bytes_for_json() -> None:
    sent = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [1]}]}
    said = ask(
        app(np.array(["spät", None], object)), INFER, {**sent, "parameters": {"binary_data_output": True}}
    )
    assert said.raw == framed("spät".encode(), b"")
    logged = said.answer.logged
    assert logged is not None
    assert orjson.loads(logged[1]())["outputs"][0]["data"] == ["spät", None]


def test_columns_come_out_of_arrays_without_lists() -> None:
    temp, stops = np.array([20.5, -4, 1], "<f4"), np.array([0, 2, 1], "<i2")
    rows: list[Any] = []
    inputs = [tensor("stops", [3, 1], "INT16", 6), tensor("temp", [3], "FP32", 12)]
    assert binary(app(got(rows), COLUMNS), inputs, stops.tobytes() + temp.tobytes()).status == 200
    wanted = pd.DataFrame({"temp": [20.5, -4.0, 1.0], "stops": np.array([0, 2, 1], np.int64)})
    pd.testing.assert_frame_equal(rows[0], wanted)
    matrix = wanted.to_numpy()
    assert (
        binary(app(got(rows), COLUMNS), [tensor("all", [3, 2], "FP64", 48)], matrix.tobytes()).status == 200
    )
    pd.testing.assert_frame_equal(rows[1], wanted)
    mixed = [
        tensor("temp", [3], "FP32", 12),
        {"name": "stops", "shape": [3], "datatype": "INT64", "data": [0, 2, 1]},
    ]
    assert binary(app(got(rows), COLUMNS), mixed, temp.tobytes()).status == 200
    pd.testing.assert_frame_equal(rows[2], wanted)


def test_texts_times_and_truth_values_come_in_columns_too() -> None:
    kinds = (Column("carrier", "string"), Column("night", "boolean"), Column("day", "datetime"))
    raw = framed(b"UA", "Ä".encode()) + b"\1\0" + framed(b"2013-04-01", b"2013-04-02")
    inputs = [
        tensor("carrier", [2], "BYTES", 13 - 1),
        tensor("night", [2], "BOOL", 2),
        tensor("day", [2], "BYTES", 28),
    ]
    rows: list[Any] = []
    assert binary(app(got(rows), kinds), inputs, raw).status == 200
    assert rows[0]["carrier"].tolist() == ["UA", "Ä"]
    assert rows[0]["night"].tolist() == [True, False]
    assert rows[0]["day"].tolist() == [pd.Timestamp("2013-04-01"), pd.Timestamp("2013-04-02")]


def test_named_tensors_come_as_a_mapping_in_their_datatypes() -> None:
    stated = Signature(inputs=(Spec("image", "FP32", (-1, 2, 2)), Spec("size", "INT64")), by_name=True)
    rows: list[Any] = []
    raw = np.arange(4, dtype="<f8").tobytes() + np.array([7], "<i4").tobytes()
    inputs = [tensor("image", [1, 2, 2], "FP64", 32), tensor("size", [1], "INT32", 4)]
    assert binary(app(got(rows), stated=stated), inputs, raw).status == 200
    assert {name: (a.dtype.name, a.shape) for name, a in rows[0].items()} == {
        "image": ("float32", (1, 2, 2)),
        "size": ("int64", (1,)),
    }
    said = ask(
        app(got(rows), stated=stated),
        "/v1/models/late:predict",
        {"instances": [{"image": [[0, 1], [2, 3]], "size": 7}]},
    )
    assert said.status == 200
    assert (rows[1]["image"].dtype, rows[1]["size"].tolist()) == (np.float32, [7])
    lacking = binary(app(got(rows), stated=stated), inputs[:1], raw[:32])
    assert (lacking.status, lacking.error) == (400, "there is no input 'size'")


@pytest.mark.parametrize(
    ("given", "raw", "sentence"),
    [
        (tensor("x", [2], "FP32", 8), b"1234567", "its 'binary_data_size' is 8, 7 bytes are left"),
        (tensor("x", [2], "FP32", 7), b"1234567", "came with 7 bytes, its shape [2] of FP32 has 8"),
        (tensor("x", [2], "FP32", -1), b"", "its 'binary_data_size' is -1, 0 bytes are left"),
        (tensor("x", [2], "FP32", 2**62), b"", f"its 'binary_data_size' is {2**62}, 0 bytes are left"),
        (tensor("x", [2], "FP32", 8, data=[1, 2]), b"12345678", "has 'data' as well as 'binary_data_size'"),
        (tensor("x", [-1], "FP32", 4), b"1234", "its shape [-1] has a negative size"),
        (tensor("x", [2**40, 2**40], "FP32", 4), b"1234", "of FP32 has 4835703278458516698824704"),
        (tensor("x", [1] * 40, "FP32", 4), b"1234", "its shape has 40 dimensions, 32 are possible"),
        (tensor("x", [2], "BYTES", 3), b"\1\0\0", "element 0 of its BYTES is cut off"),
        (tensor("x", [2], "BYTES", 9), b"\1\0\0\0a\xff\xff\xff\xff", "element 1 of its BYTES is cut off"),
        (tensor("x", [2], "BYTES", 5), b"\1\0\0\0a", "holds 1 elements of BYTES, its shape has 2"),
        (tensor("x", [1], "BYTES", 8), b"\0" * 8, "holds more elements of BYTES, its shape has 1"),
        (tensor("x", [1], "BYTES", 5), b"\1\0\0\0\xff", "element 0 is not UTF-8 text"),
        (tensor("x", [2**60], "BYTES", 4), b"\0\0\0\0", "holds 1 elements of BYTES"),
        (tensor("x", [1], "FP32", 4, parameters={"binary_data_size": "4"}), b"1234", "is '4', 4 bytes"),
        (tensor("x", [1], "FP32", 4, parameters={"binary_data_size": True}), b"1", "is True, 1 bytes"),
    ],
)  # fmt: skip
def test_bytes_that_are_wrong_are_named(given: Any, raw: bytes, sentence: str) -> None:
    said = binary(app(np.zeros(1)), [given], raw)
    assert said.status == 400
    assert said.error.startswith("input 'x'")
    assert sentence in said.error


@pytest.mark.parametrize("length", ["", "-1", "1e3", "٣", "99999", "0x10", " 5", "1" * 5000])
def test_a_length_that_is_none_is_refused(length: str) -> None:
    said = binary(app(np.zeros(1)), [tensor("x", [1], "FP32", 4)], b"1234", length)
    assert said.status == 400
    assert said.error.startswith("the header Inference-Header-Content-Length is '")


def test_bytes_that_nobody_names_and_bytes_without_the_header_are_refused() -> None:
    more = binary(app(np.zeros(1)), [tensor("x", [1], "FP32", 4)], b"123456")
    assert more.error == "6 bytes follow the JSON, the 'binary_data_size' of all inputs make 4 together"
    none = ask(app(np.zeros(1)), INFER, {"inputs": [tensor("x", [1], "FP32", 4)]})
    assert none.error.startswith("input 'x' has 'binary_data_size', but no header Inference-Header")
    early = binary(app(np.zeros(1)), [tensor("x", [1], "FP32", 4)], b"1234", 5)
    assert early.error.startswith("the body is not JSON")


@pytest.mark.parametrize(
    ("given", "raw", "sentence"),
    [
        (tensor("temp", [2, 2], "FP64", 32), 32, "input 'temp' has the shape [2, 2], a column has one value"),
        (tensor("all", [2, 3], "FP64", 48), 48, "input 'all' has the shape [2, 3], the model has 2 columns"),
        (tensor("all", [4], "FP64", 32), 32, "input 'all' has the shape [4], the model has 2 columns"),
    ],
)
def test_arrays_that_are_no_table_are_refused(given: Any, raw: int, sentence: str) -> None:
    stops = tensor("stops", [2], "INT64", 16)
    inputs = [given, stops] if given["name"] == "temp" else [given]
    said = binary(app(np.zeros(1), COLUMNS), inputs, b"\0" * (raw + 16 * (len(inputs) - 1)))
    assert said.status == 400
    assert said.error.startswith(sentence)


def test_whole_numbers_stay_exact_or_are_refused() -> None:
    columns = (Column("stops", "long"),)
    for value, datatype, status in (
        (2**63, "<u8", 400),
        (1.5, "<f8", 400),
        (3.0, "<f8", 200),
        (2**62, "<u8", 200),
    ):
        raw = np.array([value], datatype).tobytes()
        kind = {"<u8": "UINT64", "<f8": "FP64"}[datatype]
        said = binary(app(np.zeros(1), columns), [tensor("stops", [1], kind, raw)], raw)
        assert said.status == status, said.json
        if status == 400:
            assert said.error.startswith("row 0, column 'stops': ")


def test_a_datatype_that_the_model_does_not_take_is_refused() -> None:
    stated = Signature(inputs=(Spec("", "INT64", (-1, 2)),))
    raw = np.ones((1, 2), "<f4").tobytes()
    said = binary(app(np.zeros(1), stated=stated), [tensor("x", [1, 2], "FP32", raw)], raw)
    assert (said.status, said.error) == (400, "input 'x' is FP32, the model takes INT64")


def test_an_image_is_read_in_far_less_than_its_json_would_take() -> None:
    raw = np.zeros((1, 3, 224, 224), "<f4").tobytes()
    fastest = min(_seconds(raw) for _ in range(20))
    assert fastest < 0.002, "KServe's own server takes 0.05 s, element by element"


def _seconds(raw: bytes) -> float:
    began = time.perf_counter()
    made = from_bytes("image", "FP32", [1, 3, 224, 224], memoryview(raw))
    assert made.values.shape == (1, 3, 224, 224)
    return time.perf_counter() - began


@pytest.mark.parametrize("datatype", ["INT64", "INT32", "FP64", "FP32"])
def test_lists_are_arrays_of_the_very_type_that_bytes_are(datatype: str) -> None:
    """`longlong` is equal to `int64`, and another type to libraries that look at its number."""
    listed = array(Tensor("x", datatype, [2], [1, 2]))
    given = from_bytes("x", datatype, [2], listed.tobytes()).values
    assert (listed.dtype.num, listed.tolist()) == (given.dtype.num, given.tolist())
    assert listed.dtype.num == np.dtype(NUMPY[datatype]).num
    assert listed.flags.writeable
