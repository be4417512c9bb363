"""The one transform of training and serving: fitted on training rows only, stored as JSON, applied by the same code.

Numbers are standardised and clipped; a null becomes 0 with a flag of its own where training had nulls. Categories
become codes by falling frequency; 0 stands for unknown, rare and null. Legend: B = rows, F = numeric outputs,
C = categories.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.errors import MissingColumnError, SchemaMismatchError

CLIP = 6.0  # standard deviations; keeps one absurd value from ruling a score
MIN_COUNT = 20  # rarer categories share code 0
FILE = "transform.json"


@dataclass(frozen=True)
class Transform:
    """Fitted state. `flagged`: numeric columns whose nulls get an input of their own."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    flagged: tuple[str, ...]
    vocabularies: tuple[tuple[str, ...], ...]

    @classmethod
    def fit(cls, frame: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]) -> Transform:
        """Learns means, scales, null flags and vocabularies from training rows."""
        values = numeric_matrix(frame, numeric)
        missing = np.isnan(values)
        filled = np.where(missing, 0.0, values)
        count = np.maximum((~missing).sum(axis=0), 1)
        mean = filled.sum(axis=0) / count
        variance = (np.where(missing, 0.0, values - mean) ** 2).sum(axis=0) / count
        scale = np.where(variance > 0, np.sqrt(variance), 1.0)
        vocabularies = []
        for name in categorical:
            counts = category_text(frame[name]).value_counts()
            kept = counts[counts >= min(MIN_COUNT, max(1, len(frame) // 100))]
            vocabularies.append(tuple(by_frequency(kept)))
        return cls(
            tuple(numeric),
            tuple(categorical),
            tuple(map(float, mean)),
            tuple(map(float, scale)),
            tuple(n for n, any_missing in zip(numeric, np.atleast_1d(missing.any(axis=0)), strict=True) if any_missing),
            tuple(vocabularies),
        )

    @property
    def num_numeric(self) -> int:
        """F: values, then null flags."""
        return len(self.numeric) + len(self.flagged)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Codes per categorical column, the 0 included."""
        return tuple(len(v) + 1 for v in self.vocabularies)

    def apply(self, frame: pd.DataFrame) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Numeric matrix [B, F] and codes [B, C] of the rows.

        Raises:
            MissingColumnError: a column the model was trained on is not there.
            SchemaMismatchError: a numeric column holds something else.
        """
        for name in (*self.numeric, *self.categorical):
            if name not in frame.columns:
                raise MissingColumnError(
                    f"the model needs {name!r}, which the rows lack; they have: {', '.join(map(str, frame.columns))}.",
                    column=name,
                )
        values = numeric_matrix(frame, self.numeric)
        missing = np.isnan(values)
        scaled = np.clip((values - np.array(self.mean)) / np.array(self.scale), -CLIP, CLIP)
        flags = missing[:, [self.numeric.index(n) for n in self.flagged]]
        numeric = np.concatenate([np.where(missing, 0.0, scaled), flags], axis=1).astype(np.float32)
        codes = np.zeros((len(frame), len(self.categorical)), dtype=np.int64)
        for i, (name, vocabulary) in enumerate(zip(self.categorical, self.vocabularies, strict=True)):
            code = {text: number for number, text in enumerate(vocabulary, start=1)}
            codes[:, i] = category_text(frame[name]).map(code).fillna(0).to_numpy(dtype=np.int64)
        return numeric, codes

    def save(self, folder: Path) -> None:
        """Writes `transform.json`."""
        (folder / FILE).write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, folder: Path) -> Transform:
        """Reads what `save` wrote."""
        kept = json.loads((folder / FILE).read_text())
        vocabularies = tuple(tuple(v) for v in kept.pop("vocabularies"))
        return cls(**{name: tuple(values) for name, values in kept.items()}, vocabularies=vocabularies)


def numeric_matrix(frame: pd.DataFrame, names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Columns as floats [B, len(names)]; null is NaN, a moment or text is refused.

    Raises:
        SchemaMismatchError: a column is not numeric.
    """
    columns = []
    for name in names:
        try:
            columns.append(pd.to_numeric(frame[name]).to_numpy(dtype=np.float64, na_value=np.nan))
        except (TypeError, ValueError) as error:
            raise SchemaMismatchError(
                f"column {name!r} should be numeric: {error}. Declare it categorical or send numbers.", column=name
            ) from error
    return np.column_stack(columns) if columns else np.zeros((len(frame), 0))


def by_frequency(counts: pd.Series) -> list[str]:
    """Categories by falling count, equal counts by name, so that the order never depends on the rows' order.

    >>> by_frequency(pd.Series({"b": 2, "a": 2, "c": 9}))
    ['c', 'a', 'b']
    """
    return [text for _, text in sorted((-int(count), str(text)) for text, count in counts.items())]


def category_text(column: pd.Series) -> pd.Series:
    """Categories as text, so that 1, 1.0 and "1" are one category; nulls stay nulls."""
    if pd.api.types.is_float_dtype(column.dtype) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    text = column.astype("string").astype(object)
    return text.where(text.notna(), None)
