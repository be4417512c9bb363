"""An object store that is not Amazon's: files of sources in it, and the lake's tables."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet
import pytest

from app.errors import DataError, SettingsError, StoreUnavailableError
from app.features.file_source import listed
from app.features.ingest import ingest
from app.features.store import FeatureStore
from app.features.view_tables import view_table
from app.foundation.lake import CompactionPolicy, Lake
from app.settings import Settings, load_settings
from app.spec import Field, ParquetFiles, Source
from tests.contract.object_store import KEYS, ObjectStore
from tests.unit.features import shop

SECRET = KEYS["AWS_SECRET_ACCESS_KEY"]
FIELDS = (Field("n", "int64"), Field("at", "timestamp"))


def source(path: str) -> Source:
    return Source("events", ParquetFiles(path, new_files_only=True), FIELDS, ("n",), "at")


def put(s3: ObjectStore, path: str, first: int, last: int) -> None:
    files, _ = pyarrow.fs.FileSystem.from_uri(f"s3://rows/{s3.options}")
    numbers = range(first, last)
    at = pa.array([n * 1_000_000 for n in numbers], pa.timestamp("us", tz="UTC"))
    pyarrow.parquet.write_table(pa.table({"n": list(numbers), "at": at}), f"rows/{path}", filesystem=files)


def numbers(lake: Lake) -> list[Any]:
    return sorted(lake.read("shop.raw_events", ["n"])["n"].to_pylist())


@pytest.mark.parametrize("path", ["s3://rows/in/*.parquet", "s3://rows/in"])
def test_only_new_files_are_read(settings: Settings, s3: ObjectStore, path: str) -> None:
    lake, events = Lake.open(settings), source(f"{path}{s3.options}")
    put(s3, "in/a.parquet", 0, 5)
    put(s3, "elsewhere/a.parquet", 100, 105)
    assert ingest(events, "shop", lake, "run").rows == 5
    assert ingest(events, "shop", lake, "run").already_there
    put(s3, "in/b.parquet", 5, 9)
    assert ingest(events, "shop", lake, "run").rows == 4
    assert numbers(lake) == list(range(9))
    s3.stop()
    with pytest.raises(DataError, match=r"source 'events': 's3://rows/in.* cannot be listed"):
        ingest(events, "shop", lake, "run")
    assert numbers(lake) == list(range(9))


def test_keys_in_a_url_are_not_shown(s3: ObjectStore) -> None:
    with pytest.raises(DataError, match=r"no file matches 's3://\*\*\*@rows/nothing") as refused:
        listed(f"s3://nobody:{SECRET}@rows/nothing/*.csv{s3.options}", shop.PROJECT.sources[0])
    assert SECRET not in str((refused.value, refused.value.detail))


def store_in(s3: ObjectStore, settings: Settings) -> FeatureStore:
    there = {"MILLRACE_HOME": str(settings.home), "MILLRACE_WAREHOUSE": f"s3://lake/tables{s3.options}"}
    store = FeatureStore(shop.PROJECT, load_settings(there, in_job=False))
    store.apply()
    return store


def test_tables_lie_in_an_object_store(settings: Settings, s3: ObjectStore) -> None:
    """Written, read, joined, compacted, swept; then the store goes away, and each use names it."""
    store, table = store_in(s3, settings), view_table("shop", "price", 1)
    rows = shop.prices_frame().to_dict("records")
    for row in rows[:6]:
        store.push("price", [row], to="offline")
    before = store.lake.read(table).sort_by("event_timestamp").to_pylist()
    compacted = store.lake.compact(table, CompactionPolicy(at_least=2))
    assert compacted.files_after < compacted.files_before
    assert store.lake.read(table).sort_by("event_timestamp").to_pylist() == before
    assert len(before) == 6
    assert store.lake.sweep_orphans(table).files == 0
    s3.stop()
    for use in (
        lambda: store.lake.read(table),
        lambda: store.push("price", rows[6:], to="offline"),
        lambda: store.lake.ensure_table("shop.more", pa.schema([("n", pa.int64())])),
    ):
        with pytest.raises(StoreUnavailableError, match=r"warehouse s3://lake/tables.*set MILLRACE_WAREHOUSE") as away:
            use()
        assert SECRET not in str(away.value)


def test_a_warehouse_with_unknown_options_is_refused(settings: Settings) -> None:
    with pytest.raises(SettingsError, match=r"MILLRACE_WAREHOUSE gives 'secret_key'.*endpoint_override") as refused:
        Lake(settings.catalog_url, f"s3://lake/tables?secret_key={SECRET}")
    assert SECRET not in str(refused.value)
