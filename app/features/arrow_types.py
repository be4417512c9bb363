"""Declared types and what they are in Arrow, pandas and polars; and how columns are brought to them.

Every column is brought to its declared type at one border (here), so the same value has the same type at ingest, in a
pushed row, in a training set and in a request. NaN is null. Timestamps are microseconds in UTC; without a zone they
are UTC; finer units are cut to the microsecond.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from app.errors import MissingColumnError, SchemaMismatchError, TimestampError
from app.features.dates_uuids_lists import dates, lists, uuids
from app.spec.features import Field

TIMESTAMP = pa.timestamp("us", tz="UTC")
ARROW_TYPES: dict[str, pa.DataType] = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "timestamp": TIMESTAMP,
    "date": pa.date32(),
    "uuid": pa.string(),
    "list<int64>": pa.list_(pa.int64()),
    "list<float64>": pa.list_(pa.float64()),
    "list<string>": pa.list_(pa.string()),
    "list<bool>": pa.list_(pa.bool_()),
}
_NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}


def arrow_schema(fields: Iterable[Field]) -> pa.Schema:
    """Arrow schema of declared fields, in their order."""
    return pa.schema([(f.name, ARROW_TYPES[f.dtype]) for f in fields])


def conform(table: pa.Table, fields: Sequence[Field], where: str) -> pa.Table:
    """The declared columns of `table`, in order, in their declared types.

    Args:
        table: any Arrow table; further columns are left out.
        fields: what is declared.
        where: what the table is, for messages, e.g. `source 'weather'`.

    Raises:
        MissingColumnError: a declared column is not there.
        SchemaMismatchError: a column holds values of another type.
        TimestampError: a timestamp cannot be read.
    """
    require_columns(table.column_names, [f.name for f in fields], where)
    columns = [conform_column(table.column(f.name), f, where) for f in fields]
    return pa.table(columns, schema=arrow_schema(fields))


def require_columns(present: Iterable[str], needed: Iterable[str], where: str) -> None:
    """Raises `MissingColumnError` that names the columns of `needed` that are not present."""
    there = list(present)
    missing = [name for name in dict.fromkeys(needed) if name not in there]
    if missing:
        raise MissingColumnError(
            f"{where} lacks column {', '.join(map(repr, missing))}; it has: {', '.join(there) or 'none'}. "
            "Correct the declared fields or the data.",
            where=where, columns=missing,
        )


def rows_to_table(rows: Sequence[Mapping[str, Any]], fields: Sequence[Field], where: str) -> pa.Table:
    """Rows as dicts (JSON-like values) brought to declared types. A key absent from a row is null.

    Raises:
        MissingColumnError: no row has a declared column.
        SchemaMismatchError: a value is of another type.
        TimestampError: a timestamp cannot be read.
    """
    if rows:
        require_columns({name for row in rows for name in row}, [f.name for f in fields], where)
    columns = [_array([row.get(f.name) for row in rows], f, where) for f in fields]
    return pa.table(columns, schema=arrow_schema(fields))


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """A frame whose types follow from the schema alone, never from the values.

    Integers are `Int64` and booleans `boolean`, so that a missing value keeps them what they are.
    """
    frame: pd.DataFrame = table.to_pandas(types_mapper=_NULLABLE.get)
    return frame


def to_plain_pandas(table: pa.Table) -> pd.DataFrame:
    """Like `to_pandas`, with numpy types for integers and booleans of columns without a missing value."""
    frame = to_pandas(table)
    for name in table.column_names:
        if table.column(name).null_count == 0 and table.schema.field(name).type in _NULLABLE:
            frame[name] = frame[name].to_numpy()
    return frame


def from_series(series: pd.Series) -> pa.Array:
    """A pandas column as Arrow sees it; NaN and NaT are null; moments with a zone become UTC."""
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        in_utc = series.array.asi8.view(f"M8[{series.dtype.unit}]")
        return pa.array(in_utc, from_pandas=True).view(pa.timestamp(series.dtype.unit, tz="UTC"))
    # Arrow asks what it is given for its protocol; a Series looks for that name in its index, for which it hashes it.
    values = series.array if pd.api.types.is_extension_array_dtype(series.dtype) else series.to_numpy()
    return pa.array(values, from_pandas=True)


def conform_column(column: pa.ChunkedArray | pa.Array, field: Field, where: str) -> pa.ChunkedArray | pa.Array:
    """One column brought to the declared type of `field`."""
    if pa.types.is_null(column.type):
        return column.cast(ARROW_TYPES[field.dtype])
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if field.dtype == "timestamp":
        return _timestamps(column, field, where)
    if field.dtype in ("date", "uuid") or field.dtype.startswith("list<"):
        return _special(column, field, where)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    target = ARROW_TYPES[field.dtype]
    if column.type == target:
        return column
    if not _convertible(column.type, target):
        raise _mismatch(field, where, f"is {column.type}")
    try:
        return column.cast(target)
    except pa.ArrowInvalid as error:
        raise _mismatch(field, where, f"is {column.type}: {error}") from error


def _special(column: pa.ChunkedArray | pa.Array, field: Field, where: str) -> pa.ChunkedArray | pa.Array:
    """Dates, UUIDs and lists."""
    if field.dtype == "date":
        found = dates(column)
    else:
        found = uuids(column) if field.dtype == "uuid" else lists(column, ARROW_TYPES[field.dtype])
    if isinstance(found, list):
        raise _mismatch(field, where, f"{len(found)} distinct value(s) do not fit, e.g. {found[:3]!r}")
    return found


def _convertible(found: pa.DataType, target: pa.DataType) -> bool:
    if pa.types.is_string(target):
        return _is_text(found)
    numeric = pa.types.is_integer(found) or pa.types.is_floating(found) or pa.types.is_boolean(found)
    if pa.types.is_boolean(target):
        return False
    return bool(numeric)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _array(values: list[Any], field: Field, where: str) -> pa.ChunkedArray | pa.Array:
    if field.dtype == "timestamp":
        return _timestamps_of_values(values, field, where)
    if field.dtype in ("date", "uuid"):
        values = [str(v) if isinstance(v, UUID) else None if v != v else v for v in values]
        try:
            return conform_column(pa.array(values), field, where)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise _mismatch(field, where, str(error)) from error
    if field.dtype == "string" and any(not isinstance(v, str) for v in values if v is not None):
        raise _mismatch(field, where, f"holds {_first_of_other_type(values, str)!r}")
    if field.dtype != "bool" and any(isinstance(v, bool) for v in values):
        raise _mismatch(field, where, "holds a boolean")
    if field.dtype == "int64":
        values = [_whole(v, field, where) for v in values]
    try:
        column = pa.array(values, type=ARROW_TYPES[field.dtype], from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError) as error:
        raise _mismatch(field, where, str(error)) from error
    return conform_column(column, field, where)


def _whole(value: Any, field: Field, where: str) -> Any:
    """A float without a fraction as an integer; NaN as missing."""
    if not isinstance(value, float):
        return value
    if value != value:
        return None
    if not value.is_integer():
        raise _mismatch(field, where, f"holds {value!r}")
    return int(value)


def _first_of_other_type(values: list[Any], expected: type) -> Any:
    return next(v for v in values if v is not None and not isinstance(v, expected))


def _timestamps_of_values(values: list[Any], field: Field, where: str) -> pa.ChunkedArray | pa.Array:
    if any(isinstance(v, (bool, int, float)) and v == v for v in values):
        raise _bad_timestamps(field, where, [v for v in values if isinstance(v, (bool, int, float))])
    parsed = [_parsed(v) for v in values]
    bad = [v for v, p in zip(values, parsed, strict=True) if p is None and v is not None and v == v]
    if bad:
        raise _bad_timestamps(field, where, bad)
    return pa.array(parsed, type=TIMESTAMP)


def _parsed(value: Any) -> Any:
    """A moment in UTC, or `None` when `value` is missing or is no moment."""
    if value is None or value != value:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if type(value) is datetime:
        return value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)
    moment = pd.to_datetime(value, utc=True, errors="coerce")
    return None if pd.isna(moment) else moment.floor("us").to_pydatetime()


def _timestamps(column: pa.ChunkedArray | pa.Array, field: Field, where: str) -> pa.ChunkedArray | pa.Array:
    kind = column.type
    if pa.types.is_timestamp(kind):
        if kind.tz is None:
            return pc.assume_timezone(_to_microseconds(column), "UTC")
        return _to_microseconds(column.cast(pa.timestamp(kind.unit, tz="UTC")))
    if pa.types.is_date(kind):
        return pc.assume_timezone(column.cast(pa.timestamp("us")), "UTC")
    if not _is_text(kind):
        raise _bad_timestamps(field, where, column.drop_null().to_pylist())
    texts = pd.Series(column.to_pandas(), dtype="object")
    parsed = pd.to_datetime(texts, utc=True, errors="coerce", format="ISO8601")
    words = texts.str.strip().str.lower().isin(["now", "today"])  # pandas takes these for the moment of reading
    bad = texts[(parsed.isna() & texts.notna()) | words]
    if len(bad):
        raise _bad_timestamps(field, where, list(bad))
    return _to_microseconds(from_series(parsed))


def _to_microseconds(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    if column.type.unit == "ns":
        column = pc.floor_temporal(column, unit="microsecond")
    try:
        return column.cast(pa.timestamp("us", tz=column.type.tz))
    except pa.ArrowInvalid as error:
        raise TimestampError(f"a timestamp does not fit into microseconds: {error}.") from error


def _bad_timestamps(field: Field, where: str, bad: list[Any]) -> TimestampError:
    return TimestampError(
        f"{where}: {len(bad)} value(s) of column {field.name!r} are no timestamps, e.g. {bad[:3]!r}; expected ISO 8601 "
        "such as 2013-01-01T05:00:00Z. Correct the data or the declared type.",
        where=where, column=field.name, count=len(bad), sample=[str(v) for v in bad[:3]],
    )


def _mismatch(field: Field, where: str, found: str) -> SchemaMismatchError:
    return SchemaMismatchError(
        f"{where}: column {field.name!r} is declared {field.dtype} but {found}. Correct the data or the declared type.",
        where=where, column=field.name, declared=field.dtype,
    )
