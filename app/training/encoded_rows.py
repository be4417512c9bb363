"""Training rows as a network reads them, kept as Arrow files that workers read in place.

A row is encoded once and read in every epoch. Files are uncompressed Arrow IPC: a worker maps them into memory and
copies the rows of a window, nothing else. Legend: B = rows, F = numeric inputs, C = categories.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from app.errors import TrainingError
from app.training.arrays import Arrays
from app.training.data_plan import Window

CHUNK_ROWS = 1_024  # shuffled as one; also what a window reads at least of a file
MANIFEST = "rows.json"


@dataclass(frozen=True)
class EncodedRows:
    """Files of encoded rows. `chunks`: for each chunk its file, its batch within the file, and its rows."""

    folder: Path
    num_numeric: int
    num_codes: int
    files: tuple[str, ...]
    chunks: tuple[tuple[int, int, int], ...]

    @property
    def chunk_rows(self) -> tuple[int, ...]:
        return tuple(rows for _, _, rows in self.chunks)

    @property
    def num_rows(self) -> int:
        return sum(self.chunk_rows)

    @property
    def row_bytes(self) -> int:
        """In memory: numbers as float32, codes as int64, the label as float32."""
        return 4 * self.num_numeric + 8 * self.num_codes + 4

    def read(self, window: Window, seed: int) -> Arrays:
        """The rows of a window in their shuffled order."""
        numeric, codes, label = [], [], []
        for part in window.parts:
            file, batch, _ = self.chunks[part.chunk]
            rows = _reader(str(self.folder / self.files[file])).get_batch(batch).slice(
                part.start, part.stop - part.start
            )
            numeric.append(_matrix(rows.column(0), self.num_numeric))
            codes.append(_matrix(rows.column(1), self.num_codes))
            label.append(rows.column(2).to_numpy())
        order = window.order(seed, sum(len(part) for part in label))
        return Arrays(
            np.concatenate(numeric)[order], np.concatenate(codes)[order].astype(np.int64), np.concatenate(label)[order]
        )

    def save(self) -> None:
        """Writes the manifest, after all files."""
        (self.folder / MANIFEST).write_text(json.dumps({**asdict(self), "folder": None}))

    @classmethod
    def load(cls, folder: Path) -> EncodedRows | None:
        """What `save` wrote, `None` where it has not."""
        if not (folder / MANIFEST).exists():
            return None
        kept = json.loads((folder / MANIFEST).read_text())
        chunks = tuple(tuple(chunk) for chunk in kept["chunks"])
        return cls(folder, kept["num_numeric"], kept["num_codes"], tuple(kept["files"]), chunks)


@dataclass(frozen=True)
class WrittenFile:
    """A file of encoded rows: its name in the folder, its place among the files, and the rows of each of its chunks."""

    name: str
    place: str
    chunk_rows: tuple[int, ...]


def write_file(folder: Path, name: str, arrays: Arrays, order: np.ndarray, place: str) -> WrittenFile:
    """Writes the rows in this order, in chunks.

    Raises:
        TrainingError: the folder cannot be written to.
    """
    schema = pa.schema(
        [
            ("numeric", pa.list_(pa.float32(), arrays.numeric.shape[1])),
            ("codes", pa.list_(pa.int32(), arrays.codes.shape[1])),
            ("label", pa.float32()),
        ]
    )
    chunk_rows = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for start in range(0, len(order), CHUNK_ROWS):
                part = arrays.take(order[start : start + CHUNK_ROWS])
                columns = [
                    _lists(part.numeric, pa.float32()), _lists(part.codes.astype(np.int32), pa.int32()),
                    pa.array(part.label, pa.float32()),
                ]
                writer.write_batch(pa.record_batch(columns, schema=schema))
                chunk_rows.append(len(part.label))
    except OSError as error:
        raise TrainingError(
            f"the encoded training rows cannot be written to {folder}: {error}. Free space there, or set MILLRACE_HOME "
            "to a folder that has it.", folder=str(folder),
        ) from error
    return WrittenFile(name, place, tuple(chunk_rows))


def collect(folder: Path, num_numeric: int, num_codes: int, written: Iterable[WrittenFile]) -> EncodedRows:
    """The rows of all files, each in its place, so that their order never depends on who wrote first."""
    files = sorted((f for f in written if f.chunk_rows), key=lambda f: f.place)
    chunks = tuple((i, k, rows) for i, file in enumerate(files) for k, rows in enumerate(file.chunk_rows))
    rows = EncodedRows(folder, num_numeric, num_codes, tuple(f.name for f in files), chunks)
    rows.save()
    return rows


@lru_cache(maxsize=64)
def _reader(path: str) -> pa.ipc.RecordBatchFileReader:
    return pa.ipc.open_file(pa.memory_map(path))


def _lists(values: np.ndarray, kind: pa.DataType) -> pa.FixedSizeListArray:
    width = values.shape[1]
    flat = pa.array(np.ascontiguousarray(values).reshape(-1), kind)
    if width:
        return pa.FixedSizeListArray.from_arrays(flat, width)
    empty: pa.FixedSizeListArray = pa.array([[] for _ in range(len(values))], pa.list_(kind, 0))
    return empty


def _matrix(column: pa.FixedSizeListArray, width: int) -> np.ndarray:
    if not width:
        return np.zeros((len(column), 0), dtype=np.float32)
    flat: np.ndarray = column.flatten().to_numpy(zero_copy_only=True).reshape(-1, width)
    return flat
