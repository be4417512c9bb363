"""What a large raw table holds is compared in Ray's workers, part by part."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
import ray
import ray.data

from app.features.arrow_types import conform
from app.features.known_rows import known_rows
from app.features.raw_snapshot import raw_snapshot
from app.features.raw_tables import CREATED, raw_rows, raw_table
from app.features.sources import raw_schema
from app.foundation.lake import Lake
from app.settings import Settings
from app.spec import CsvFiles, Field, Source

pytestmark = pytest.mark.usefixtures("ray_head")
SOURCE = Source(
    "states", CsvFiles("none"), (Field("k", "int64"), Field("at", "timestamp"), Field("v", "int64")), ("k",), "at"
)
TABLE = raw_table("shop", SOURCE)
NOW = datetime(2024, 1, 1, tzinfo=UTC)


def states(keys: range, value: int) -> pa.Table:
    number = len(keys)
    table = pa.table({"k": list(keys), "at": pa.array([NOW] * number), "v": [value] * number})
    return conform(table, SOURCE.fields, "test")


def test_workers_find_what_is_new_among_parts_that_lie_in_the_object_store(settings: Settings) -> None:
    lake = Lake.open(settings)
    lake.ensure_table(TABLE, raw_schema(SOURCE))
    for number in range(3):
        created = NOW + timedelta(hours=number)
        marks = {CREATED: created.isoformat()}
        lake.append(TABLE, raw_rows(states(range(number * 500, number * 500 + 1_000), number), SOURCE, created), marks)
    bounds = {"inline_rows": 0, "piece_rows": 700, "part_rows": 900}
    known = known_rows(lake, TABLE, SOURCE, **bounds)
    assert len(known.parts) == 4 and all(isinstance(part, ray.ObjectRef) for part in known.parts)
    asked = pa.concat_tables([states(range(1_000), 0), states(range(1_900, 2_100), 2)])
    there = known.unknown(asked)
    blocks = ray.data.from_arrow([asked.slice(0, 600), asked.slice(600)])
    in_workers = blocks.map_batches(known.unknown, batch_format="pyarrow", batch_size=None)
    new = [*range(500, 1_000), *range(2_000, 2_100)]  # the first 500 are as they were first, the others were corrected
    assert there["k"].to_pylist() == new == sorted(row["k"] for row in in_workers.take_all())
    raw = raw_snapshot(lake, "shop", SOURCE)
    assert raw is not None
    assert raw.corrected(lake, **bounds)["key"].n_unique() == 1_000
