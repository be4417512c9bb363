"""A backfill killed at any point shows all of a range or nothing, and a second run completes it without duplicates."""

from __future__ import annotations

import multiprocessing
import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.features.backfill import BEGINNING
from app.features.store import FeatureStore
from app.settings import Settings
from tests.unit.features import shop
from tests.unit.features.killed_backfill import PROJECT, SALES_VIEWS, run_killed, run_whole
from tests.unit.features.raw_rows import put_raw

END = shop.BASE + timedelta(days=30)
NUM_REFUSED = 10
SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["tests.unit.features.killed_backfill"])


@pytest.fixture
def store(settings: Settings) -> FeatureStore:
    store = FeatureStore(PROJECT, settings)
    store.apply()
    put_raw(store.lake, shop.SALES, shop.sales_frame())
    return store


def in_process(function: Callable[..., None], *arguments: Any) -> int | None:
    process = SPAWN.Process(target=function, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def rows_by_key(store: FeatureStore, view: str) -> Counter[str]:
    table = f"shop.fv_{view}_v1"
    return Counter(store.lake.read(table)["row_key"].to_pylist() if store.lake.exists(table) else [])


def expected_keys(view: str, start: datetime = BEGINNING, end: datetime = END) -> Counter[str]:
    frame = shop.sales_frame().query("amount >= 0 or amount != amount")
    at = frame["known_at"].dt.tz_localize("UTC")
    frame = frame[(at > max(start, shop.BASE - timedelta(days=1))) & (at <= end)]
    frame = frame[frame["sku"] != 4] if view == "turnover" else frame[frame["sale_id"] <= 589]
    return Counter(f"{len(str(i))}:{i}" for i in frame["sale_id"])


def assert_whole(store: FeatureStore) -> None:
    for view in SALES_VIEWS:
        assert rows_by_key(store, view) == expected_keys(view)
    assert store.quarantine(view="last_sale").num_rows == NUM_REFUSED


def killed_at(settings: Settings, store: FeatureStore, at: int, late: bool = False) -> bool:
    """Kills a backfill at a point, looks at what it left, and completes it. Whether the point was reached."""
    code = in_process(run_killed, str(settings.home), at, BEGINNING, END)
    assert code in (0, -9)
    for view in SALES_VIEWS:
        assert rows_by_key(store, view) in (Counter(), expected_keys(view))
    store.materialize(BEGINNING, END, SALES_VIEWS)
    assert_whole(store)
    assert all(r.already_there for r in store.materialize(BEGINNING, END, SALES_VIEWS))
    return code == -9


@pytest.mark.parametrize("at", [0, 3, 6, 7, 8, 9, 10, 14])
def test_killed_at_chosen_points(settings: Settings, store: FeatureStore, at: int) -> None:
    """0: before any file; 3: some files staged; 6-9: around the quarantine's commit; then around the views' own."""
    assert killed_at(settings, store, at)


def test_killed_twice_in_a_row(settings: Settings, store: FeatureStore) -> None:
    for at in (8, 11):
        assert in_process(run_killed, str(settings.home), at, BEGINNING, END) == -9
    assert killed_at(settings, store, 5)


@pytest.mark.full
def test_killed_at_every_point(tmp_path_factory: pytest.TempPathFactory) -> None:
    from app.settings import load_settings

    at, reached = 0, True
    while reached:
        settings = load_settings({"MILLRACE_HOME": str(tmp_path_factory.mktemp(f"at{at}"))}, in_job=False)
        store = FeatureStore(PROJECT, settings)
        store.apply()
        put_raw(store.lake, shop.SALES, shop.sales_frame())
        reached = killed_at(settings, store, at)
        at += 1
    assert at > 14


@pytest.mark.full
def test_killed_at_random_while_rows_arrive_late(settings: Settings, store: FeatureStore) -> None:
    """Twenty backfills of random ranges, each killed at a random point, with a late row before each."""
    dice = random.Random(7)
    late = 0
    for _ in range(20):
        days = sorted(dice.sample(range(14), 2))
        start, end = (shop.BASE + timedelta(days=d) for d in days)
        in_process(run_killed, str(settings.home), dice.randrange(18), start, end)
        put_raw(store.lake, shop.SALES, shop.sales_frame().iloc[[dice.randrange(500)]].assign(sale_id=-1 - late))
        late += 1
    store.materialize(BEGINNING, END, SALES_VIEWS)
    for view in SALES_VIEWS:
        found = rows_by_key(store, view)
        assert set(found.values()) == {1}
        assert expected_keys(view) <= found
        assert all(r.already_there for r in store.materialize(BEGINNING, END, SALES_VIEWS))
    assert len(rows_by_key(store, "last_sale")) == sum(expected_keys("last_sale").values()) + late


@pytest.mark.parametrize(
    "days", [[(0, 4), (4, 8), (8, 30)], [(0, 30)] * 3, [(0, 8), (4, 30), (2, 6)]], ids=["others", "same", "overlapping"]
)
def test_backfills_at_once_land_and_write_each_row_once(
    settings: Settings, store: FeatureStore, days: list[tuple[int, int]]
) -> None:
    barrier = SPAWN.Barrier(len(days))
    processes = []
    for first, last in days:
        start, end = (shop.BASE + timedelta(days=d) for d in (first, last))
        processes.append(SPAWN.Process(target=run_whole, args=(str(settings.home), start, end, barrier)))
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0] * len(days)
    assert_whole(store)
