"""SQL databases and folders of files: only what is new is read, and a kill at any point costs or doubles no row."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import sqlite3
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from app.errors import DataError, SettingsError
from app.features.file_source import listed
from app.features.ingest import ingest
from app.features.quarantine import read_quarantine
from app.foundation.lake import Lake
from app.settings import Settings, load_settings
from app.spec import CsvFiles, Expectation, Field, ParquetFiles, Source, SqlQuery

SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["app.features.ingest"])
FIELDS = (Field("n", "int64"), Field("at", "timestamp"), Field("x", "float64"))


def source(reader: Any) -> Source:
    return Source("events", reader, FIELDS, ("n",), "at", expectations=(Expectation("x", minimum=0),))


def insert(path: Path, first: int, last: int) -> None:
    """Rows `[first, last)`, every tenth of which breaks the expectation."""
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE IF NOT EXISTS events (n INTEGER PRIMARY KEY, at TEXT, x REAL)")
        rows = [(n, f"2013-01-01T00:00:{n % 60:02d}", -1.0 if n % 10 == 0 else n / 2) for n in range(first, last)]
        database.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)


def sql(path: Path, **changes: Any) -> Source:
    query = SqlQuery(f"sqlite:///{path}", "SELECT n, at, x FROM events", cursor="n", batch_rows=25)
    return source(dataclasses.replace(query, **changes))


def numbers(lake: Lake) -> Counter[int]:
    return Counter(lake.read("shop.raw_events", ["n"])["n"].to_pylist() if lake.exists("shop.raw_events") else [])


def good(last: int) -> Counter[int]:
    return Counter(n for n in range(last) if n % 10)


def test_a_sql_table_is_read_in_batches_and_then_only_what_is_new(settings: Settings, tmp_path: Path) -> None:
    lake, path = Lake.open(settings), tmp_path / "rows.db"
    insert(path, 0, 60)
    first = ingest(sql(path), "shop", lake, "run")
    assert (first.rows, first.new_rows, first.quarantined) == (54, 54, 6)
    assert len(lake.commits("shop.raw_events")) == 3
    assert ingest(sql(path), "shop", lake, "run").already_there
    insert(path, 60, 70)
    again = ingest(sql(path), "shop", lake, "run")
    assert (again.rows, again.quarantined) == (9, 1)
    assert numbers(lake) == good(70)
    assert read_quarantine(lake, "shop", "events").num_rows == 7


def test_equal_cursor_values_stay_together(settings: Settings, tmp_path: Path) -> None:
    """A batch that ends among rows of one cursor value takes all of them."""
    lake, path = Lake.open(settings), tmp_path / "rows.db"
    insert(path, 0, 100)
    ingest(sql(path, cursor="at", batch_rows=7), "shop", lake, "run")
    assert numbers(lake) == good(100)


def test_rows_without_a_cursor_value_are_an_error_that_counts_them(settings: Settings, tmp_path: Path) -> None:
    lake, path = Lake.open(settings), tmp_path / "rows.db"
    insert(path, 1, 5)
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO events VALUES (99, NULL, 1), (100, NULL, 1)")
    with pytest.raises(DataError, match=r"2 row\(s\) have no value in the cursor column 'at'"):
        ingest(sql(path, cursor="at"), "shop", lake, "run")
    assert not numbers(lake)


def test_colons_in_a_query_are_the_query_s_own(settings: Settings, tmp_path: Path) -> None:
    lake, path = Lake.open(settings), tmp_path / "rows.db"
    insert(path, 1, 5)
    query = """SELECT n, at, x FROM events WHERE '{"a":1, "b":"c"}' LIKE '%":1%' AND ':name' <> ''"""
    assert ingest(sql(path, query=query), "shop", lake, "run").rows == 4


def test_rows_too_young_wait(settings: Settings, tmp_path: Path) -> None:
    lake, path = Lake.open(settings), tmp_path / "rows.db"
    insert(path, 1, 5)
    with sqlite3.connect(path) as database:
        young = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
        database.execute("INSERT INTO events VALUES (99, ?, 1)", (young,))
    waiting = sql(path, cursor="at", lag=timedelta(hours=1))
    ingest(waiting, "shop", lake, "run")
    assert numbers(lake) == Counter(range(1, 5))
    ingest(sql(path, cursor="at"), "shop", lake, "run")
    assert numbers(lake) == Counter([1, 2, 3, 4, 99])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"query": "SELECT n FROM nowhere"}, DataError, "source 'events': the database .* answered: no such table"),
        ({"query": "SELECT n, at FROM events"}, DataError, "source 'events' lacks column 'x'"),
        ({"query": "SELECT n, at, 'much' AS x FROM events"}, DataError, "column .x. is declared float64"),
        ({"url": "nonsense"}, SettingsError, "source 'events': its URL is no SQLAlchemy URL"),
    ],
)
def test_what_a_database_refuses_is_named_and_nothing_is_written(
    settings: Settings, tmp_path: Path, changes: dict[str, str], error: type[Exception], message: str
) -> None:
    insert(tmp_path / "rows.db", 0, 5)
    lake = Lake.open(settings)
    with pytest.raises(error, match=message):
        ingest(sql(tmp_path / "rows.db", **changes), "shop", lake, "run")
    assert not numbers(lake)


def _killed(home: str, path: str, at: int) -> None:
    """Ingests and kills itself at the point `at`, counted before and after each stage and commit."""
    left = at

    def around(function: Any) -> Any:
        def point() -> None:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

        def watched(*args: Any, **kwargs: Any) -> Any:
            point()
            result = function(*args, **kwargs)
            point()
            return result

        return watched

    for name in ("stage", "commit_staged"):
        setattr(Lake, name, around(getattr(Lake, name)))
    ingest(sql(Path(path)), "shop", Lake.open(load_settings({"MILLRACE_HOME": home}, in_job=False)), "run")


@pytest.mark.parametrize("points", [(1,), (3, 3), (4,), (5, 2), (7, 5, 4), (9,), (11, 9)], ids=str)
def test_killed_at_chosen_points(settings: Settings, tmp_path: Path, points: tuple[int, ...]) -> None:
    """Once or several times in a row, with further rows between."""
    lake, path = Lake.open(settings), tmp_path / "rows.db"
    insert(path, 0, 60)
    last = 60
    for at in points:
        process = SPAWN.Process(target=_killed, args=(str(settings.home), str(path), at))
        process.start()
        process.join()
        assert process.exitcode == -9
        assert set(numbers(lake).values()) <= {1}
        insert(path, last, last + 10)
        last += 10
    ingest(sql(path), "shop", lake, "run")
    assert numbers(lake) == good(last)
    assert read_quarantine(lake, "shop", "events").num_rows == last // 10


def test_ingests_at_once_write_each_row_once(settings: Settings, tmp_path: Path) -> None:
    insert(tmp_path / "rows.db", 0, 200)
    processes = [
        SPAWN.Process(target=_killed, args=(str(settings.home), str(tmp_path / "rows.db"), -1)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0, 0, 0]
    lake = Lake.open(settings)
    assert numbers(lake) == good(200)
    assert read_quarantine(lake, "shop", "events").num_rows == 20


def frame(first: int, last: int) -> pd.DataFrame:
    at = pd.Timestamp("2013-01-01", tz="UTC") + pd.to_timedelta(range(first, last), unit="s")
    x = [-1.0 if n % 10 == 0 else 1.0 for n in range(first, last)]
    return pd.DataFrame({"n": range(first, last), "at": at, "x": x})


@pytest.mark.parametrize("form", ["{folder}", "{folder}/*.parquet", "file://{folder}", "file://{folder}/*/*.parquet"])
def test_files_not_read_before_are_read(settings: Settings, tmp_path: Path, form: str) -> None:
    lake, folder = Lake.open(settings), tmp_path / "files" / "day"
    folder.mkdir(parents=True)
    where = folder.parent if form.endswith("/*/*.parquet") else folder
    files = source(ParquetFiles(form.format(folder=where), new_files_only=True))
    frame(0, 20).to_parquet(folder / "a.parquet")
    first = ingest(files, "shop", lake, "run")
    assert (first.rows, first.quarantined) == (18, 2)
    assert ingest(files, "shop", lake, "run").already_there
    frame(20, 30).to_parquet(folder / "0.parquet")  # its name sorts before the first
    assert ingest(files, "shop", lake, "run").rows == 9
    assert numbers(lake) == good(30)
    assert read_quarantine(lake, "shop", "events").num_rows == 3


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("/*.parquet", ["a"]), ("/*/*.parquet", ["day/b"]), ("/**/*.parquet", ["a", "day/b", "day/old/c"]),
     ("", ["a", "day/b", "day/old/c"])],
)
def test_a_star_stays_within_its_folder_and_two_cross_folders(
    tmp_path: Path, pattern: str, expected: list[str]
) -> None:
    (tmp_path / "day" / "old").mkdir(parents=True)
    for name in ("a", "day/b", "day/old/c"):
        frame(1, 2).to_parquet(tmp_path / f"{name}.parquet")
    _, found = listed(f"{tmp_path}{pattern}", source(ParquetFiles("none")))
    assert [str(Path(f.path).relative_to(tmp_path).with_suffix("")) for f in found] == expected


def test_csv_files_and_files_that_cannot_be_read(settings: Settings, tmp_path: Path) -> None:
    lake = Lake.open(settings)
    (tmp_path / "a.csv").write_text("n,at,x\n1,2013-01-01T00:00:00Z,2\n")
    files = source(CsvFiles(f"{tmp_path}/*.csv", new_files_only=True))
    assert ingest(files, "shop", lake, "run").rows == 1
    (tmp_path / "b.csv").write_text("n,at,x\nfive,2013-01-01T00:00:00Z,2\n")
    with pytest.raises(DataError, match=r"b\.csv' of source 'events' cannot be read"):
        ingest(files, "shop", lake, "run")
    assert numbers(lake) == Counter([1])
    with pytest.raises(DataError, match="no file matches"):
        ingest(source(CsvFiles(f"{tmp_path}/*.txt", new_files_only=True)), "shop", lake, "run")
