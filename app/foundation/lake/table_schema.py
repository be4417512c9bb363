"""The types the lake keeps, and bringing rows to them. One meaning has one type, whoever wrote it.

| what arrives | what is kept |
|---|---|
| large_string, string_view, dictionary of strings | string |
| every integer that fits | int64 |
| large_list, list_view, a list of any of these | list of the kept type |
| timestamp of any unit, naive or of any zone | timestamp('us', tz='UTC'); naive is UTC |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from app.errors import MissingColumnError, SchemaMismatchError

if TYPE_CHECKING:
    from pyiceberg.table import Table

TIMESTAMP = pa.timestamp("us", tz="UTC")
LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_list_view, pa.types.is_large_list_view)


def kept_type(kind: pa.DataType) -> pa.DataType:
    """The type the lake keeps for a column that arrives as `kind`.

    >>> str(kept_type(pa.int16())), str(kept_type(pa.timestamp("ns"))), str(kept_type(pa.large_list(pa.int16())))
    ('int64', 'timestamp[us, tz=UTC]', 'list<item: int64>')
    """
    if any(is_list(kind) for is_list in LISTS):
        return pa.list_(kept_type(kind.value_type))
    if pa.types.is_dictionary(kind):
        return kept_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_integer(kind):
        return pa.int64()
    return TIMESTAMP if pa.types.is_timestamp(kind) else kind


def kept_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with every column as the lake keeps it, free of field ids and other metadata."""
    return pa.schema([pa.field(field.name, kept_type(field.type)) for field in schema])


def conform(rows: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """The rows in the column order and types of `schema`; a column they lack is null.

    Raises:
        SchemaMismatchError: the rows have a column that `schema` has not, or a value of another type.
    """
    unknown = [name for name in rows.column_names if schema.get_field_index(name) < 0]
    if unknown and rows.num_rows:
        raise SchemaMismatchError(
            f"{where} has no column {', '.join(map(repr, unknown))}; it has {', '.join(map(repr, schema.names))}. "
            "Declare the column with ensure_table first, or leave it out.",
            table=where,
            columns=unknown,
        )
    columns = [
        _cast(rows.column(field.name), field, where)
        if field.name in rows.column_names
        else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=pa.schema([pa.field(f.name, f.type) for f in schema]))


def require_columns(schema: pa.Schema, columns: Sequence[str], where: str) -> None:
    """Passes when the table has all `columns`.

    Raises:
        MissingColumnError: it lacks one.
    """
    missing = [name for name in columns if schema.get_field_index(name) < 0]
    if missing:
        raise MissingColumnError(
            f"{where} has no column {', '.join(map(repr, missing))}; it has {', '.join(map(repr, schema.names))}.",
            table=where,
            columns=missing,
        )


def add_columns(table: Table, schema: pa.Schema, identifier: str) -> None:
    """Adds the columns of `schema` that the table has not.

    Raises:
        SchemaMismatchError: a column exists with another type.
    """
    present = kept_schema(table.schema().as_arrow())
    for column in schema:
        index = present.get_field_index(column.name)
        if index >= 0 and present.field(index).type != column.type:
            raise SchemaMismatchError(
                f"table {identifier} has column {column.name!r} as {present.field(index).type}; the "
                f"declaration says {column.type}. Declare the old type or rename the column.",
                column=column.name,
            )
    added = [column for column in schema if present.get_field_index(column.name) < 0]
    if added:
        with table.update_schema() as update:
            update.union_by_name(pa.schema(added))


def _cast(column: pa.ChunkedArray, field: pa.Field, where: str) -> pa.ChunkedArray:
    try:
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            # A cast refuses digits below the microsecond; they are dropped, so that a moment never moves later.
            column = pc.floor_temporal(column, unit="microsecond")
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SchemaMismatchError(
            f"{where}: column {field.name!r} is kept as {field.type}, but rows came as {column.type}: {error}. "
            "Convert the values, or use a new column for another type.",
            table=where,
            column=field.name,
        ) from error
