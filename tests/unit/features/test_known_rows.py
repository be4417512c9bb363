"""What is known already is the same in any number of parts, and no process holds more than a piece or a part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from app.features.arrow_types import conform
from app.features.content_hash import row_hashes
from app.features.ingest import CONTENT_HASH
from app.features.known_rows import KnownRows, known_rows, newest_rows, pushed_rows, refused_rows
from app.features.quarantine import QUARANTINE_SCHEMA, quarantine_rows, quarantine_table
from app.features.raw_snapshot import raw_snapshot
from app.features.raw_tables import CREATED, PUSH, raw_rows, raw_table
from app.features.sources import raw_schema
from app.features.tasks import InlineTasks
from app.foundation.lake import Lake
from app.settings import Settings
from app.spec import CsvFiles, Field, Source

SOURCE = Source(
    "states", CsvFiles("none"), (Field("k", "int64"), Field("at", "timestamp"), Field("v", "int64")), ("k",), "at"
)
TABLE = raw_table("shop", SOURCE)
NOW = datetime(2024, 1, 1, tzinfo=UTC)
KEYS, COMMITS, OF_COMMIT = 400, 12, 60


class CountingTasks(InlineTasks):
    """Tasks in this process that note how many rows each of them got or made at once, by the function's name."""

    def __init__(self) -> None:
        self.most: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def submit(self, function: Callable[..., Any], *arguments: Any, num_returns: int = 1) -> Any:
        found = super().submit(function, *arguments, num_returns=num_returns)
        name = function.__name__  # what tasks run are functions
        made = found if isinstance(found, list) else [found]
        rows = max(_rows(a for a in arguments if isinstance(a, pa.Table)), _rows(made))
        self.most[name] = max(self.most[name], rows)
        self.calls[name] += 1
        return found


def _rows(values: Any) -> int:
    return sum(v.num_rows if isinstance(v, pa.Table) else len(v) for v in values)


def states(random: np.random.Generator, number: int) -> pa.Table:
    keys = random.choice(KEYS, number, replace=False)
    at = pa.array([NOW] * number, pa.timestamp("us", tz="UTC"))
    values = {"k": keys, "at": at, "v": random.integers(0, 3, number)}
    return conform(pa.table(values), SOURCE.fields, "test")


@pytest.fixture(params=[0, 1, 2])
def filled(request: pytest.FixtureRequest, settings: Settings) -> tuple[Lake, np.random.Generator]:
    """A raw table of several commits, some of them pushes, and refused rows in the quarantine."""
    random, lake = np.random.default_rng(request.param), Lake.open(settings)
    lake.ensure_table(TABLE, raw_schema(SOURCE))
    lake.ensure_table(quarantine_table("shop"), QUARANTINE_SCHEMA)
    for number in range(COMMITS):
        created = NOW + timedelta(hours=number)
        pushed = {PUSH: SOURCE.name} if random.random() < 0.4 else {CONTENT_HASH: str(number)}
        marks = {CREATED: created.isoformat(), **pushed}
        lake.append(TABLE, raw_rows(states(random, OF_COMMIT), SOURCE, created), marks)
        failed = states(random, 20).append_column("reason", pa.array(["bad"] * 20))
        of, view = ("others", None) if number % 4 == 0 else (SOURCE.name, "a view" if number % 4 == 1 else None)
        lake.append(quarantine_table("shop"), quarantine_rows(failed, of, created, view), {})
    return lake, random


def whole(lake: Lake, *, only_pushed: bool = False) -> set[int]:
    """The rule, with all rows in memory: hashes of the newest rows, where those were pushed of the earlier ones too."""
    every = pl.DataFrame(lake.read(TABLE))
    rows = newest_rows(every)
    moments = [datetime.fromisoformat(c.properties[CREATED]) for c in lake.commits(TABLE) if PUSH in c.properties]
    pushed = rows.filter(pl.col(CREATED).is_in(moments))
    kept = pushed if only_pushed else pl.concat([rows, every.join(pushed, on="row_key", how="semi")])
    return set(row_hashes(conform(kept.to_arrow(), SOURCE.fields, "test")).tolist())


def found(known: KnownRows) -> set[int]:
    return {int(h) for part in known.parts for h in part}


SIZES = [{}, {"part_rows": 10_000}, {"part_rows": 100}, {"part_rows": 300, "piece_rows": 130}, {"part_rows": 7}]


@pytest.mark.parametrize("sizes", SIZES, ids=["here", "one part", "8 parts", "3 parts", "103 parts"])
def test_what_is_known_is_the_same_in_any_number_of_parts(
    filled: tuple[Lake, np.random.Generator], sizes: dict[str, int]
) -> None:
    lake, random = filled
    bounds = {"tasks": InlineTasks(), "inline_rows": 0, **sizes} if sizes else {}
    known, pushed = known_rows(lake, TABLE, SOURCE, **bounds), pushed_rows(lake, TABLE, SOURCE, **bounds)
    assert found(known) == whole(lake)
    assert found(pushed) == whole(lake, only_pushed=True)
    assert len(found(pushed)) > 10 and len(found(known)) > KEYS * 0.7
    for asked in (states(random, 350), lake.read(TABLE, [f.name for f in SOURCE.fields])):
        for of, rule in ((known, whole(lake)), (pushed, whole(lake, only_pushed=True))):
            expected = [h for h in row_hashes(asked).tolist() if h not in rule]
            assert row_hashes(of.unknown(asked)).tolist() == expected
            assert 0 < len(expected) < asked.num_rows
    refused = refused_rows(lake, "shop", SOURCE, **bounds)
    rows = lake.read(quarantine_table("shop"))
    mine = rows.filter(pa.array([s == SOURCE.name and v is None for s, v in zip(*_places(rows), strict=True)]))
    assert found(refused) == set(row_hashes(mine.select(["row"])).tolist())
    assert refused.unknown(mine, mine.select(["row"])).num_rows == 0
    new = refused.unknown(rows, rows.select(["row"]))
    assert set(new["row"].to_pylist()) == set(rows["row"].to_pylist()) - set(mine["row"].to_pylist())


def _places(rows: pa.Table) -> tuple[Sequence[Any], Sequence[Any]]:
    return rows["source"].to_pylist(), rows["view"].to_pylist()


def test_no_task_holds_more_than_a_piece_or_a_part(filled: tuple[Lake, np.random.Generator]) -> None:
    lake, _ = filled
    tasks = CountingTasks()
    known_rows(lake, TABLE, SOURCE, tasks=tasks, inline_rows=0, piece_rows=OF_COMMIT, part_rows=72)
    assert (tasks.calls["_split"], tasks.calls["_reduced"]) == (COMMITS, 10)
    assert tasks.most["_split"] == OF_COMMIT
    assert tasks.most["_reduced"] < 72 * 2, "the keys spread over the parts, of 720 rows"


def test_corrected_rows_are_the_same_in_any_number_of_parts(filled: tuple[Lake, np.random.Generator]) -> None:
    lake, _ = filled
    raw = raw_snapshot(lake, "shop", SOURCE)
    assert raw is not None
    here = raw.corrected(lake)
    tasks = CountingTasks()
    parts = raw.corrected(lake, tasks=tasks, inline_rows=0, piece_rows=OF_COMMIT, part_rows=72)
    order = ["key", CREATED]
    assert parts.sort(order).equals(here.sort(order)) and here["key"].n_unique() > 100
    counted = Counter(lake.read(TABLE)["row_key"].to_pylist())
    assert here.height == sum(n for n in counted.values() if n > 1)
    assert tasks.most["_reduced"] < 72 * 2
