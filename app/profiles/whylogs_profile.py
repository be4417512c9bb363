"""Real whylogs profiles, filled column by column from Arrow. The only module that imports whylogs.

whylogs' own pandas path spends most of its time per value (a float column with nulls: 130 ms per 100k); its sketches
take numpy arrays in one call. So the metrics are chosen by type and fed directly; what comes out is a profile that
whylogs itself reads.

Trap: whylogs 1.6.4 asks numpy for `unicode_`, which numpy 2 no longer has; the alias must exist before the import,
in every process.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

os.environ["WHYLOGS_NO_ANALYTICS"] = "1"
np.unicode_ = np.str_  # type: ignore[attr-defined]

import whylogs_sketching as sketches  # noqa: E402
from whylogs.core.metrics.column_metrics import ColumnCountsMetric, TypeCountersMetric  # noqa: E402
from whylogs.core.metrics.metric_components import (  # noqa: E402
    FractionalComponent,
    FrequentStringsComponent,
    IntegralComponent,
    KllComponent,
)
from whylogs.core.metrics.metrics import DistributionMetric, FrequentItemsMetric  # noqa: E402
from whylogs.core.view.column_profile_view import ColumnProfileView  # noqa: E402
from whylogs.core.view.dataset_profile_view import DatasetProfileView  # noqa: E402

# Exact up to this many rows, the most a sketch can be told: below it a verdict near its threshold does not depend on
# the sketch's coin flips, so two runs decide alike. Beyond it the rank error is about 0.005%. Half a megabyte a column.
KLL_K = 65_535
FREQUENT_LOG_SIZE = 10  # up to 768 distinct values are counted exactly
MAX_TEXT = 128

DatasetProfile = DatasetProfileView


def profile_table(table: pa.Table) -> bytes:
    """Profiles every column of a table and gives the serialised whylogs profile."""
    now = datetime.now(UTC)
    columns = {name: _column(table[name].combine_chunks()) for name in table.column_names}
    view = DatasetProfileView(columns=columns, dataset_timestamp=now, creation_timestamp=now)
    return bytes(view.serialize())


def merge_profiles(profiles: Sequence[bytes]) -> bytes:
    """One profile of all rows of several, merged as a tree."""
    views = [read_profile(p) for p in profiles]
    while len(views) > 1:
        pairs = [views[i : i + 2] for i in range(0, len(views), 2)]
        views = [pair[0].merge(pair[1]) if len(pair) == 2 else pair[0] for pair in pairs]
    return bytes(views[0].serialize())


def read_profile(profile: bytes) -> DatasetProfileView:
    """The whylogs view of a serialised profile."""
    view = DatasetProfileView.deserialize(profile)
    assert isinstance(view, DatasetProfileView)
    return view


def _column(values: pa.Array) -> ColumnProfileView:
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
    present = values.drop_null()
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    floats = present.cast(pa.float64()).to_numpy(zero_copy_only=False) if number else np.zeros(0)
    nan = int(np.isnan(floats).sum())
    metrics = {
        "counts": ColumnCountsMetric(
            n=IntegralComponent(len(values)),
            null=IntegralComponent(values.null_count),
            nan=IntegralComponent(nan),
            inf=IntegralComponent(int(np.isinf(floats).sum())),
            true=IntegralComponent(int(pc.sum(present).as_py() or 0) if pa.types.is_boolean(kind) else 0),
        ),
        "types": _types(kind, len(present)),
    }
    if number:
        metrics["distribution"] = _distribution(floats[np.isfinite(floats)])
    else:
        metrics["frequent_items"] = _frequent(present)
    return ColumnProfileView(metrics, success_count=len(values))


def _types(kind: pa.DataType, count: int) -> TypeCountersMetric:
    names = {
        "integral": pa.types.is_integer(kind),
        "fractional": pa.types.is_floating(kind) or pa.types.is_decimal(kind),
        "boolean": pa.types.is_boolean(kind),
        "string": pa.types.is_string(kind) or pa.types.is_large_string(kind),
    }
    names["object"] = not any(names.values())
    return TypeCountersMetric(
        **{name: IntegralComponent(count if is_kind else 0) for name, is_kind in names.items()},
        tensor=IntegralComponent(0),
    )


def _distribution(values: np.ndarray) -> DistributionMetric:
    sketch = sketches.kll_doubles_sketch(k=KLL_K)
    if len(values):
        sketch.update(array=np.ascontiguousarray(values))
    mean = float(values.mean()) if len(values) else 0.0
    return DistributionMetric(
        kll=KllComponent(sketch),
        mean=FractionalComponent(mean),
        m2=FractionalComponent(float(((values - mean) ** 2).sum())),
    )


def _frequent(present: pa.Array) -> FrequentItemsMetric:
    sketch = sketches.frequent_strings_sketch(FREQUENT_LOG_SIZE)
    for pair in pc.value_counts(present.cast(pa.string())).to_pylist():
        sketch.update(pair["values"][:MAX_TEXT], pair["counts"])
    return FrequentItemsMetric(frequent_strings=FrequentStringsComponent(sketch))
