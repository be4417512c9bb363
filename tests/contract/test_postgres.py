"""PostgreSQL as a source, as the catalog and as the control state: read, killed, started again."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from app.errors import DataError, StoreUnavailableError
from app.features.ingest import ingest
from app.features.sql_source import whole_tables
from app.features.store import FeatureStore
from app.features.view_tables import view_table
from app.foundation.lake import Lake
from app.settings import Settings, load_settings
from app.spec import Field, Source, SqlQuery
from tests.contract.postgres_server import PASSWORD, PostgresServer
from tests.unit.features import shop

START = datetime(2024, 3, 31, 0, 30, tzinfo=UTC)  # an hour that is missing in much of Europe
TABLE = """
    CREATE TABLE events (
        n bigint PRIMARY KEY, at timestamptz NOT NULL, x numeric(12, 3), who text, day date, sure boolean, id uuid,
        tags text[]
    )
"""
INSERT = sa.text("INSERT INTO events VALUES (:n, :at, :x, :who, :day, :sure, :id, :tags)")
FIELDS = (
    Field("n", "int64"), Field("at", "timestamp"), Field("x", "float64"), Field("who", "string"), Field("day", "date"),
    Field("sure", "bool"), Field("id", "uuid"), Field("tags", "list<string>"),
)


def row(n: int) -> dict[str, Any]:
    """Every seventh row lacks what may be lacking."""
    some = {
        "x": n / 8, "who": f"ö:{n % 3}", "day": date(2024, 2, 29), "sure": n % 2 == 0, "id": str(uuid.UUID(int=n)),
        "tags": ["a", "b,c"][: n % 3],
    }
    return {"n": n, "at": START + timedelta(minutes=n // 3), **(dict.fromkeys(some) if n % 7 == 0 else some)}


def insert(url: str, first: int, last: int) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(INSERT, [row(n) for n in range(first, last)])
    engine.dispose()


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    """A database with an empty table of events. The server runs at the end, whatever the test did with it."""
    made = postgres.create(f"t{uuid.uuid4().hex}")
    engine = sa.create_engine(made)
    with engine.begin() as connection:
        connection.execute(sa.text(TABLE))
    engine.dispose()
    yield made


def source(url: str, **changes: Any) -> Source:
    query = SqlQuery(url, "SELECT *, 'a:b'::text AS colons FROM events", **{"batch_rows": 25, **changes})
    return Source("events", query, FIELDS, ("n",), "at")


def numbers(lake: Lake) -> Counter[int]:
    return Counter(lake.read("shop.raw_events", ["n"])["n"].to_pylist() if lake.exists("shop.raw_events") else [])


@pytest.mark.parametrize("cursor", ["n", "at"])
def test_only_what_is_new_is_read(settings: Settings, url: str, cursor: str) -> None:
    """In batches; rows of one moment stay together, and every value comes as the database has it."""
    lake, events = Lake.open(settings), source(url, cursor=cursor)
    insert(url, 0, 99)
    assert ingest(events, "shop", lake, "run").new_rows == 99
    assert len(lake.commits("shop.raw_events")) > 2
    assert ingest(events, "shop", lake, "run").already_there
    insert(url, 99, 120)
    assert ingest(events, "shop", lake, "run").rows == 21
    assert numbers(lake) == Counter(range(120))
    names = [field.name for field in FIELDS]
    found = lake.read("shop.raw_events", names).sort_by("n").to_pylist()
    assert found == [{name: row(n)[name] for name in names} for n in range(120)]


def test_a_whole_query_is_read_in_parts(url: str) -> None:
    insert(url, 0, 60)
    events = source(url)
    assert isinstance(events.reader, SqlQuery)
    parts = list(whole_tables(events, events.reader))
    assert [part.num_rows for part in parts] == [25, 25, 10]
    assert pa.concat_tables(parts)["n"].to_pylist() == list(range(60))


def test_a_source_that_is_down_is_named_and_read_on_when_it_is_back(
    settings: Settings, postgres: PostgresServer, url: str
) -> None:
    lake, events = Lake.open(settings), source(url, cursor="n")
    insert(url, 0, 30)
    ingest(events, "shop", lake, "run")
    insert(url, 30, 90)
    postgres.stop()
    try:
        with pytest.raises(DataError, match=r"source 'events': the database .*127\.0\.0\.1") as refused:
            ingest(events, "shop", lake, "run")
        assert PASSWORD not in str(refused.value)
        assert numbers(lake) == Counter(range(30))
    finally:
        postgres.start()
    assert ingest(events, "shop", lake, "run").rows == 60
    assert numbers(lake) == Counter(range(90))


def test_catalog_and_control_state_go_on_after_a_crash_of_their_server(
    settings: Settings, postgres: PostgresServer
) -> None:
    """While it is away each use says which setting names it; what was there before the crash is there after it."""
    catalog, state = (postgres.create(f"{kind}{uuid.uuid4().hex}") for kind in ("catalog", "state"))
    there = {"MILLRACE_HOME": str(settings.home), "MILLRACE_CATALOG_URL": catalog, "MILLRACE_STATE_URL": state}
    store = FeatureStore(shop.PROJECT, load_settings(there, in_job=False))
    store.apply()
    rows = shop.prices_frame().to_dict("records")
    store.push("price", rows[:20], to="offline")
    table = view_table("shop", "price", 1)
    before = store.lake.read(table).num_rows
    postgres.stop()
    try:
        for act, variable in (
            (lambda: store.push("price", rows[20:], to="offline"), "MILLRACE_CATALOG_URL"),
            (lambda: store.lake.tables("shop"), "MILLRACE_CATALOG_URL"),
            (store.history, "MILLRACE_STATE_URL"),
            (lambda: FeatureStore(shop.PROJECT, load_settings(there, in_job=False)), "MILLRACE_STATE_URL"),
        ):
            with pytest.raises(StoreUnavailableError, match=f"cannot .* at postgresql.*(?s:.)*{variable}") as refused:
                act()
            assert PASSWORD not in str(refused.value)
    finally:
        postgres.start()
    assert store.lake.read(table).num_rows == before, "nothing of the push that failed"
    store.push("price", rows[20:], to="offline")
    assert store.lake.read(table).num_rows > before
    assert [change["revision"] for change in store.history()] == [1]
