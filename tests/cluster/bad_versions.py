"""Versions of the shop's model that harm whoever serves them: real artefacts, each bad in its own way."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import torch
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression

from app.models.artefact import ONNX, SKOPS, Inputs, seal
from app.models.export import save_estimator, save_torch
from app.models.transform import Transform
from app.settings import Settings
from tests.cluster.serving_app import save_version

SLOW_S = 1.0  # of one request, on this machine when it is idle
INPUTS = Inputs(("price", "stock"), ())
CHUNK_FLOATS, NUM_CHUNKS = 16_000_000, 60  # 64 MB that a greedy version takes again and again


def _floats(name: str, values: list[float]) -> onnx.NodeProto:
    tensor = helper.make_tensor(name, TensorProto.FLOAT, [len(values)], values)
    return helper.make_node("Constant", [], [name], value=tensor)


def _loop_network(num_turns: int, step: list[onnx.NodeProto], start: list[onnx.NodeProto]) -> bytes:
    """`output` [B] = what the loop carried (its largest value) + 0 × the rows; a turn makes `held_out` of `held`."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), *step], "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held", TensorProto.FLOAT, [None]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held_out", TensorProto.FLOAT, [None]),
        ],
    )
    nodes = [
        *start,
        helper.make_node("Loop", ["num_turns", "true", "first"], ["last"], body=body),
        helper.make_node("ReduceMax", ["last"], ["most"], keepdims=0),
        helper.make_node("ReduceSum", ["numeric", "columns"], ["sums"], keepdims=0),
        helper.make_node("Mul", ["sums", "nought"], ["nothing"]),
        helper.make_node("Add", ["nothing", "most"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["batch", None])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch"])],
        [
            helper.make_tensor("num_turns", TensorProto.INT64, [], [num_turns]),
            helper.make_tensor("true", TensorProto.BOOL, [], [True]),
            helper.make_tensor("columns", TensorProto.INT64, [1], [1]),
            helper.make_tensor("nought", TensorProto.FLOAT, [], [0.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _turning(num_turns: int) -> bytes:
    """Takes time for each turn, and nothing else."""
    return _loop_network(
        num_turns, [helper.make_node("Sin", ["held"], ["held_out"])], [_floats("first", [0.5])]
    )


def _growing() -> bytes:
    """Holds another chunk of memory after each turn."""
    shape = helper.make_tensor("size", TensorProto.INT64, [1], [CHUNK_FLOATS])
    step = [
        helper.make_node("Constant", [], ["chunk_size"], value=shape),
        helper.make_node("ConstantOfShape", ["chunk_size"], ["chunk"]),
        helper.make_node("Concat", ["held", "chunk"], ["held_out"], axis=0),
    ]
    return _loop_network(NUM_CHUNKS, step, [_floats("first", [0.5])])


def _turns_in(duration_s: float) -> int:
    """How many turns take about so long."""
    num_turns = 100_000
    session = onnxruntime.InferenceSession(_turning(num_turns), providers=["CPUExecutionProvider"])
    rows = {"numeric": np.zeros((1, 2), dtype=np.float32)}
    session.run(None, rows)
    began = time.perf_counter()
    session.run(None, rows)
    return int(num_turns * duration_s / (time.perf_counter() - began))


def _save_network(folder: Path, network: bytes) -> None:
    sample = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 2)), columns=list(INPUTS.feature_names))
    transform = Transform.fit(sample, INPUTS.feature_names, ())

    class First(torch.nn.Module):
        def forward(self, numeric: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
            return numeric[:, 0]

    save_torch(folder, First(), transform, "binary", INPUTS, sample, {})
    (folder / ONNX).write_bytes(network)
    seal(folder, "torch", "binary", INPUTS, {"target": {"mean": 0.0, "scale": 1.0}})


def save_slow(settings: Settings, version: str) -> None:
    """Answers well, but takes `SLOW_S`."""
    _save_network(settings.artefacts / "shop" / version, _turning(_turns_in(SLOW_S)))


def save_greedy(settings: Settings, version: str) -> None:
    """Takes gigabytes of memory over each request."""
    _save_network(settings.artefacts / "shop" / version, _growing())


def save_throwing(settings: Settings, version: str) -> None:
    """Asks for a column that nobody has."""
    save_version(settings, version, inputs=("price", "colour"))


def save_nan(settings: Settings, version: str) -> None:
    """Says NaN to every row."""
    rows = np.random.default_rng(0).normal(size=(50, 2))
    estimator = LogisticRegression().fit(rows, rows.sum(axis=1) > 0)
    estimator.coef_ = np.full_like(estimator.coef_, np.nan)
    save_estimator(settings.artefacts / "shop" / version, estimator, "binary", INPUTS, {}, {})


def save_hanging(settings: Settings, version: str) -> None:
    """Never ends to load: one of its files is a pipe that nobody writes to."""
    save_version(settings, version)
    weights = settings.artefacts / "shop" / version / SKOPS
    weights.unlink()
    os.mkfifo(weights)


SAVE: dict[str, Callable[[Settings, str], None]] = {
    "slow": save_slow, "throwing": save_throwing, "nan": save_nan, "greedy": save_greedy, "hanging": save_hanging,
}
