"""Databases that cannot be reached: one error that names the store and says what to do, without its password."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa

from app.errors import SettingsError, StoreUnavailableError
from app.features.store import FeatureStore
from app.foundation.lake import Lake
from app.foundation.state import StateDatabase
from app.settings import Settings, load_settings
from tests.unit.features import shop

NOWHERE = "postgresql+psycopg2://millrace:secret@127.0.0.1:9/tables"  # port 9 refuses


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("MILLRACE_CATALOG_URL", "cannot open the catalog of tables at .*127.0.0.1:9.*set MILLRACE_CATALOG_URL"),
        ("MILLRACE_STATE_URL", "cannot open the control state at .*127.0.0.1:9.*set MILLRACE_STATE_URL"),
    ],
)
def test_a_database_that_is_down_is_named(tmp_path: Path, variable: str, message: str) -> None:
    settings = load_settings({"MILLRACE_HOME": str(tmp_path), variable: NOWHERE}, in_job=False)
    with pytest.raises(StoreUnavailableError, match=f"(?s){message}") as refused:
        store = FeatureStore(shop.PROJECT, settings)
        store.apply()
        store.push("price", shop.prices_frame(), to="offline")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("variable", ["MILLRACE_CATALOG_URL", "MILLRACE_STATE_URL"])
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgres://me:secret@127.0.0.1:9/t", "'postgres' names no kind of database.*postgresql\\+psycopg2://"),
        ("http://me:secret@127.0.0.1:9/api", "'http' names no kind of database"),
        ("mysql://me:secret@127.0.0.1:9/t", "driver is not installed .*MySQLdb.*Install it"),
        ("sqlite+aiosqlite:///secret", "aiosqlite"),
        ("postgresql+psycopg2://me:secret@127.0.0.1:port/t", "no database URL"),
        ("secret", "no database URL"),
    ],
)
def test_a_url_that_no_driver_can_open_is_named(tmp_path: Path, variable: str, url: str, message: str) -> None:
    settings = load_settings({"MILLRACE_HOME": str(tmp_path), variable: url}, in_job=False)
    with pytest.raises(SettingsError, match=f"(?s){variable} is .*{message}") as refused:
        FeatureStore(shop.PROJECT, settings).lake.exists("shop.raw_sales")
    assert "me:secret" not in str(refused.value)


def gone(settings: Settings, file: str) -> None:
    """The database's file is none any more, as when a server goes away."""
    for left in settings.home.glob(f"{file}*"):
        left.unlink()
    (settings.home / file).mkdir()


def test_a_catalog_that_goes_away_after_it_was_opened_is_named(settings: Settings) -> None:
    lake = Lake.open(settings)
    lake.ensure_table("shop.rows", pa.schema([("n", pa.int64())]))
    lake._connected().engine.dispose()  # the next use connects anew
    gone(settings, "catalog.db")
    for use in (lake.exists, lake.commits, lake.current_snapshot_id, lake.compact):
        with pytest.raises(StoreUnavailableError, match=r"cannot use the catalog of tables at sqlite.*catalog\.db"):
            use("shop.rows")


def test_a_catalog_that_goes_away_before_a_commit_or_a_listing_is_named(settings: Settings) -> None:
    """Each act has looked at the table before; the database goes with the next statement. Nothing is written."""
    lake, schema = Lake.open(settings), pa.schema([("n", pa.int64())])
    for table in ("shop.plain", "shop.bucketed"):
        lake.ensure_table(table, schema, bucket_by=("n",) if table == "shop.bucketed" else ())
    rows = pa.table({"n": [1, 2]})
    staged = lake.stage("shop.plain", rows)
    plain = lake._load("shop.plain")
    saved, file = settings.home / "saved.db", settings.home / "catalog.db"
    lake._connected().engine.dispose()
    shutil.copy(file, saved)

    def away() -> None:
        lake._connected().engine.dispose()
        gone(settings, "catalog.db")

    def commit_now() -> None:
        with plain.transaction() as transaction:
            away()
            transaction.set_properties({"a": "b"})

    def goes(_: object) -> bool:
        away()
        return True

    acts = (
        commit_now,
        lambda: lake.commit_staged("shop.plain", [staged], {}, goes),
        lambda: (away(), lake.tables("shop")),
        lambda: (away(), lake.ensure_table("shop.new", schema)),
        lambda: (away(), lake.append("shop.bucketed", rows, {})),
    )
    for act in acts:
        with pytest.raises(StoreUnavailableError, match=r"cannot use the catalog of tables at sqlite.*catalog\.db"):
            act()
        file.rmdir()
        shutil.copy(saved, file)
        assert lake.tables("shop") == ["shop.bucketed", "shop.plain"]
        assert all(lake.current_snapshot_id(table) is None for table in lake.tables("shop"))
        assert "a" not in lake.table_properties("shop.plain")


def test_a_control_state_that_goes_away_after_it_was_opened_is_named(settings: Settings) -> None:
    database = StateDatabase.open(settings.state_url)
    database._connected().dispose()
    gone(settings, "state.db")
    with (
        pytest.raises(StoreUnavailableError, match=r"cannot use the control state at sqlite.*state\.db") as away,
        database.session() as session,
    ):
        session.execute(sa.text("select 1"))
    assert isinstance(away.value, sa.exc.SQLAlchemyError), "what rollouts, replicas and tokens hold on for"
    copy = pickle.loads(pickle.dumps(away.value))
    assert (str(copy), copy.code, copy.http_status) == (str(away.value), "store_unavailable", 503)
