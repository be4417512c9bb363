"""The one transform of training and serving: fitted on training rows only, stored as JSON, applied by the same code.

Numbers are standardised and clipped; a null becomes 0 with a flag of its own where training had nulls. Categories
become codes by falling frequency; 0 stands for unknown, rare and null. Beside them a transform knows where nearly all
training rows lay and the edges of bins with about equally many of them: a network may encode numbers by these. Legend:
B = rows, F = numeric outputs, C = categories.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from app.errors import MissingColumnError, SchemaMismatchError
from app.models.row_sample import RowSample

CLIP = 6.0  # standard deviations; keeps one absurd value from ruling a score
TAIL = 0.02  # share of the training rows beyond each bound of a number
NUM_BINS = 16
MIN_COUNT = 20  # rarer categories share code 0
FILE = "transform.json"


@dataclass(frozen=True)
class ColumnStatistics:
    """What a transform is fitted from; those of parts of the rows add up to those of all.

    `count`, `mean`, `squares` [F]: numbers that are not null, their mean, and the sum of squared distances from it.
    `smallest`, `largest` [F]: their range (infinities where all are null). `sample`: what quantiles are read from.
    `counts`: how often each category occurs, for each categorical column.
    """

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    num_rows: int
    count: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]
    smallest: npt.NDArray[np.float64]
    largest: npt.NDArray[np.float64]
    sample: RowSample
    counts: tuple[Counter[str], ...]

    @classmethod
    def of(cls, frame: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]) -> ColumnStatistics:
        """Counts the rows of a frame."""
        values = numeric_matrix(frame, numeric)
        missing = np.isnan(values)
        count = (~missing).sum(axis=0)
        mean = np.where(missing, 0.0, values).sum(axis=0) / np.maximum(count, 1)
        squares = (np.where(missing, 0.0, values - mean) ** 2).sum(axis=0)
        texts = [category_text(frame[name]) for name in categorical]
        return cls(
            tuple(numeric),
            tuple(categorical),
            len(frame),
            count,
            mean,
            squares,
            np.where(missing, np.inf, values).min(axis=0, initial=np.inf),
            np.where(missing, -np.inf, values).max(axis=0, initial=-np.inf),
            RowSample.of(values, texts),
            tuple(Counter(text.dropna().tolist()) for text in texts),
        )

    def __add__(self, other: ColumnStatistics) -> ColumnStatistics:
        """Statistics of both parts together. Source: Chan, Golub, LeVeque (1983), the pairwise update of a variance."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        apart = other.mean - self.mean
        return ColumnStatistics(
            self.numeric,
            self.categorical,
            self.num_rows + other.num_rows,
            count,
            self.mean + apart * share,
            self.squares + other.squares + apart**2 * self.count * share,
            np.minimum(self.smallest, other.smallest),
            np.maximum(self.largest, other.largest),
            self.sample + other.sample,
            tuple(mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)),
        )


@dataclass(frozen=True)
class Transform:
    """Fitted state. `flagged`: numeric columns whose nulls get an input of their own.

    `bounds`: what all but `TAIL` of the training rows had at either end; `edges`: of each number's bins, rising, both
    ends included. Both in standard deviations from the mean, within `CLIP`.
    """

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    bounds: tuple[tuple[float, ...], ...]
    edges: tuple[tuple[float, ...], ...]
    flagged: tuple[str, ...]
    vocabularies: tuple[tuple[str, ...], ...]

    @classmethod
    def fit(cls, frame: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]) -> Transform:
        """Learns means, scales, null flags and vocabularies from training rows."""
        return cls.from_statistics(ColumnStatistics.of(frame, numeric, categorical))

    @classmethod
    def from_statistics(cls, rows: ColumnStatistics) -> Transform:
        """The transform of the rows that were counted, wherever and in however many parts."""
        count = np.maximum(rows.count, 1)
        variance = rows.squares / count
        scale = np.where(variance > 0, np.sqrt(variance), 1.0)
        bins = [_bins(rows, i, scale[i]) for i in range(len(rows.numeric))]
        at_least = min(MIN_COUNT, max(1, rows.num_rows // 100))
        return cls(
            rows.numeric,
            rows.categorical,
            tuple(map(float, rows.mean)),
            tuple(map(float, scale)),
            tuple(bounds for bounds, _ in bins),
            tuple(edges for _, edges in bins),
            tuple(name for name, count in zip(rows.numeric, rows.count, strict=True) if count < rows.num_rows),
            tuple(
                tuple(by_frequency(pd.Series({k: v for k, v in counts.items() if v >= at_least}, dtype=np.int64)))
                for counts in rows.counts
            ),
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
        with np.errstate(over="ignore"):  # beyond every float is beyond the clip
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
        nested = ("bounds", "edges", "vocabularies")
        values: dict[str, Any] = {k: tuple(map(tuple, v)) if k in nested else tuple(v) for k, v in kept.items()}
        return cls(**values)


def _bins(rows: ColumnStatistics, column: int, scale: float) -> tuple[tuple[float, float], tuple[float, ...]]:
    """Bounds and bin edges of a numeric column, scaled. A column that nearly always has one value keeps its range."""
    if not rows.count[column]:
        return (0.0, 0.0), (0.0,)
    smallest, largest = rows.smallest[column], rows.largest[column]
    low, high = rows.sample.quantiles(column, np.array([TAIL, 1 - TAIL]))
    if low == high:
        low, high = smallest, largest
    inner = rows.sample.quantiles(column, np.arange(1, NUM_BINS) / NUM_BINS)
    found = (np.array([low, high, smallest, *inner, largest]) - rows.mean[column]) / scale
    low, high, *edges = np.clip(found, -CLIP, CLIP)
    return (float(low), float(high)), tuple(map(float, np.unique(edges)))


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
