"""Sketches of windows: quantiles and distinct counts, mergeable in any order with the same bits. Pure.

A sketch is a multiset of whole numbers, its *codes*. Merging adds weights of equal codes, so neither the order of rows
nor the cut into tiles matters, and training and serving agree to the last bit.

**Quantile.** A value's code is its sign, its exponent and the first 6 bits of its fraction: buckets whose bounds differ
by at most one part in 64. The answer is the harmonic mean of the bounds of the bucket that holds the value of rank
`floor(q * (n - 1))` (counted from 0): within 0.78% of that value, relative to it. Magnitudes below 2.3e-308 count as 0.
No logarithm is taken, so every machine computes the same code.
Source: Masson, Rim, Lee: DDSketch, a fast and fully-mergeable quantile sketch with relative-error guarantees, VLDB
2019, with its linearly interpolated mapping.

**Distinct count.** A code is a 63-bit hash of the value; the `DISTINCT_KEPT` smallest codes of a set are kept. Below
that many the count is exact; from there on it is `(k - 1) / (k-th smallest hash as a share of all hashes)`, whose
standard error is 1 / sqrt(k - 2), 3.1% at k = 1,024.
Source: Bar-Yossef et al.: Counting distinct elements in a data stream, RANDOM 2002; Beyer et al.: On synopses for
distinct-value estimation under multiset operations, SIGMOD 2007.

Legend: N = rows, E = entries (a code of a tile), Q = questions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import polars as pl

FRACTION_BITS = 6
DISTINCT_KEPT = 1_024
NOTHING = -(2**63)  # the code of a null
_SHIFT = 52 - FRACTION_BITS
QUANTILE, DISTINCT = "quantile", "distinct"


def quantile_codes(values: np.ndarray) -> np.ndarray:
    """Buckets of float64 values [N]; `NOTHING` for NaN.

    >>> quantile_codes(np.array([0.0, 1.0, 1.01, 1.02, -1.0])).tolist()
    [0, 65472, 65472, 65473, -65473]
    """
    magnitude = np.abs(values).view(np.int64) >> _SHIFT
    codes: np.ndarray = np.where(values < 0, -1 - magnitude, magnitude)
    return np.where(np.isnan(values), NOTHING, codes)


def quantile_values(codes: np.ndarray) -> np.ndarray:
    """The value that stands for each bucket: float64 [N]."""
    magnitude = np.where(codes < 0, -1 - codes, codes)
    low, high = ((magnitude + i << _SHIFT).view(np.float64) for i in (0, 1))
    inside = np.isfinite(high)  # the last bucket and infinity itself stand for their lower bound
    middle = np.where(inside, low * (2 / (1 + low / np.where(inside, high, 1.0))), low)
    return np.where(codes < 0, -middle, middle)


def distinct_codes(column: pl.Series) -> np.ndarray:
    """Hashes of any column of single values [N]; `NOTHING` for null. Equal values of the column's type hash alike."""
    if column.dtype == pl.String:
        known = column.unique().drop_nulls()
        hashes = [_text_hash(text) for text in known]
        return column.replace_strict(known, pl.Series(hashes, dtype=pl.Int64), default=NOTHING).to_numpy()
    if column.dtype.is_float():
        column = column.fill_nan(None)
        bits = (column.cast(pl.Float64).fill_null(0.0).to_numpy() + 0.0).view(np.uint64)
    else:
        whole = column.dt.epoch("us") if isinstance(column.dtype, pl.Datetime) else column.to_physical()
        bits = whole.cast(pl.Int64).fill_null(0).to_numpy().view(np.uint64)
    return np.where(column.is_null().to_numpy(), NOTHING, (_mixed(bits) >> np.uint64(1)).view(np.int64))


def _text_hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def _mixed(bits: np.ndarray) -> np.ndarray:
    """SplitMix64's output function.

    Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014.
    """
    z = bits + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)), dtype=np.uint64)


@dataclass(frozen=True)
class Entries:
    """Sketches of tiles: the codes of each `(slot, entity, tile)` with their weights, sorted by all of them: [E] each.

    `slot`: number of the sketch among those of the hop.
    """

    slot: np.ndarray
    entity: np.ndarray
    index: np.ndarray
    code: np.ndarray
    weight: np.ndarray

    @classmethod
    def none(cls) -> Entries:
        """No entries."""
        return cls(*(np.empty(0, dtype=np.int64) for _ in range(5)))

    def where(self, chosen: np.ndarray) -> Entries:
        """Entries by mask or position."""
        return Entries(
            self.slot[chosen], self.entity[chosen], self.index[chosen], self.code[chosen], self.weight[chosen]
        )


def merged_entries(kinds: Sequence[str], parts: Sequence[Entries]) -> Entries:
    """Entries of all parts, equal codes of a tile added up, of distinct counts the smallest kept.

    Args:
        kinds: of each slot.
        parts: in any order, each sorted or not.
    """
    slot, entity, index, code, weight = (
        np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(Entries)
    )
    known = code != NOTHING
    order = np.flatnonzero(known)[np.lexsort((code[known], index[known], entity[known], slot[known]))]
    slot, entity, index, code, weight = (a[order] for a in (slot, entity, index, code, weight))
    if len(code) == 0:
        return Entries.none()
    new_tile = np.append(True, (np.diff(slot) != 0) | (np.diff(entity) != 0) | (np.diff(index) != 0))
    starts = np.flatnonzero(new_tile | np.append(True, np.diff(code) != 0))
    total = np.add.reduceat(weight, starts)
    tile_of = np.cumsum(new_tile)[starts]
    rank = np.arange(len(starts)) - np.searchsorted(tile_of, tile_of)
    distinct = np.array([kind == DISTINCT for kind in kinds])[slot[starts]]
    result = Entries(slot[starts], entity[starts], index[starts], code[starts], np.where(distinct, 1, total))
    return result.where(~distinct | (rank < DISTINCT_KEPT))


@dataclass(frozen=True)
class Ranges:
    """Codes and, for each question, which stretch of them counts: `code`, `weight` [E]; `begin`, `stop` [Q]."""

    code: np.ndarray
    weight: np.ndarray
    begin: np.ndarray
    stop: np.ndarray


MAX_ENTRIES = 4_000_000  # looked at at once; bounds memory, never the result


def estimate(kind: str, quantile: float | None, parts: Sequence[Ranges]) -> np.ndarray:
    """The sketch's answer for each question: float64 with NaN where there is none, int64 for distinct counts: [Q]."""
    sizes = np.sum([part.stop - part.begin for part in parts], axis=0)
    num_questions = len(sizes)
    result = np.zeros(num_questions, dtype=np.int64) if kind == DISTINCT else np.full(num_questions, np.nan)
    filled = np.concatenate([[0], np.cumsum(sizes)])
    start = 0
    while start < num_questions:
        end = max(int(np.searchsorted(filled, filled[start] + MAX_ENTRIES, side="right")) - 1, start + 1)
        _estimate(kind, quantile, parts, slice(start, end), result[start:end])
        start = end
    return result


def _estimate(kind: str, quantile: float | None, parts: Sequence[Ranges], asked: slice, result: np.ndarray) -> None:
    """Fills `result` for some of the questions."""
    questions, codes, weights = [], [], []
    for part in parts:
        lengths = part.stop[asked] - part.begin[asked]
        shift = part.begin[asked] - (np.cumsum(lengths) - lengths)
        at = np.arange(int(lengths.sum())) + np.repeat(shift, lengths)
        questions.append(np.repeat(np.arange(len(lengths)), lengths))
        codes.append(part.code[at])
        weights.append(part.weight[at])
    question, code, weight = map(np.concatenate, (questions, codes, weights))
    known = code != NOTHING
    question, code, weight = question[known], code[known], weight[known]
    if len(code) == 0:
        return
    order = np.lexsort((code, question))
    question, code, weight = question[order], code[order], weight[order]
    starts = np.flatnonzero(np.append(True, (np.diff(question) != 0) | (np.diff(code) != 0)))
    question, code, weight = question[starts], code[starts], np.add.reduceat(weight, starts)
    first = np.flatnonzero(np.append(True, np.diff(question) != 0))
    asked_for = question[first]
    if kind == DISTINCT:
        result[asked_for] = _distinct(code, first)
    else:
        assert quantile is not None
        result[asked_for] = _quantile(code, weight, first, quantile)


def _distinct(code: np.ndarray, first: np.ndarray) -> np.ndarray:
    count = np.diff(np.append(first, len(code)))
    large = np.flatnonzero(count >= DISTINCT_KEPT)
    share = (code[first[large] + DISTINCT_KEPT - 1] + 1.0) / 2.0**63
    count[large] = np.rint((DISTINCT_KEPT - 1) / share)
    return count


def _quantile(code: np.ndarray, weight: np.ndarray, first: np.ndarray, quantile: float) -> np.ndarray:
    total = np.add.reduceat(weight, first)
    before = np.cumsum(weight)
    offset = before[first] - weight[first]
    rank = np.floor(quantile * (total - 1)).astype(np.int64)
    return quantile_values(code[np.searchsorted(before, offset + rank, side="right")])
