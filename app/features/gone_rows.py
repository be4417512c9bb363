"""Rows of a view that a correction of their source's row takes away: it moved them to another entity, or made fewer.

The versions of a source's row are ordered by when we wrote them; of those available at a moment the last is the row,
and only what the transform makes of that one counts. What an earlier version made and a later one does not make again
gets a tombstone there: a version of the view's row without an event time, available when the later version is.

What is found depends on the raw table alone. A tombstone belongs to whichever of the two versions was committed last
and is written with it, so it makes no difference which stretch of time, chunk or block is computed first.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import polars as pl
import pyarrow as pa

from app.features.arrow_types import arrow_schema
from app.features.raw_tables import CREATED
from app.features.sources import available_column
from app.features.view_rows import key_fields, stored_fields, view_rows
from app.spec.features import FeatureView

SOURCE_KEY, WITH = "__source_key", "__with"  # the source's row, and when the version was written it is written with
_AVAILABLE, _WRITTEN, _LANDED = "__available", "__written", "__landed"


def gone_rows(view: FeatureView, versions: list[pa.Table], landed: Mapping[datetime, int]) -> pl.DataFrame:
    """Tombstones of a view.

    Args:
        view: the view.
        versions: all versions of the source's corrected rows, each table with at most one of each row.
        landed: by created time of raw rows the sequence number of their commit; one not there landed before the others.

    Returns:
        Columns of `stored_fields(view)`, `SOURCE_KEY` and `WITH`.
    """
    every, made = [], []
    for raw in versions:
        of_source = pl.DataFrame(raw).select(
            pl.col("row_key").alias(SOURCE_KEY), pl.col(CREATED).alias(_WRITTEN),
            pl.col(available_column(view.source)).alias(_AVAILABLE),
        ).drop_nulls(_AVAILABLE)
        every.append(of_source)
        made.append(_made(view, pl.DataFrame(view_rows(view, raw)), of_source))
    identity = [SOURCE_KEY, "row_key", *(f.name for f in key_fields(view))]
    has = pl.concat(made).unique()
    pairs = has.select(identity).unique()
    order = pl.DataFrame(
        {
            _WRITTEN: pl.Series(list(landed), dtype=has.schema[_WRITTEN]),
            _LANDED: pl.Series(list(landed.values()), dtype=pl.Int64),
        }
    )
    steps = (
        pl.concat(every).join(order, on=_WRITTEN, how="left").with_columns(pl.col(_LANDED).fill_null(-1))
        .join(pairs, on=SOURCE_KEY)
        .join(has.with_columns(pl.lit(True).alias("has")), on=[*identity, _WRITTEN], how="left")
        .with_columns(pl.col("has").fill_null(False))
        .sort(_WRITTEN, maintain_order=True)
        .with_columns(pl.col("has").cum_sum().over(identity).alias("run"))  # begins with a version that has the row
        .filter(pl.col("run") > 0)
    )
    run = [*identity, "run"]
    holder_landed, holder = pl.col(_LANDED).first().over(run), pl.col(_WRITTEN).first().over(run)
    ends = pl.when(~pl.col("has")).then(pl.col(_AVAILABLE))
    before = ends.cum_min().shift(1).forward_fill().over(run)  # once gone, it is gone: later ones say nothing new
    gone = steps.with_columns(
        pl.when(holder_landed > pl.col(_LANDED)).then(holder).otherwise(_WRITTEN).alias(WITH), before.alias("before")
    ).filter(~pl.col("has") & (pl.col("before").is_null() | (pl.col(_AVAILABLE) < pl.col("before"))))
    named = gone.rename({_AVAILABLE: "available_timestamp", _WRITTEN: "source_created_timestamp"})
    empty = pl.DataFrame(arrow_schema(stored_fields(view)).empty_table())
    return pl.concat([empty, named.select(c for c in named.columns if c in (*empty.columns, SOURCE_KEY, WITH))],
                     how="diagonal")


def _made(view: FeatureView, rows: pl.DataFrame, of_source: pl.DataFrame) -> pl.DataFrame:
    """Entity and row key of each of a version's rows, with the source's row they were made of; nobody's left out."""
    keys = [f.name for f in key_fields(view)]
    named = rows.select("row_key", *keys, pl.col("source_created_timestamp").alias(_WRITTEN))
    own = pl.col("row_key").is_in(of_source[SOURCE_KEY].implode())
    of = pl.when(own).then("row_key").otherwise(pl.col("row_key").str.replace(r"#\d+$", ""))  # further rows of one
    return named.drop_nulls(keys).with_columns(of.alias(SOURCE_KEY))
