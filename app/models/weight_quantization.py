"""Weights of an exported network in 8 bits; what it computes with them stays in floats.

Each output of a layer has a scale of its own, and weights are rounded to the nearest of 255 steps of it. A row's score
never depends on the rows beside it, as it would where a layer's inputs are quantised by the range of the whole batch.
Matrices take a fourth of their size in the file; nothing is computed faster, because they become floats again first.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from onnx import NodeProto

LARGEST = 127  # symmetric: -128 is left out, so that 0 stays 0


def quantize_weights(path: Path) -> None:
    """Rewrites the file of an ONNX network."""
    import onnx  # half a second that only 8-bit models pay
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    made: dict[tuple[str, int], str] = {}
    for node in graph.node:
        axis = _output_axis(node) if len(node.input) > 1 and node.input[1] in weights else None
        name = node.input[1] if axis is not None else ""
        if axis is not None and len(weights[name].dims) >= 2 and weights[name].data_type == onnx.TensorProto.FLOAT:
            axis %= len(weights[name].dims)
            if (name, axis) not in made:
                codes, scale = quantize(numpy_helper.to_array(weights[name]), axis)
                made[name, axis] = f"{name}_dequantized_{axis}"
                parts = [f"{name}_int8_{axis}", f"{name}_scale_{axis}"]
                graph.initializer.extend(
                    [numpy_helper.from_array(codes, parts[0]), numpy_helper.from_array(scale, parts[1])]
                )
                nodes.append(helper.make_node("DequantizeLinear", parts, [made[name, axis]], axis=axis))
            node.input[1] = made[name, axis]
        nodes.append(node)
    kept = [*(node.input for node in nodes), [output.name for output in graph.output]]
    still_read = {name for names in kept for name in names}
    left = [tensor for tensor in graph.initializer if tensor.name in still_read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(left)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def quantize(weight: npt.NDArray[np.float32], axis: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Codes of a matrix, or of a stack of them, and the scale of each output, which lie along `axis`.

    >>> codes, scale = quantize(np.array([[1.0, -0.5], [0.0, 0.0]], dtype=np.float32), axis=0)
    >>> codes.tolist(), scale.round(4).tolist()
    ([[127, -64], [0, 0]], [0.007899999618530273, 1.0])
    """
    others = tuple(a for a in range(weight.ndim) if a != axis)
    largest = np.abs(weight).max(axis=others)
    scale = np.where(largest > 0, largest / LARGEST, 1.0).astype(np.float32)
    codes = np.rint(weight / np.expand_dims(scale, others)).clip(-LARGEST, LARGEST)
    return codes.astype(np.int8), scale


def _output_axis(node: NodeProto) -> int | None:
    """Along which axis of its second input a node's outputs lie; `None` for a node that is no matrix product."""
    if node.op_type == "MatMul":
        return -1
    if node.op_type == "Gemm":
        transposed = next((a.i for a in node.attribute if a.name == "transB"), 0)
        return 0 if transposed else 1
    return None
