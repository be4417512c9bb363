"""The Open Inference Protocol, tried with a public client over a real socket, and its rules one by one."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.http as triton
import uvicorn

from app.errors import RequestError
from app.serving.open_inference import parse_infer
from app.serving.schema import RequestSchema
from tests.unit.serving.conftest import Replica
from tests.unit.serving.test_gate import get, post

FEATURES = ("price", "stock")
SCHEMA = RequestSchema(
    "order_id", {"order_id": "string", "shop": "string", "price": "float64"}, {"price": "float64", "stock": "float64"}
)


@pytest.fixture(scope="module")
def address(replica: Replica) -> Iterator[str]:
    """The replica behind a real server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(replica.gate, port=port, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address) as found:
        yield found


def columns(prices: list[float], stocks: list[float], *, binary: bool) -> list[triton.InferInput]:
    inputs = []
    for name, values in (("price", prices), ("stock", stocks)):
        tensor = triton.InferInput(name, [len(values)], "FP64")
        tensor.set_data_from_numpy(np.array(values), binary_data=binary)
        inputs.append(tensor)
    return inputs


def test_a_public_client_finds_server_and_model(
    client: triton.InferenceServerClient, replica: Replica, admin: str
) -> None:
    headers = {"Authorization": f"Bearer {admin}"}
    assert client.is_server_live() and client.is_server_ready()
    assert client.get_server_metadata(headers)["name"] == "millrace"
    assert client.is_model_ready("shop", headers=headers)
    assert client.is_model_ready("shop", "1", headers=headers)
    assert not client.is_model_ready("shop", "9", headers=headers)
    found = client.get_model_metadata("shop", headers=headers)
    assert (found["name"], found["versions"]) == ("shop", ["1"])
    assert found["inputs"] == [{"name": n, "datatype": "FP64", "shape": [-1]} for n in FEATURES]


@pytest.mark.parametrize("binary", [True, False])
def test_a_public_client_gets_the_scores_of_predict(
    client: triton.InferenceServerClient, replica: Replica, admin: str, binary: bool
) -> None:
    headers = {"Authorization": f"Bearer {admin}"}
    outputs = [triton.InferRequestedOutput(n, binary_data=binary) for n in ("score", "version")]
    answer = client.infer(
        "shop", columns([0.1, 0.9], [1.0, 4.0], binary=binary), outputs=outputs, headers=headers, request_id="mine"
    )
    rows = [{"price": 0.1, "stock": 1.0}, {"price": 0.9, "stock": 4.0}]
    ours = post(replica, admin, "/v1/predict", {"rows": rows}).json()["predictions"]
    assert answer.as_numpy("score").tolist() == [p["score"] for p in ours]
    versions = [v.decode() if isinstance(v, bytes) else v for v in answer.as_numpy("version").tolist()]
    assert versions == ["1", "1"]
    assert (answer.get_response()["id"], answer.get_response()["model_version"]) == ("mine", "1")


def test_a_public_client_may_send_entities(client: triton.InferenceServerClient, replica: Replica, admin: str) -> None:
    inputs = []
    for name, values in (("order_id", ["a", "b"]), ("shop", ["s1", "s4"])):
        tensor = triton.InferInput(name, [2], "BYTES")
        tensor.set_data_from_numpy(np.array(values, dtype=object))
        inputs.append(tensor)
    price = triton.InferInput("price", [2, 1], "FP32")
    price.set_data_from_numpy(np.array([[0.5], [0.25]], dtype=np.float32))
    answer = client.infer("shop", [*inputs, price], headers={"Authorization": f"Bearer {admin}"})
    entities = [{"order_id": "a", "shop": "s1", "price": 0.5}, {"order_id": "b", "shop": "s4", "price": 0.25}]
    ours = post(replica, admin, "/v1/predict", {"entities": entities}).json()["predictions"]
    assert answer.as_numpy("score").tolist() == [p["score"] for p in ours]


def test_a_public_client_reads_our_errors(client: triton.InferenceServerClient, admin: str) -> None:
    with pytest.raises(triton.InferenceServerException, match="no model 'other' here"):
        client.infer("other", columns([0.1], [1.0], binary=True), headers={"Authorization": f"Bearer {admin}"})
    with pytest.raises(triton.InferenceServerException, match="needs a token"):
        client.infer("shop", columns([0.1], [1.0], binary=True))


def test_versions_that_are_not_served_are_unknown(replica: Replica, admin: str) -> None:
    for path in ("/v2/models/shop/versions/9", "/v2/models/shop/versions/9/ready", "/v2/models/other"):
        refused = get(replica, admin, path)
        assert refused.status_code == 404
        assert isinstance(refused.json()["error"], str) and refused.json()["code"] == "name_unknown"


def tensor(**change: object) -> dict[str, object]:
    return {"name": "price", "shape": [1], "datatype": "FP64", "data": [0.5], **change}


STOCK = {"name": "stock", "shape": [1], "datatype": "FP64", "data": [1.0]}


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([], "expected 1 to"),
        ([tensor()], "'order_id' is missing"),
        ([tensor(), tensor(), STOCK], "two inputs have one name"),
        ([tensor(shape=[2]), STOCK], "has 1 values; its shape says 2"),
        ([tensor(shape=[1, 2]), STOCK], "expected [rows] or [rows, 1]"),
        ([tensor(shape=[True]), STOCK], "expected [rows] or [rows, 1]"),
        ([tensor(shape=[-1]), STOCK], "expected 1 to"),
        ([tensor(datatype="BYTES"), STOCK], "expected FP64"),
        ([tensor(datatype=["FP64"]), STOCK], "expected FP64"),
        ([tensor(data=["a"]), STOCK], "expected float64"),
        ([tensor(data=[None]), STOCK], "finite values only"),
        ([tensor(data=[[0.5, 1.0]]), STOCK], "nested otherwise"),
        ([tensor(data=0.5), STOCK], "expected a list"),
        ([tensor(parameters={"binary_data_size": 8}), STOCK], "both data and binary_data_size"),
        ([tensor(shape=[2], data=[1, 2]), STOCK], "1, 2 rows"),
        ([tensor(colour=1), STOCK], "unknown field"),
        ([7], "expected an object"),
    ],
)
def test_wrong_tensors_are_named(inputs: list[object], said: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse_infer(json.dumps({"inputs": inputs}).encode(), None, SCHEMA, FEATURES, "r")
    assert said in refused.value.message


@pytest.mark.parametrize(
    ("tail", "size", "said"),
    [
        (np.array([np.nan]).tobytes(), 8, "finite values only"),
        (np.array([np.inf]).tobytes(), 8, "finite values only"),
        (b"1234567", 7, "no whole number of FP64"),
        (b"12345678", 99, "8 bytes are left"),
        (b"12345678", True, "8 bytes are left"),
        (b"1234567890", 8, "10 bytes follow the JSON"),
    ],
)
def test_wrong_binary_data_is_named(tail: bytes, size: object, said: str) -> None:
    price = {"name": "price", "shape": [1], "datatype": "FP64", "parameters": {"binary_data_size": size}}
    text = json.dumps({"inputs": [price, STOCK]}).encode()
    with pytest.raises(RequestError) as refused:
        parse_infer(text + tail, str(len(text)), SCHEMA, FEATURES, "r")
    assert said in refused.value.message


@pytest.mark.parametrize("length", ["-1", "x", "99999", "9" * 500])
def test_a_header_length_beyond_the_body_is_refused(length: str) -> None:
    with pytest.raises(RequestError, match="Inference-Header-Content-Length"):
        parse_infer(b"{}", length, SCHEMA, FEATURES, "r")


def test_text_cut_off_in_binary_data_is_refused() -> None:
    order = {"name": "order_id", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 6}}
    shop = {"name": "shop", "shape": [1], "datatype": "BYTES", "data": ["s1"]}
    text = json.dumps({"inputs": [order, shop, tensor()]}).encode()
    with pytest.raises(RequestError, match="cut off"):
        parse_infer(text + b"\x09\x00\x00\x00ab", str(len(text)), SCHEMA, FEATURES, "r")
