"""Columns at the border: what is accepted, what it becomes, what is refused and how."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from uuid import UUID

import pyarrow as pa
import pytest

from app.errors import MissingColumnError, SchemaMismatchError, TimestampError
from app.features.arrow_types import conform, rows_to_table, to_pandas
from app.spec.features import Field

MOMENT = datetime(2013, 1, 1, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["2013-01-01T05:00:00"]),
        pa.array(["2013-01-01T00:00:00-05:00"]),
        pa.array([datetime(2013, 1, 1, 5)], pa.timestamp("s")),
        pa.array([MOMENT], pa.timestamp("ns", tz="America/New_York")),
        pa.array(["2013-01-01 05:00:00"]).dictionary_encode(),
    ],
)
def test_one_moment_however_it_is_written(column: pa.Array) -> None:
    table = conform(pa.table({"at": column}), [Field("at", "timestamp")], "source 'x'")
    assert table["at"].to_pylist() == [MOMENT]
    assert table.schema.field("at").type == pa.timestamp("us", tz="UTC")


def test_missing_column_is_named() -> None:
    with pytest.raises(MissingColumnError, match=r"source 'x' lacks column 'b'; it has: a"):
        conform(pa.table({"a": [1]}), [Field("a", "int64"), Field("b", "int64")], "source 'x'")


@pytest.mark.parametrize(("dtype", "values"), [("int64", [1.5]), ("int64", ["x"]), ("string", [1]), ("float64", ["1"])])
def test_other_types_are_refused(dtype, values) -> None:
    field = Field("a", dtype)
    with pytest.raises(SchemaMismatchError, match="column 'a' is declared"):
        conform(pa.table({"a": values}), [field], "source 'x'")
    with pytest.raises(SchemaMismatchError, match="column 'a' is declared"):
        rows_to_table([{"a": v} for v in values], [field], "push")


def test_unreadable_timestamps_are_counted_with_a_sample() -> None:
    values = ["2013-01-01", "yesterday", "soon", None]
    for read in (
        lambda: conform(pa.table({"at": values}), [Field("at", "timestamp")], "source 'x'"),
        lambda: rows_to_table([{"at": v} for v in values], [Field("at", "timestamp")], "source 'x'"),
    ):
        with pytest.raises(TimestampError, match=r"2 value\(s\) of column 'at'.*yesterday") as caught:
            read()
        assert caught.value.detail["count"] == 2


def test_rows_and_tables_give_the_same() -> None:
    kinds = {"i": "int64", "f": "float64", "s": "string", "b": "bool", "t": "timestamp"}
    fields = [Field(name, dtype) for name, dtype in kinds.items()]  # type: ignore[arg-type]
    rows = [
        {"i": 1, "f": 2, "s": "a", "b": True, "t": "2013-01-01T05:00:00Z"},
        {"i": 3.0, "f": float("nan"), "s": None, "b": None},
    ]
    table = rows_to_table(rows, fields, "push")
    assert table.to_pylist() == [
        {"i": 1, "f": 2.0, "s": "a", "b": True, "t": MOMENT},
        {"i": 3, "f": None, "s": None, "b": None, "t": None},
    ]
    assert conform(table, fields, "again").equals(table)


def test_pandas_types_follow_from_the_schema_alone() -> None:
    full, holed = pa.table({"i": [1, 2]}), pa.table({"i": pa.array([1, None], pa.int64())})
    assert to_pandas(full).dtypes.to_list() == to_pandas(holed).dtypes.to_list()


UUID_TEXT = "5162294f-146c-4463-ae63-f202e4000001"


@pytest.mark.parametrize(
    "column",
    [
        pa.array([UUID_TEXT]), pa.array([UUID_TEXT.upper()]), pa.array(["{" + UUID_TEXT.replace("-", "") + "}"]),
        pa.array([UUID(UUID_TEXT)]), pa.array([UUID(UUID_TEXT).bytes]),
        pa.array([UUID(UUID_TEXT).bytes], pa.binary(16)), pa.chunked_array([pa.array([UUID_TEXT]).dictionary_encode()]),
    ],
)
def test_one_uuid_however_it_is_written(column) -> None:
    assert conform(pa.table({"id": column}), [Field("id", "uuid")], "x")["id"].to_pylist() == [UUID_TEXT]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([date(2013, 1, 1)]), pa.array([date(2013, 1, 1)], pa.date64()), pa.array(["2013-01-01"]),
        pa.array([datetime(2013, 1, 1)]), pa.array(["2013-01-01T00:00:00"]),
    ],
)
def test_one_date_however_it_is_written(column: pa.Array) -> None:
    table = conform(pa.table({"on": column}), [Field("on", "date")], "x")
    assert table["on"].to_pylist() == [date(2013, 1, 1)]
    assert table.schema.field("on").type == pa.date32()


@pytest.mark.parametrize(
    ("dtype", "column"),
    [
        ("uuid", pa.array(["5162294f"])), ("uuid", pa.array([b"short"])), ("uuid", pa.array([7])),
        ("date", pa.array(["soon"])), ("date", pa.array([datetime(2013, 1, 1, 5)])), ("date", pa.array([7])),
        ("list<int64>", pa.array([[1.5]])), ("list<int64>", pa.array([["x"]])), ("list<string>", pa.array([[1]])),
        ("list<float64>", pa.array([1.0])), ("list<bool>", pa.array([[1]])),
    ],
)
def test_what_is_no_date_uuid_or_list_is_refused_with_a_sample(dtype, column: pa.Array) -> None:
    sample = re.escape(repr(column.to_pylist()[0]))
    with pytest.raises(SchemaMismatchError, match=rf"x: column 'a' is declared {dtype} but .*{sample}"):
        conform(pa.table({"a": column}), [Field("a", dtype)], "x")


def test_rows_of_json_with_dates_uuids_and_lists() -> None:
    fields = [Field("on", "date"), Field("id", "uuid"), Field("tags", "list<string>"), Field("x", "list<float64>")]
    rows = [{"on": "2013-01-01", "id": UUID(UUID_TEXT), "tags": ["a", None], "x": [1, 2]}, {"on": None}]
    assert rows_to_table(rows, fields, "rows").to_pylist() == [
        {"on": date(2013, 1, 1), "id": UUID_TEXT, "tags": ["a", None], "x": [1.0, 2.0]},
        {"on": None, "id": None, "tags": None, "x": None},
    ]
