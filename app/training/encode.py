"""Training rows to encoded rows: the transform is fitted on them and applied once.

A training set in memory is encoded here; one kept as an Iceberg table by Ray Data's workers, block by block, so that no
process ever holds it.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from app.models.artefact import Inputs, Target
from app.models.transform import ColumnStatistics, Transform
from app.spec.models import Task
from app.training.arrays import LABEL, LabelCounts, target_from, to_arrays
from app.training.encoded_rows import EncodedRows, WrittenFile, collect, write_file

if TYPE_CHECKING:
    from app.training.training_table import TrainingTable

ROWS_PER_FILE = 131_072  # of a training set in memory; a block of a table makes one file
SAMPLE_ROWS = 256


@dataclass(frozen=True)
class Encoded:
    """Encoded rows, how they were made, and a few of the rows as they were."""

    rows: EncodedRows
    transform: Transform
    target: Target
    sample: pd.DataFrame


def encode_frame(frame: pd.DataFrame, inputs: Inputs, task: Task, folder: Path, seed: int) -> Encoded:
    """Encodes rows in memory, in a random order that follows from the seed.

    Raises:
        TrainingError: the folder cannot be written to.
    """
    transform = Transform.fit(frame, inputs.numeric, inputs.categorical)
    target = target_from(LabelCounts.of(frame), task)
    arrays = to_arrays(transform, frame, target)
    order = np.random.default_rng(seed).permutation(len(frame))
    shutil.rmtree(folder, ignore_errors=True)
    written = [
        write_file(folder, (name := f"{start:012d}.arrow"), arrays, order[start : start + ROWS_PER_FILE], name)
        for start in range(0, len(order), ROWS_PER_FILE)
    ]
    rows = collect(folder, arrays.numeric.shape[1], arrays.codes.shape[1], written)
    return Encoded(rows, transform, target, frame.head(SAMPLE_ROWS))


def encode_table(table: TrainingTable, inputs: Inputs, task: Task, folder: Path, seed: int, where: str) -> Encoded:
    """Encodes the rows of a table with Ray Data: one pass to fit the transform, one to apply it.

    Raises:
        TrainingError: the rows cannot be learned from, or the folder cannot be written to.
    """
    blocks = table.blocks()
    found = blocks.map_batches(
        _statistics,  # type: ignore[arg-type]
        fn_kwargs={"inputs": inputs}, batch_size=None, batch_format="pandas"
    ).take_all()
    found = sorted(found, key=lambda part: part["block"])  # sums depend on the order
    labels = reduce(add, (part["labels"] for part in found), LabelCounts.of(pd.DataFrame({LABEL: []})))
    labels.check_trainable(task, where)
    transform = Transform.from_statistics(reduce(add, (part["columns"] for part in found)))
    target = target_from(labels, task)
    shutil.rmtree(folder, ignore_errors=True)
    arguments = {"transform": transform, "target": target, "folder": folder, "seed": seed}
    files = blocks.map_batches(
        _encode_block,  # type: ignore[arg-type]
        fn_kwargs=arguments, batch_size=None, batch_format="pandas"
    ).take_all()
    written: Iterable[WrittenFile] = (part["file"] for part in files)
    rows = collect(folder, transform.num_numeric, len(transform.categorical), written)
    return Encoded(rows, transform, target, table.sample(SAMPLE_ROWS))


def _statistics(block: pd.DataFrame, inputs: Inputs) -> dict[str, Any]:
    columns = ColumnStatistics.of(block, inputs.numeric, inputs.categorical)
    return {"block": [_content(block)], "columns": [columns], "labels": [LabelCounts.of(block)]}


def _encode_block(
    block: pd.DataFrame, transform: Transform, target: Target, folder: Path, seed: int
) -> dict[str, Any]:
    arrays = to_arrays(transform, block, target)
    order = np.random.default_rng(seed).permutation(len(block))
    return {"file": [write_file(folder, f"{uuid.uuid4().hex}.arrow", arrays, order, _content(block))]}


def _content(block: pd.DataFrame) -> str:
    """The same for the same rows, whichever task reads them: blocks are put in this order."""
    return f"{pd.util.hash_pandas_object(block, index=False).sum():020d}-{len(block):09d}"
