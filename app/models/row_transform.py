"""A fitted transform for a few rows: the same numbers as `Transform.apply`, bit for bit, without a frame.

Making a pandas frame costs a millisecond, thirty times what a small network takes for a row. What this does not cover
(texts among numbers, values of mixed types) is left to the frame's way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from app.models.transform import CLIP, Transform

MAX_ROWS = 64
MAX_EXACT = 2**53  # beyond it an integer column with nulls loses digits in a frame

NUMBERS = {float, int, bool, type(None)}

Arrays = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


class RowTransform:
    """What can be prepared of a transform, prepared once."""

    def __init__(self, transform: Transform) -> None:
        self._numeric = transform.numeric
        self._categorical = transform.categorical
        self._mean = np.array(transform.mean)
        self._scale = np.array(transform.scale)
        self._flagged = [transform.numeric.index(name) for name in transform.flagged]
        self._columns = list(zip(self._numeric, transform.mean, transform.scale, strict=True))
        self._codes = [{text: n for n, text in enumerate(v, start=1)} for v in transform.vocabularies]

    def apply(self, rows: Sequence[Mapping[str, Any]]) -> Arrays | None:
        """Numeric matrix [B, F] and codes [B, C], or `None` where a frame must be made.

        Raises:
            KeyError: a row lacks a column.
        """
        if len(rows) == 1:
            return self._apply_one(rows[0])
        given = [[row[name] for name in self._numeric] for row in rows]
        kinds = {type(value) for row in given for value in row}
        if not kinds <= NUMBERS:
            return None
        if int in kinds and any(isinstance(v, int) and not -MAX_EXACT < v < MAX_EXACT for row in given for v in row):
            return None
        values = np.array(given, dtype=np.float64)  # a null becomes NaN
        codes = np.zeros((len(rows), len(self._categorical)), dtype=np.int64)
        for c, (name, code) in enumerate(zip(self._categorical, self._codes, strict=True)):
            texts = _texts([row[name] for row in rows])
            if texts is None:
                return None
            for b, text in enumerate(texts):
                codes[b, c] = 0 if text is None else code.get(text, 0)
        with np.errstate(over="ignore"):  # beyond every float is beyond the clip
            numeric = np.minimum(np.maximum((values - self._mean) / self._scale, -CLIP), CLIP)
        missing = np.isnan(values)
        if missing.any():
            numeric = np.where(missing, 0.0, numeric)
        if self._flagged:
            numeric = np.concatenate([numeric, missing[:, self._flagged]], axis=1)
        return numeric.astype(np.float32), codes

    def _apply_one(self, row: Mapping[str, Any]) -> Arrays | None:
        """The same for one row: of so few numbers, the calls of numpy would take longer than the arithmetic."""
        numeric, missing = [], []
        for name, mean, scale in self._columns:
            value = row[name]
            kind = type(value)
            if kind not in NUMBERS or (kind is int and not -MAX_EXACT < value < MAX_EXACT):
                return None
            lacks = value is None or value != value
            missing.append(lacks)
            numeric.append(0.0 if lacks else min(max((value - mean) / scale, -CLIP), CLIP))
        numeric += [missing[place] for place in self._flagged]
        codes = []
        for name, code in zip(self._categorical, self._codes, strict=True):
            value = row[name]
            if type(value) is int and -MAX_EXACT < value < MAX_EXACT:
                value = str(value)
            elif value is not None and type(value) is not str:
                return None
            codes.append(0 if value is None else code.get(value, 0))
        return np.array([numeric], dtype=np.float32), np.array([codes], dtype=np.int64)


def _texts(column: list[Any]) -> list[str | None] | None:
    """Categories as `category_text` writes them, or `None` for a column it would have to look at as a whole."""
    kinds = {type(value) for value in column if value is not None}
    if kinds <= {str}:
        return column
    if kinds == {int} and all(v is None or -MAX_EXACT < v < MAX_EXACT for v in column):
        return [None if v is None else str(v) for v in column]
    return None
