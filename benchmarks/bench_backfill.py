"""Backfill of the flights' windows beside plain polars: `make bench-backfill` (QUICK=1: two months at one size).

The work is the same for both: from the landed flights to the fourteen windows of the five history views at every
flight's prediction time. Ours reads the raw Iceberg table, computes and commits the five views' tables, and reads the
windows through the store. Polars reads the same rows from Parquet, writes the same five tables (their own columns,
sorted by time, one file each of lz4, no buckets, commit, row identities or created times), accumulates sums per entity
from memory, never from what it wrote, and takes differences of as-of joins. `ratio` is against all of that,
`ratio_unwritten` against polars without its writes. Both sides' values are compared. Larger sizes are further years of
the same flights; from 100 on both sides ask ten years at a time, since the answers alone would not fit into memory.
No clock runs while a process imports its libraries, Ray's workers included.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import ray
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from app.assembly.job import quiet_libraries
from app.features.backfill import BEGINNING
from app.features.raw_tables import CREATED, raw_rows, raw_table
from app.features.sources import raw_schema
from app.features.store import FeatureStore
from app.project import PROJECT
from app.project import tables as flights
from app.project.features import (
    AIRCRAFT_HISTORY,
    CARRIER_HISTORY,
    DESTINATION_HISTORY,
    ORIGIN_HISTORY,
    ROUTE_HISTORY,
)
from app.project.sources import LANDED
from app.settings import load_settings
from app.spec import FeatureView
from benchmarks.record import code_state

RESULTS = Path(__file__).parent / "results"
TARGET = 0.5
SIZES = (1, 10, 100)
YEARS_AT_ONCE = 10
REPEATS = {1: 3, 10: 1, 100: 1}
YEAR = timedelta(days=365)
END = datetime(2200, 1, 1, tzinfo=UTC)
VIEWS = (ORIGIN_HISTORY, CARRIER_HISTORY, ROUTE_HISTORY, DESTINATION_HISTORY, AIRCRAFT_HISTORY)
FEATURES = [f"{view.name}:*" for view in VIEWS]
KEYS = ("carrier", "origin", "dest", "tailnum")
AVAILABLE, AT = "landed_timestamp", "event_timestamp"


def main() -> None:
    """Measures, prints the table, writes JSON and plot, ends with the ratio line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    options = parser.parse_args()
    days = 60 if options.quick else 365
    sizes = [1] if options.quick else options.sizes
    quiet_libraries()
    ray.init(address="local", include_dashboard=False, log_to_driver=False, object_store_memory=2_000_000_000)
    ray.get([ray.remote(imported).remote() for _ in range(os.cpu_count() or 1)])
    measured = []
    for size in sizes:
        measured.append(measure(size, days))
        print(f"size {size}: {json.dumps(measured[-1])}", flush=True)
    ray.shutdown()
    report(measured, "backfill-quick" if options.quick else "backfill")
    worst = min(m["ratio"] for m in measured)
    print(f"backfill ratio={worst:.2f} target={TARGET:.2f} sizes={','.join(str(m['size']) for m in measured)}")


def imported() -> float:
    """Imports in a worker what a backfill needs; long enough that the next one falls to another worker."""
    importlib.import_module("app.features.backfill_stage")
    time.sleep(1)
    return time.monotonic()


def measure(size: int, days: int) -> dict[str, float]:
    """One size: both sides on the same rows, alternating."""
    with tempfile.TemporaryDirectory() as folder:
        parquet = Path(folder) / "landed"
        parquet.mkdir()
        num_rows = sum(write_decade(parquet, first, last, days) for first, last in decades(size))
        store_s, read_s, polars_s, written_s = [], [], [], []
        for repeat in range(REPEATS.get(size, 1)):
            compared = repeat == 0
            store = prepared_store(Path(folder) / f"home{repeat}", parquet)
            started_s = time.monotonic()
            store.materialize(BEGINNING, END, [v.name for v in VIEWS])
            store_s.append(time.monotonic() - started_s)
            started_s = time.monotonic()
            write_with_polars(parquet, Path(folder) / "polars")
            written_s.append(time.monotonic() - started_s)
            ours_s = theirs_s = 0.0
            for first, last in decades(size):
                spine = questions(first, last, days)
                started_s = time.monotonic()
                ours = pl.DataFrame(store.get_historical_features(spine.to_arrow(), FEATURES).table)
                ours_s += time.monotonic() - started_s
                started_s = time.monotonic()
                theirs = with_polars(parquet, spine)
                theirs_s += time.monotonic() - started_s
                if compared:
                    assert_equal(ours, theirs)
            read_s.append(ours_s)
            polars_s.append(theirs_s)
    backfill_s, windows_s, asked_s, write_s = (statistics.median(x) for x in (store_s, read_s, polars_s, written_s))
    total_s, peer_s = backfill_s + windows_s, asked_s + write_s
    return {
        "size": size, "rows": num_rows, "backfill_s": backfill_s, "windows_s": windows_s,
        "polars_s": peer_s, "polars_write_s": write_s, "ratio_unwritten": asked_s / total_s,
        "rows_per_s": num_rows / total_s, "polars_rows_per_s": num_rows / peer_s, "ratio": peer_s / total_s,
        "peak_driver_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def decades(size: int) -> Iterator[tuple[int, int]]:
    """Years `[first, last)` that are written, and asked, at once."""
    for first in range(0, size, YEARS_AT_ONCE):
        yield first, min(first + YEARS_AT_ONCE, size)


def repeated(frame: pl.DataFrame, years: range, moments: tuple[str, ...]) -> pl.DataFrame:
    """The frame once for each year, its moments moved and its flights told apart by `year`."""
    return pl.concat([frame.with_columns(pl.col(moments) + y * YEAR, pl.lit(y).alias("year")) for y in years])


def write_decade(folder: Path, first: int, last: int, days: int) -> int:
    """Landed flights of some years as a Parquet file in time order; gives their number."""
    until = flights.YEAR_START + timedelta(days=days)
    rows = repeated(
        flights.landed().filter(pl.col(AVAILABLE) < until), range(first, last), (AVAILABLE, "departure_timestamp")
    ).with_columns(pl.format("{}-{}", "flight_id", "year").alias("flight_id"))
    rows = rows.drop("year")
    rows.write_parquet(folder / f"{first:03d}.parquet")
    return rows.height


def questions(first: int, last: int, days: int) -> pl.DataFrame:
    """Every flight's keys at its prediction time."""
    until = flights.YEAR_START + timedelta(days=days)
    asked = flights.schedule().select(*KEYS, pl.col("prediction_timestamp").alias(AT)).filter(pl.col(AT) < until)
    return repeated(asked, range(first, last), (AT,)).drop("year")


def prepared_store(home: Path, parquet: Path) -> FeatureStore:
    """A store whose raw table holds the rows; the views are registered and empty."""
    store = FeatureStore(PROJECT, load_settings({"MILLRACE_HOME": str(home)}, in_job=False))
    store.apply()
    table = raw_table(PROJECT.name, LANDED)
    store.lake.ensure_table(table, raw_schema(LANDED))
    for path in sorted(parquet.iterdir()):
        created = datetime.now(UTC)
        rows = pl.read_parquet(path).to_arrow()
        store.lake.append(table, raw_rows(rows, LANDED, created), {CREATED: created.isoformat()})
    return store


def write_with_polars(parquet: Path, folder: Path) -> None:
    """The five tables in plain polars, as streams where they are larger than memory likes."""
    folder.mkdir(exist_ok=True)
    landed = pl.scan_parquet(parquet / "*.parquet")
    for view in VIEWS:
        named = {c: c[c.index("_") + 1 :] for c in {a.column for a in view.aggregations}}
        columns = [*view.join_keys, *(pl.col(source).alias(name) for name, source in named.items())]
        landed.select(*columns, AVAILABLE).sort(AVAILABLE).sink_parquet(folder / view.name, compression="lz4")


def with_polars(parquet: Path, spine: pl.DataFrame) -> pl.DataFrame:
    """The same windows in plain polars."""
    first, last = spine[AT].min(), spine[AT].max()
    assert isinstance(first, datetime) and isinstance(last, datetime)
    reach = max(a.window + a.hop for view in VIEWS for a in view.aggregations)
    landed = (
        pl.scan_parquet(parquet / "*.parquet")
        .select(*KEYS, AVAILABLE, "dep_delay", "arr_delay", "late")
        .filter(pl.col(AVAILABLE) > first - reach, pl.col(AVAILABLE) <= last)
        .sort(AVAILABLE)
        .collect()
    )
    asked = spine.with_row_index("__row").sort(AT)
    columns = [polars_view(view, landed, asked) for view in VIEWS]
    return pl.concat([asked.select("__row"), *columns], how="horizontal").sort("__row").drop("__row")


def polars_view(view: FeatureView, landed: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """Windows of one view for questions in time order: sums up to `t` less sums up to the window's start."""
    keys = list(view.join_keys)
    of_source = {c: c[c.index("_") + 1 :] for c in {a.column for a in view.aggregations}}
    history = landed.drop_nulls(keys).select(
        *keys,
        pl.col(AVAILABLE).alias("__at"),
        pl.int_range(1, pl.len() + 1).over(keys).alias("__n"),
        *(pl.col(source).cum_sum().over(keys).alias(name) for name, source in of_source.items()),
        *(pl.col(source).alias(f"{name}__last") for name, source in of_source.items()),
    )

    def up_to(moment: pl.Expr) -> pl.DataFrame:
        questions = asked.select(*keys, moment.alias("__at"))
        return questions.join_asof(history, on="__at", by=keys, strategy="backward", check_sortedness=False)

    now, starts, columns = up_to(pl.col(AT)), {}, {}
    for a in view.aggregations:
        if (a.window, a.hop) not in starts:
            starts[(a.window, a.hop)] = up_to((pl.col(AT) - a.window).dt.truncate(a.hop))
        before = starts[(a.window, a.hop)]
        count = now["__n"].fill_null(0) - before["__n"].fill_null(0)
        total = now[a.column].fill_null(0) - before[a.column].fill_null(0)
        value = {"count": count, "mean": total / count, "last": now[f"{a.column}__last"].cast(pl.Float64)}[a.function]
        unknown = asked.select(pl.any_horizontal(pl.col(keys).is_null())).to_series()
        missing = unknown if a.function == "count" else unknown | (count == 0)
        columns[a.name] = pl.select(pl.when(~missing).then(value)).to_series()
    return pl.DataFrame(columns)


def assert_equal(ours: pl.DataFrame, theirs: pl.DataFrame) -> None:
    """Every window of every question.

    Raises:
        AssertionError: one differs by more than a rounding.
    """
    for name in theirs.columns:
        same = pl.select(ours[name].eq_missing(theirs[name]) | ((ours[name] - theirs[name]).abs() < 1e-9)).to_series()
        wrong = (~same.fill_null(False)).sum()
        assert wrong == 0, f"{name}: {wrong} of {ours.height} values differ"


def report(measured: list[dict[str, float]], subject: str) -> None:
    """Table on the terminal, JSON and plot in `results/`."""
    table = Table("size", "rows", "backfill s", "windows s", "polars s", "rows/s", "polars rows/s", "ratio", "GiB")
    for m in measured:
        table.add_row(
            f"{m['size']:g}", f"{m['rows']:,}", f"{m['backfill_s']:.2f}", f"{m['windows_s']:.2f}",
            f"{m['polars_s']:.2f}", f"{m['rows_per_s']:,.0f}", f"{m['polars_rows_per_s']:,.0f}", f"{m['ratio']:.2f}",
            f"{m['peak_driver_gib']:.1f}",
        )
    Console().print(table)
    RESULTS.mkdir(exist_ok=True)
    record = {
        "subject": "backfill", "target": TARGET, "measured": measured, "hardware": {"cpus": os.cpu_count()},
        "provenance": code_state(),
    }
    (RESULTS / f"{subject}.json").write_text(json.dumps(record, indent=1) + "\n")
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    rows = [m["rows"] for m in measured]
    axes.loglog(rows, [m["rows_per_s"] for m in measured], marker="o", label="Millrace: backfill and windows")
    axes.loglog(rows, [m["polars_rows_per_s"] for m in measured], marker="s", label="plain polars, tables written")
    axes.set_xlabel("landed flights")
    axes.set_ylabel("rows per second")
    axes.legend()
    figure.savefig(RESULTS / f"{subject}.svg")


if __name__ == "__main__":
    main()
