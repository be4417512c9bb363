"""Are two model folders the same model? Every number in them is compared, whatever the format it is kept in."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from app.models.artefact import EXPORT_DIFFERENCE, MANIFEST, SCORES, ServableModel

# Differ between two writings of the same object: memory addresses, and the writer's own version.
SKOPS_NOISE = frozenset({"__id__", "_skops_version", "protocol"})


@dataclass(frozen=True)
class Comparison:
    """`equal`: every array, setting and category is the same to the bit.

    `differing`: names of what is not, the first few. `weight_difference`: largest difference of a weight, `None` where
    shapes differ. `score_difference` and `mean_score_difference`: of the scores on the rows that were given.
    """

    equal: bool
    num_arrays: int
    differing: tuple[str, ...]
    weight_difference: float | None
    score_difference: float
    mean_score_difference: float


def compare_models(first: Path, second: Path, rows: pd.DataFrame) -> Comparison:
    """Compares two sealed folders by their contents and by what they answer on `rows`.

    Raises:
        ModelError: a folder holds no model, or one that was changed.
    """
    scores = [ServableModel.load(folder).predict(rows) for folder in (first, second)]
    gaps = np.abs(scores[0] - scores[1])
    mine, theirs = (dict(_contents(folder)) for folder in (first, second))
    differing = [name for name in sorted({*mine, *theirs}) if not _same(mine.get(name), theirs.get(name))]
    arrays = [name for name, value in mine.items() if isinstance(value, np.ndarray)]
    return Comparison(
        equal=not differing,
        num_arrays=len(arrays),
        differing=tuple(differing[:10]),
        weight_difference=_largest_difference(mine, theirs, arrays),
        score_difference=float(gaps.max(initial=0.0)),
        mean_score_difference=float(gaps.mean()) if len(gaps) else 0.0,
    )


def _contents(folder: Path) -> Iterator[tuple[str, Any]]:
    """Arrays and plain values by name."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["metadata"].pop(EXPORT_DIFFERENCE, None)  # measured, not learned
    for key in ("kind", "task", "feature_names", "categorical", "metadata"):
        yield f"{MANIFEST}/{key}", manifest[key]
    yield f"{MANIFEST}/{SCORES}", manifest.get(SCORES, [])
    for name in sorted(manifest["sha256"]):
        path = folder / name
        if path.suffix == ".onnx":
            yield from _of_onnx(path, name)
        elif path.suffix == ".skops":
            yield from _of_skops(path, name)
        elif path.suffix == ".safetensors":
            yield from _of_safetensors(path, name)
        elif path.suffix == ".json":
            yield name, json.loads(path.read_text())
        else:
            yield name, path.read_bytes()


def _of_onnx(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    for initializer in graph.initializer:
        yield f"{name}/{initializer.name}", numpy_helper.to_array(initializer)
    yield f"{name}/operators", [node.op_type for node in graph.node]


def _of_safetensors(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    from safetensors.numpy import load_file

    for part, array in load_file(path).items():
        yield f"{name}/{part}", array


def _of_skops(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        schema = json.loads(archive.read("schema.json"))
        yield from _of_node(schema, name, archive)


def _of_node(node: Any, where: str, archive: zipfile.ZipFile) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        if str(node.get("file", "")).endswith(".npy"):
            with archive.open(node["file"]) as file:
                yield where, np.lib.format.read_array(file, allow_pickle=False)
        for key, value in node.items():
            if key not in SKOPS_NOISE and key != "file":
                yield from _of_node(value, f"{where}/{key}", archive)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _of_node(value, f"{where}/{index}", archive)
    else:
        yield where, node


def _same(first: Any, second: Any) -> bool:
    if not isinstance(first, np.ndarray) or not isinstance(second, np.ndarray):
        return type(first) is type(second) and first == second
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    if first.dtype.names:  # field by field: the bytes between fields mean nothing
        return all(_same(first[name], second[name]) for name in first.dtype.names)
    return bool(np.array_equal(first, second, equal_nan=first.dtype.kind == "f"))


def _largest_difference(mine: dict[str, Any], theirs: dict[str, Any], names: list[str]) -> float | None:
    largest = 0.0
    for name in names:
        first, second = mine[name], theirs.get(name)
        if not isinstance(second, np.ndarray) or first.shape != second.shape:
            return None
        if first.dtype.kind == "f" and first.size:
            largest = max(largest, float(np.nanmax(np.abs(first.astype(np.float64) - second.astype(np.float64)))))
    return largest
