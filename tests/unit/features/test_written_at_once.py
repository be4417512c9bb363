"""Rows of one key that one ingest brings in several blocks: which one counts has nothing to do with files or blocks."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.features.arrow_types import conform
from app.features.backfill_stage import by_version
from app.features.ingest import read_source
from app.features.known_rows import known_rows, newest_rows
from app.features.raw_tables import CREATED, raw_rows, raw_table
from app.features.sources import raw_schema
from app.features.training_set import cases_inside
from app.foundation.lake import CompactionPolicy, Lake
from app.settings import load_settings
from app.spec import CsvFiles, Field, Source

NOW = datetime(2024, 1, 1, tzinfo=UTC)
FIELDS = (
    Field("k", "int64"), Field("at", "timestamp"), Field("v", "int64"), Field("text", "string"),
    Field("several", "list<float64>"),
)
SOURCE = Source("states", CsvFiles("none"), FIELDS, ("k",), "at")
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "k": st.integers(0, 2), "at": st.just(NOW), "v": st.none() | st.integers(0, 2),
            "text": st.none() | st.sampled_from(["", "a", "ä"]),
            "several": st.none() | st.lists(st.none() | st.floats(0, 1), max_size=2),
        }
    ),
    min_size=2, max_size=9,
)


def raw(rows: list[dict[str, object]], created: datetime = NOW) -> pa.Table:
    return raw_rows(conform(pa.Table.from_pylist(rows, raw_schema(SOURCE)).select([f.name for f in FIELDS]),
                            FIELDS, "test"), SOURCE, created)


@given(ROWS, st.randoms(use_true_random=False))
def test_any_order_of_the_rows_gives_the_same(rows: list[dict[str, object]], random: object) -> None:
    table = pl.DataFrame(raw(rows))
    shuffled = table.sample(fraction=1.0, shuffle=True, seed=random.randrange(1_000))  # type: ignore[attr-defined]
    assert newest_rows(table).sort("row_key").equals(newest_rows(shuffled).sort("row_key"))
    of = [pa.concat_tables(by_version(t.to_arrow())).to_pylist() for t in (table, shuffled)]
    assert sorted(map(repr, of[0])) == sorted(map(repr, of[1]))
    assert {r["row_key"] for r in of[0]} == set(table["row_key"])


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake.open(load_settings({"MILLRACE_HOME": str(tmp_path_factory.mktemp("home"))}, in_job=False))


number = itertools.count()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS)
def test_a_compaction_changes_no_winner(lake: Lake, rows: list[dict[str, object]]) -> None:
    """Blocks of one ingest are files of one commit, each of whose names is drawn."""
    project = f"shop{next(number)}"
    table = raw_table(project, SOURCE)
    lake.ensure_table(table, raw_schema(SOURCE))
    blocks = [lake.stage(table, raw([row])) for row in rows]
    lake.commit_staged(table, blocks, {CREATED: NOW.isoformat()}, lambda _: True)
    before, known = read_source(lake, project, SOURCE).sort("k"), known_rows(lake, table, SOURCE)
    assert lake.compact(table, CompactionPolicy(at_least=2)).files_after == 1
    assert read_source(lake, project, SOURCE).sort("k").equals(before)
    for of in (known, known_rows(lake, table, SOURCE)):
        assert of.unknown(raw(rows).select([f.name for f in FIELDS])).num_rows == 0, "all of them have been written"


def test_a_case_that_stands_twice_is_in_exactly_one_stretch() -> None:
    """The two rows lie in different stretches; whichever counts, each stretch thinks the same of it."""
    early, late = (
        pl.DataFrame({"row_key": ["a"], CREATED: [NOW], "asked": [NOW + timedelta(days=day)], "n": [n]})
        for day, n in ((1, 7), (2, 3))
    )
    identity = ["asked", "row_key", CREATED]
    found = [cases_inside(early, late.select(identity)), cases_inside(late, early.select(identity))]
    assert [part["n"].to_list() for part in found] == [[], [3]]


def test_what_was_written_later_counts_whatever_it_holds(tmp_path: Path) -> None:
    rows = [{"k": 1, "at": NOW, "v": v, "text": None, "several": None} for v in (9, 2)]
    later = pa.concat_tables([raw(rows[:1]), raw(rows[1:], NOW + timedelta(hours=1))])
    assert newest_rows(pl.DataFrame(later))["v"].to_list() == [2]
