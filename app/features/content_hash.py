"""One text for the content of a table, the same for the same rows in any order and any number of blocks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from app.features.arrow_types import to_pandas

_MASK = (1 << 64) - 1


def content_hash(tables: Iterable[pa.Table]) -> str:
    """Sums of the rows' hashes under two mixings, and their number. Equal rows count each time (unlike an xor).

    It finds the same content again; it is no defence against someone who forges it.
    """
    return combined([hash_parts(table) for table in tables])


HashParts = tuple[int, int, int]


def hash_parts(table: pa.Table) -> HashParts:
    """What one table adds to the hash: two sums and its number of rows."""
    hashes = row_hashes(table)
    mixed = hashes * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    return int(hashes.sum(dtype=np.uint64)), int(mixed.sum(dtype=np.uint64)), table.num_rows


def combined(parts: Sequence[HashParts]) -> str:
    """The hash of several tables together."""
    first, second, rows = (sum(part[i] for part in parts) for i in range(3))
    return f"{first & _MASK:016x}{second & _MASK:016x}-{rows}"


def row_hashes(table: pa.Table) -> np.ndarray:
    """A 64-bit hash of each row's values (pandas' SipHash, the same in every process)."""
    if table.num_rows == 0:
        return np.zeros(0, np.uint64)
    for index, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            texts = [json.dumps(value, default=str, sort_keys=True) for value in table[field.name].to_pylist()]
            table = table.set_column(index, field.name, pa.array(texts, pa.string()))
        elif pa.types.is_timestamp(field.type):
            table = table.set_column(index, field.name, table[field.name].cast(pa.int64()))
    return np.asarray(pd.util.hash_pandas_object(to_pandas(table), index=False), dtype=np.uint64)
