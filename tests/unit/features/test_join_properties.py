"""The whole join (files, buckets, chunks, parts of time) against a reference written from the rules, row by row."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.expressions import AlwaysTrue, parser
from pyiceberg.io.pyarrow import PyArrowFileIO, pyarrow_to_schema
from pyiceberg.table.name_mapping import MappedField, NameMapping

from app.features import hot_keys, join_spine, storage_partitions
from app.features.arrow_types import ARROW_TYPES
from app.features.join_spine import join_table
from app.features.references import ViewRead
from app.features.spine import moments, stretch_of
from app.features.tasks import InlineTasks
from app.features.view_rows import view_schema
from app.features.view_scan import ViewScan, _condition
from app.features.view_tables import KNOWN_AT_ONCE, REPLACED
from app.foundation.lake import BUCKETED_TYPES, Buckets, BucketScan, split_by_bucket
from app.foundation.lake.bucket_scan import DataFileRef
from app.spec import Aggregation, CsvFiles, Entity, FeatureView, Field, Source

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CLOCKS_GO_BACK = datetime(2013, 11, 3, 5, 59, 59, tzinfo=UTC)  # a second later, in New York
BASE_US = (CLOCKS_GO_BACK - EPOCH) // timedelta(microseconds=1)
STEP_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 10**3}
TEXTS = ["1", "11", "1:1", "", "a|b", "ä,"]
UUIDS = [str(UUID(int=n)) for n in (1, 11, 2**127)]
KEYS: dict[str, tuple[tuple[str, list[Any]], ...]] = {
    "int64": (("int64", [0, 1, 11, -5, 2**40]),),
    "string": (("string", TEXTS),),
    "uuid": (("uuid", UUIDS),),
    "date": (("date", [date(1969, 12, 31), date(2013, 1, 1)]),),
    "timestamp": (("timestamp", [EPOCH, EPOCH + timedelta(microseconds=1)]),),
    "bool": (("bool", [True, False]),),
    "two integers": (("int64", [1, 11]), ("int64", [1, 11])),
    "text and integer": (("string", TEXTS), ("int64", [1, 11])),
    "none": (),
}
FEATURES = (
    Field("v", "int64"), Field("yes", "bool"), Field("x", "float64"), Field("on", "date"), Field("many", "list<int64>"),
    Field("at", "timestamp"), Field("id", "uuid"),
)


def values_of(v: int | None) -> dict[str, Any]:
    """Every feature follows from the first, so that a mixture of two rows would show."""
    if v is None:
        return dict.fromkeys(f.name for f in FEATURES)
    return {
        "v": v, "yes": v % 2 == 0, "x": v / 2, "on": date(2013, 1, 1 + v), "many": [v, None][: v + 1],
        "at": EPOCH + timedelta(days=v), "id": UUIDS[v % 3],
    }


def many(draw: st.DrawFn, most: int, one: Callable[[Random], Any]) -> list[Any]:
    """A list made from a seed: left alone, Hypothesis likes equal and small parts, of which hardly a pair meets."""
    random = Random(draw(st.integers(0, 2**32)))
    return [one(random) for _ in range(draw(st.sampled_from([0, 1, most // 2, most, most])))]


def sometimes(random: Random, value: Any, odds: float = 0.15) -> Any:
    """The value, or now and then none."""
    return None if random.random() < odds else value


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(sorted(KEYS)))
    pool = many(draw, 3, lambda random: tuple(random.choice(values) for _, values in KEYS[kind]))
    replaced = draw(st.booleans())

    def key(random: Random) -> tuple[Any, ...]:
        if pool and random.random() < 0.9:
            return random.choice(pool)
        return tuple(sometimes(random, random.choice(values), 0.3) for _, values in KEYS[kind])

    def row(random: Random) -> dict[str, Any]:
        event = random.randint(0, 9)
        return {
            "key": key(random), "event": sometimes(random, event) if replaced else event,
            "available": random.randint(0, 9), "created": sometimes(random, random.randint(0, 2)),
            "source_created": random.randint(0, 1), "row_key": random.choice("rs"),
            "v": sometimes(random, random.randint(0, 4)),
        }

    def question(random: Random) -> tuple[Any, ...]:
        return key(random), sometimes(random, random.randint(0, 9), 0.1), random.choice([0, 1, 999])

    unit = draw(st.sampled_from(sorted(STEP_NS)))
    return {
        "kind": kind, "replaced": replaced, "rows": many(draw, 20, row), "unit": unit,
        "zone": draw(st.sampled_from([None, "UTC", "America/New_York", "+05:30"])),
        "spine": many(draw, 14, question),
        "ttl": draw(st.one_of(st.none(), st.integers(0, 5))), "known_at_once": draw(st.booleans()),
        "as_of": draw(st.one_of(st.none(), st.none(), st.integers(0, 2))),
        "num_buckets": draw(st.sampled_from([1, 2, 7])), "num_files": draw(st.integers(1, 3)),
        "blocks": draw(st.sampled_from([1, 2, 7, 200])),
        "task_rows": draw(st.sampled_from([1, 3, 1000])), "place": draw(st.sampled_from(["at once", "here", "tasks"])),
        "many_questions": draw(st.sampled_from([1, 1_000])), "hot": draw(st.booleans()),
        "key_variant": draw(st.booleans()), "twice": draw(st.booleans()),
        "random": draw(st.randoms(use_true_random=False)),
    }


def reference(case: dict[str, Any], key: tuple[Any, ...], t_ns: int | None) -> dict[str, Any]:
    """DESIGN §6, word for word."""
    step = STEP_NS[case["unit"]]
    candidates = [
        r for r in (versions_known(case, t_ns) if case["replaced"] and t_ns is not None else case["rows"])
        if r["event"] is not None and t_ns is not None and None not in key and r["key"] == key
        and r["event"] * step <= t_ns and r["available"] * step <= t_ns
        and (case["ttl"] is None or r["event"] * step >= t_ns - case["ttl"] * step)
        and (case["as_of"] is None or (r["created"] is not None and r["created"] <= case["as_of"]))
    ]
    if not candidates:
        return values_of(None)
    return values_of(max(candidates, key=lambda r: (
        r["event"], low(r["created"]), r["source_created"], r["row_key"], low(r["v"]), r["available"]
    ))["v"])


def versions_known(case: dict[str, Any], t_ns: int) -> list[dict[str, Any]]:
    """Of the versions of each row that are available, the one written last, wherever its event lies."""
    known = [
        r for r in case["rows"]
        if r["available"] * STEP_NS[case["unit"]] <= t_ns
        and (case["as_of"] is None or (r["created"] is not None and r["created"] <= case["as_of"]))
    ]
    known.sort(key=lambda r: (r["source_created"], low(r["created"]), r["available"], low(r["event"]), low(r["v"])))
    return list({(r["key"], r["row_key"]): r for r in known}.values())


def low(value: int | None) -> int:
    return -1 if value is None else value


def micros(tick: int | None, step_ns: int) -> datetime | None:
    return None if tick is None else EPOCH + timedelta(microseconds=BASE_US + tick * step_ns // 1000)


def view_of(case: dict[str, Any]) -> FeatureView:
    keys = tuple(Field(f"k{i}", dtype) for i, (dtype, _) in enumerate(KEYS[case["kind"]]))
    source = Source("s", CsvFiles("none"), (*keys, *FEATURES), ("k0",), "event_timestamp")
    ttl = None if case["ttl"] is None else timedelta(microseconds=case["ttl"] * STEP_NS[case["unit"]] // 1000)
    return FeatureView("view", (Entity("e", tuple(k.name for k in keys)),), source, FEATURES, ttl=ttl)


def table_of(case: dict[str, Any], view: FeatureView) -> pa.Table:
    step = STEP_NS[case["unit"]]
    columns: dict[str, list[Any]] = {name: [] for name in view_schema(view).names}
    for row in case["rows"]:
        for name, part in zip(view.join_keys, row["key"], strict=True):
            columns[name].append(part)
        for name, value in values_of(row["v"]).items():
            columns[name].append(value)
        columns["event_timestamp"].append(micros(row["event"], step))
        columns["available_timestamp"].append(micros(row["available"], step))
        columns["row_key"].append(row["row_key"])
        columns["source_created_timestamp"].append(micros(row["source_created"], 1000))
        columns["created_timestamp"].append(micros(row["created"], 1000))
    return pa.table({n: pa.array(c, view_schema(view).field(n).type) for n, c in columns.items()})


def scan_of(case: dict[str, Any], view: FeatureView, spine: pa.Table, folder: Path) -> ViewScan:
    """The view's rows in Parquet files by bucket, in any order of rows and files."""
    rows = table_of(case, view)
    order = list(range(rows.num_rows))
    case["random"].shuffle(order)
    rows = rows.take(pa.array(order, pa.int64()))
    hashed = [k for k in view.join_keys if rows.schema.field(k).type in BUCKETED_TYPES]
    buckets = Buckets(hashed[0], case["num_buckets"]) if hashed else None
    files: dict[int, list[DataFileRef]] = {}
    for part in range(case["num_files"]):
        share = rows.take(pa.array(range(part, rows.num_rows, case["num_files"]), pa.int64()))
        pieces = {-1: share} if buckets is None else split_by_bucket(share, buckets)
        for bucket, piece in pieces.items():
            path = folder / f"{part}-{bucket}.parquet"
            pq.write_table(piece, path, row_group_size=2)
            files.setdefault(bucket, []).append(DataFileRef(f"file://{path}", piece.num_rows))
    read = read_as("view", "as", view)
    stretch = stretch_of(moments(spine))
    as_of = None if case["as_of"] is None else micros(case["as_of"], 1000)
    condition = _condition(read, stretch, as_of, case["replaced"])
    ids = NameMapping([_mapped(i + 1, field) for i, field in enumerate(rows.schema)])
    return ViewScan(
        read, BucketScan(
            "t", 1, buckets, {b: tuple(f) for b, f in files.items()}, rows.schema,
            AlwaysTrue() if condition is None else parser.parse(condition), pyarrow_to_schema(rows.schema, ids),
            PyArrowFileIO(), {
                KNOWN_AT_ONCE: str(case["known_at_once"]).lower(), REPLACED: str(case["replaced"]).lower(),
            },
        ), stretch,
    )


def read_as(label: str, prefix: str, view: FeatureView) -> ViewRead:
    """The view joined to the spine's columns of that prefix."""
    return ViewRead(label, view, 1, view.feature_fields, tuple((k, f"{prefix}_{k}") for k in view.join_keys))


def _mapped(number: int, field: pa.Field) -> MappedField:
    inner = [MappedField(**{"field-id": 100 + number, "names": ["element"]})] if pa.types.is_list(field.type) else []
    return MappedField(**{"field-id": number, "names": [field.name], "fields": inner})


def spine_of(case: dict[str, Any], view: FeatureView) -> tuple[pa.Table, list[int | None]]:
    """The spine in the case's unit and zone, and its moments in nanoseconds after the base."""
    unit, step = case["unit"], STEP_NS[case["unit"]]
    offsets = [extra if unit == "ns" else 0 for _, _, extra in case["spine"]]
    ticks = [None if t is None else t * step + o for (_, t, _), o in zip(case["spine"], offsets, strict=True)]
    factor = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    stored = [None if t is None else (BASE_US * 1000 + t) // factor for t in ticks]
    columns = {"event_timestamp": pa.array(stored, pa.timestamp(unit, tz=case["zone"]))}
    for i, (dtype, _) in enumerate(KEYS[case["kind"]]):
        parts = pa.array([key[i] for key, _, _ in case["spine"]], ARROW_TYPES[dtype])
        columns[f"as_k{i}"] = _variant(parts, dtype) if case["key_variant"] else parts
        columns[f"other_k{i}"] = columns[f"as_k{i}"][::-1]
    return pa.table(columns), ticks


def _variant(column: pa.Array, dtype: str) -> pa.Array:
    """The same keys as another writer might send them."""
    if dtype == "int64":
        small = all(abs(v) < 2**31 for v in column.to_pylist() if v is not None)
        return column.cast(pa.int32() if small else pa.float64())
    if dtype == "string":
        return column.dictionary_encode()
    return pa.array([None if v is None else UUID(v).bytes for v in column.to_pylist()], pa.binary(16)) \
        if dtype == "uuid" else column


@settings(max_examples=150)
@given(cases())
def test_equals_the_reference_however_it_is_split(case: dict[str, Any]) -> None:
    if case["hot"] and case["rows"]:
        for row in case["rows"][1:]:
            row["key"] = case["rows"][0]["key"]
    if case["known_at_once"]:
        for row in case["rows"]:
            row["available"] = row["available"] if row["event"] is None else row["event"]
    view = view_of(case)
    spine, ticks = spine_of(case, view)
    keys = {"view": [key for key, _, _ in case["spine"]], "other": [key for key, _, _ in case["spine"]][::-1]}
    with tempfile.TemporaryDirectory() as folder, mock.patch.multiple(
        join_spine, ONE_TASK_ROWS=10**9 if case["place"] == "at once" else -1, MANY_QUESTIONS=case["many_questions"],
        HERE_ROWS=10**9 if case["place"] == "here" else -1,
        CHUNK_ROWS=max(-(-spine.num_rows // case["blocks"]), 1),
    ), mock.patch.object(storage_partitions, "TASK_ROWS", case["task_rows"]), mock.patch.object(
        hot_keys, "SAMPLED_ROWS", 10
    ):
        scan = scan_of(case, view, spine, Path(folder))
        scans = [scan, replace(scan, read=read_as("other", "other", view))] if case["twice"] else [scan]
        found = join_table(InlineTasks(), scans, spine, moments(spine))
    for label in [s.read.label for s in scans]:
        columns = {f.name: found[(label, f.name)] for f in view.fields}
        assert {name: column.type for name, column in columns.items()} == {
            f.name: ARROW_TYPES[f.dtype] for f in view.fields
        }
        expected = [reference(case, key, t) for key, t in zip(keys[label], ticks, strict=True)]
        assert pa.table(columns).to_pylist() == expected


WINDOW, HOP = timedelta(microseconds=4), timedelta(microseconds=2)
WINDOW_KEYS: dict[str, tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]] = {  # of rows, and of questions
    "int64": ([(1,), (2,)], [(1,), (2,), (3,), (None,)]),
    "string": ([("1:1",), ("1",)], [("1:1",), ("1",), ("",), (None,)]),
    "two integers": ([(1, 11), (11, 1)], [(1, 11), (11, 1), (1, 1), (None, 1), (1, None)]),
    "none": ([()], [()]),
}


@st.composite
def window_cases(draw: st.DrawFn) -> dict[str, Any]:
    """Few row keys, so that most rows correct another: earlier, later, or beyond every moment asked."""
    case = draw(cases())
    kind = draw(st.sampled_from(sorted(WINDOW_KEYS)))
    known, asked = WINDOW_KEYS[kind]
    rows = many(draw, 16, lambda random: {
        "key": random.choice(known), "event": random.randint(0, 12), "available": random.randint(0, 12),
        "source_created": random.randint(0, 1), "row_key": random.choice("rst"), "v": random.randint(0, 4),
    })
    corrected = draw(st.sampled_from(["yes", "no", "written again"]))
    if corrected != "yes":
        rows = [{**r, "row_key": str(i)} for i, r in enumerate(rows)]
    if corrected == "written again":  # as by a backfill that no longer knows what it wrote
        rows = [*rows, *rows[::2]]
    created = draw(st.permutations(range(len(rows))))
    return {
        **case, "kind": kind, "replaced": corrected == "yes" or case["replaced"],
        "unit": "us", "ttl": None, "known_at_once": False, "key_variant": False,
        "spine": many(draw, 12, lambda random: (random.choice(asked), random.randint(0, 12), 0)),
        "rows": [{**r, "created": c} for r, c in zip(rows, created, strict=True)],
        "as_of": draw(st.one_of(st.none(), st.integers(0, 9))),
    }


def window_reference(case: dict[str, Any], key: tuple[Any, ...], t: int) -> dict[str, Any]:
    """Of the versions of a row known at `t`, the one written last; a member if available in `(start, t]`."""
    if None in key:
        return {"v_count_0s": None, "v_sum_0s": None}
    known = [
        r for r in case["rows"]
        if r["key"] == key and r["available"] <= t and (case["as_of"] is None or r["created"] <= case["as_of"])
    ]
    newest = {r["row_key"]: r for r in sorted(known, key=lambda r: (r["source_created"], r["created"]))}
    hop = HOP // timedelta(microseconds=1)
    start = (BASE_US + t - WINDOW // timedelta(microseconds=1)) // hop * hop - BASE_US
    members = [r["v"] for r in newest.values() if r["available"] > start]
    return {"v_count_0s": len(members), "v_sum_0s": float(sum(members)) if members else None}


@settings(max_examples=100)
@given(window_cases())
def test_windows_with_corrections_depend_on_nothing_else_that_is_asked(case: dict[str, Any]) -> None:
    if case["hot"]:
        for row in case["rows"]:
            row["key"] = case["rows"][0]["key"]
    aggregations = tuple(Aggregation("v", function, WINDOW, HOP) for function in ("count", "sum"))
    view = replace(view_of(case), aggregations=aggregations)
    spine, _ = spine_of(case, view)
    expected = [window_reference(case, key, tick) for key, tick, _ in case["spine"]]
    with tempfile.TemporaryDirectory() as folder, mock.patch.multiple(
        join_spine, ONE_TASK_ROWS=10**9 if case["place"] == "at once" else -1, MANY_QUESTIONS=case["many_questions"],
        HERE_ROWS=10**9 if case["place"] == "here" else -1,
        CHUNK_ROWS=max(-(-spine.num_rows // case["blocks"]), 1),
    ), mock.patch.object(storage_partitions, "TASK_ROWS", case["task_rows"]), mock.patch.object(
        hot_keys, "SAMPLED_ROWS", 10
    ):
        scan = scan_of(case, view, spine, Path(folder))
        found = join_table(InlineTasks(), [scan], spine, moments(spine))
    names = [a.name for a in aggregations]
    rows = pa.table({name: found[("view", name)] for name in names}).to_pylist()
    assert rows == [dict(zip(names, e.values(), strict=True)) for e in expected]
