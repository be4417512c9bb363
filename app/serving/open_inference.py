"""Open Inference Protocol v2, REST: tensors in, tensors out. Pure.

An input is a feature of the model (or a column of its entities, which are then looked up), of shape `[B]` or `[B, 1]`.
Tensors know no null: who has nulls uses `/v1/predict`.

Source: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md; binary data: Triton's
"Binary Tensor Data Extension".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.errors import RequestError, UnknownNameError
from app.serving.answer import Prediction
from app.serving.request import MAX_ROWS, PredictRequest, check_keys, check_text, parse_body
from app.serving.schema import RequestSchema, Row, check_list, check_value, kind_of
from app.spec.features import DType

SERVER = "millrace"
EXTENSIONS = ["binary_tensor_data"]
HEADER_LENGTH = "inference-header-content-length"
DATATYPES: dict[DType, str] = {
    "int64": "INT64", "float64": "FP64", "string": "BYTES", "bool": "BOOL", "timestamp": "BYTES", "date": "BYTES",
    "uuid": "BYTES",
}
NUMPY = {
    "BOOL": "?", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "<i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}
WHOLE = frozenset(name for name in NUMPY if "INT" in name)
TAKEN: dict[str, frozenset[str]] = {
    "INT64": WHOLE, "FP64": WHOLE | {"FP16", "FP32", "FP64"}, "BYTES": frozenset({"BYTES"}),
    "BOOL": frozenset({"BOOL"}),
}
OUTPUTS = {"score": "FP64", "version": "BYTES", "variant": "BYTES", "answered_by": "BYTES"}
REQUEST_FIELDS = {"id", "parameters", "inputs", "outputs"}
INPUT_FIELDS = {"name", "shape", "datatype", "parameters", "data"}


@dataclass(frozen=True)
class InferRequest:
    """`outputs`: names asked for, and whether as binary data. `echoed_id`: the id the caller sent, if any."""

    request: PredictRequest
    outputs: tuple[tuple[str, bool], ...]
    echoed_id: str | None


def server_metadata(version: str) -> dict[str, Any]:
    """Answer of `GET /v2`."""
    return {"name": SERVER, "version": version, "extensions": EXTENSIONS}


def model_metadata(
    model: str, versions: Sequence[str], schema: RequestSchema, feature_names: Sequence[str], kind: str
) -> dict[str, Any]:
    """Answer of `GET /v2/models/{model}`."""
    types = {**schema.features, schema.key: schema.entity[schema.key]}
    return {
        "name": model,
        "versions": list(versions),
        "platform": {"torch": "onnxruntime_onnx"}.get(kind, "sklearn_skops"),
        "inputs": [
            {"name": n, "datatype": DATATYPES[types[n]], "shape": [-1]} for n in feature_names if types[n] in DATATYPES
        ],
        "outputs": [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in OUTPUTS.items()],
    }


def check_model(asked: str, served: str) -> None:
    """Raises: UnknownNameError: another model is served here."""
    if asked != served:
        raise UnknownNameError(f"there is no model {asked!r} here; this application serves {served!r}.", model=asked)


def parse_infer(
    body: bytes, header_length: str | None, schema: RequestSchema, feature_names: Sequence[str], request_id: str
) -> InferRequest:
    """The request in a body, with binary tensors after its JSON if `header_length` says so.

    Raises:
        RequestError: names the field that must change.
    """
    text, binary = _parts(body, header_length)
    request = parse_body(text)
    _check_fields(request, REQUEST_FIELDS, "the body")
    named = request.get("id")
    if named is not None:
        check_text(named, "id")
    parameters = _parameters(request, "parameters")
    inputs = check_list(request.get("inputs"), "inputs", 10_000)
    names = [_input_name(item, f"inputs[{i}]") for i, item in enumerate(inputs)]
    if len(set(names)) < len(names):
        raise RequestError("two inputs have one name; send each once.", field="inputs")
    has_features = set(feature_names) <= set(names)
    types = dict(schema.entity)
    if has_features:
        types = {**schema.features, schema.key: schema.entity[schema.key]}
    lacking = [name for name in types if name not in names and not has_features]
    if lacking:
        raise RequestError(
            f"input {lacking[0]!r} is missing. Send every feature of the model ({', '.join(feature_names)}) or every "
            f"column of an entity ({', '.join(types)}).", field=lacking[0],
        )
    columns: dict[str, list[Any]] = {}
    taken = 0
    for number, (name, item) in enumerate(zip(names, inputs, strict=True)):
        columns[name], num_bytes = _tensor(item, f"inputs[{number}]", types.get(name), name, binary[taken:])
        taken += num_bytes
    if taken != len(binary):
        raise RequestError(
            f"{len(binary)} bytes follow the JSON, but the inputs' binary_data_size add up to {taken}.", field="inputs"
        )
    rows = _rows(columns)
    keys = check_keys(rows, schema.key, not has_features)
    outputs = _outputs(request.get("outputs"), bool(parameters.get("binary_data_output", False)))
    asked = PredictRequest(named or request_id, None, keys, tuple(rows), has_features)
    return InferRequest(asked, outputs, named)


def infer_answer(
    infer: InferRequest, model: str, champion: str, epoch: int, predictions: Sequence[Prediction]
) -> tuple[bytes, int | None]:
    """The answer's body, and the length of its JSON where binary tensors follow.

    `model_version` is the version that answered, or the champion where several did.
    """
    versions = {p.version for p in predictions}
    answer: dict[str, Any] = {
        "model_name": model,
        "model_version": versions.pop() if len(versions) == 1 else champion,
        "parameters": {"epoch": epoch},
        "outputs": [],
    }
    if infer.echoed_id is not None:
        answer["id"] = infer.echoed_id
    tail = b""
    for name, as_binary in infer.outputs:
        values = [getattr(p, name) for p in predictions]
        output: dict[str, Any] = {"name": name, "datatype": OUTPUTS[name], "shape": [len(values)]}
        if as_binary:
            data = np.array(values, "<f8").tobytes() if name == "score" else b"".join(map(_length_and_bytes, values))
            output["parameters"] = {"binary_data_size": len(data)}
            tail += data
        else:
            output["data"] = values
        answer["outputs"].append(output)
    text = json.dumps(answer, separators=(",", ":")).encode()
    has_binary = any(as_binary for _, as_binary in infer.outputs)
    return text + tail, len(text) if has_binary else None


def _parts(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    if header_length is None:
        return body, b""
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 12) or int(
        header_length
    ) > len(body):
        raise RequestError(
            f"header Inference-Header-Content-Length is {header_length[:40]!r}; expected the length of the JSON part, "
            f"at most the {len(body)} bytes of the body.", header=HEADER_LENGTH,
        )
    return body[: int(header_length)], body[int(header_length) :]


def _check_fields(value: object, known: set[str], where: str) -> None:
    if not isinstance(value, dict):
        raise RequestError(f"{where} is {kind_of(value)}; expected an object.", field=where)
    for name in value:
        if name not in known:
            raise RequestError(f"unknown field {name!r} in {where}; known: {', '.join(sorted(known))}.", field=name)


def _input_name(item: object, where: str) -> str:
    _check_fields(item, INPUT_FIELDS, where)
    assert isinstance(item, dict)
    return check_text(item.get("name"), f"{where}.name")


def _parameters(owner: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    found = owner.get("parameters")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise RequestError(f"{where} is {kind_of(found)}; expected an object.", field=where)
    return found


def _tensor(
    item: Mapping[str, Any], where: str, dtype: DType | None, name: str, binary: bytes
) -> tuple[list[Any], int]:
    """Values of one input and how many binary bytes they took."""
    if dtype is None or dtype not in DATATYPES:
        raise RequestError(f"{where}: there is no input {name!r} that a tensor could hold.", field=name)
    datatype = item.get("datatype")
    if not isinstance(datatype, str) or datatype not in TAKEN[DATATYPES[dtype]]:
        raise RequestError(
            f"{where}.datatype is {datatype!r}; expected {DATATYPES[dtype]} for {name!r}.", field=f"{where}.datatype",
            expected=DATATYPES[dtype],
        )
    num_rows = _num_rows(item.get("shape"), f"{where}.shape")
    size = _parameters(item, f"{where}.parameters").get("binary_data_size")
    if size is None:
        values = _flat(item.get("data"), f"{where}.data")
    elif "data" in item:
        raise RequestError(f"{where} has both data and binary_data_size; send one of them.", field=f"{where}.data")
    elif not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary):
        raise RequestError(
            f"{where}: binary_data_size is {size!r}, but {len(binary)} bytes are left after the JSON.",
            field=f"{where}.parameters",
        )
    else:
        values = _from_bytes(binary[:size], datatype, where)
    if len(values) != num_rows:
        raise RequestError(f"{where} has {len(values)} values; its shape says {num_rows}.", field=f"{where}.data")
    for place, value in enumerate(values):
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            raise RequestError(
                f"{where}.data[{place}] is {'null' if value is None else value}; tensors take finite values only. "
                "Use /v1/predict for rows with nulls.", field=f"{where}.data",
            )
    return [check_value(value, dtype, f"{where}.data[{place}]") for place, value in enumerate(values)], size or 0


def _num_rows(shape: object, where: str) -> int:
    good = isinstance(shape, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in shape)
    if not good or not isinstance(shape, list) or len(shape) not in (1, 2) or shape[1:] not in ([], [1]):
        raise RequestError(f"{where} is {shape!r}; expected [rows] or [rows, 1].", field=where)
    if not 0 < shape[0] <= MAX_ROWS:
        raise RequestError(f"{where} is {shape!r}; expected 1 to {MAX_ROWS} rows.", field=where)
    return int(shape[0])


def _flat(data: object, where: str) -> list[Any]:
    if not isinstance(data, list):
        raise RequestError(f"{where} is {kind_of(data)}; expected a list of values.", field=where)
    if any(isinstance(value, list) for value in data):
        if not all(isinstance(value, list) and len(value) == 1 for value in data):
            raise RequestError(f"{where} is nested otherwise than its shape; expected one value a row.", field=where)
        data = [value[0] for value in data]
    return data


def _from_bytes(data: bytes, datatype: str, where: str) -> list[Any]:
    if datatype != "BYTES":
        dtype = np.dtype(NUMPY[datatype])
        if len(data) % dtype.itemsize:
            raise RequestError(f"{where}: {len(data)} bytes are no whole number of {datatype}.", field=where)
        values: list[Any] = np.frombuffer(data, dtype).tolist()
        return values
    values, start = [], 0
    while start < len(data):
        end = start + 4 + int.from_bytes(data[start : start + 4], "little")
        if start + 4 > len(data) or end > len(data):
            raise RequestError(f"{where}: a text of the binary data is cut off.", field=where)
        try:
            values.append(data[start + 4 : end].decode())
        except UnicodeDecodeError as error:
            raise RequestError(f"{where}: a text of the binary data is not UTF-8.", field=where) from error
        start = end
    return values


def _length_and_bytes(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "little") + data


def _rows(columns: Mapping[str, list[Any]]) -> list[Row]:
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise RequestError(f"the inputs have {', '.join(map(str, sorted(lengths)))} rows; expected one number.",
                           field="inputs")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _outputs(wanted: object, binary_by_default: bool) -> tuple[tuple[str, bool], ...]:
    if wanted is None:
        return (("score", binary_by_default),)
    outputs = []
    for number, item in enumerate(check_list(wanted, "outputs", len(OUTPUTS))):
        where = f"outputs[{number}]"
        _check_fields(item, {"name", "parameters"}, where)
        name = item.get("name")
        if not isinstance(name, str) or name not in OUTPUTS:
            known = ", ".join(OUTPUTS)
            raise RequestError(f"{where}.name is {name!r}; expected one of {known}.", field=f"{where}.name")
        binary = _parameters(item, f"{where}.parameters").get("binary_data", binary_by_default)
        outputs.append((name, bool(binary)))
    if len(dict(outputs)) < len(outputs):
        raise RequestError("two outputs have one name; ask for each once.", field="outputs")
    return tuple(outputs)
