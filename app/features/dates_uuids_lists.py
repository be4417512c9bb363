"""Columns of dates, UUIDs and lists brought to their declared types. Pure.

| declared | accepted | kept |
|---|---|---|
| date | dates, moments at midnight, ISO 8601 texts | date32 |
| uuid | Arrow and Python UUIDs, 16 bytes, texts with or without hyphens, braces, capitals | text, lower case, hyphens |
| list<…> | lists whose items fit | list of the item's type |

A function gives the column, or the values that cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

CANONICAL = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
UUID_BYTES = 16


def dates(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array | list[Any]:
    """The column as `date32`, or the values that are no dates."""
    if pa.types.is_date32(column.type):
        return column
    if pa.types.is_date64(column.type):
        return column.cast(pa.date32())
    return _by_value(column, _date, pa.date32())


def uuids(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array | list[Any]:
    """The column as canonical texts, or the values that are no UUIDs."""
    if pa.types.is_string(column.type) and pc.all(pc.match_substring_regex(column, CANONICAL)).as_py() is not False:
        return column
    return _by_value(column, _uuid_text, pa.string())


def lists(column: pa.ChunkedArray | pa.Array, target: pa.ListType) -> pa.ChunkedArray | pa.Array | list[Any]:
    """The column as `target`, or a sample of what does not fit."""
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return column.drop_null().slice(0, 3).to_pylist() or [str(kind)]
    if not (pa.types.is_null(kind.value_type) or _same_family(kind.value_type, target.value_type)):
        return column.drop_null().slice(0, 3).to_pylist() or [str(kind)]
    try:
        return column.cast(target)
    except pa.ArrowInvalid:
        return column.drop_null().slice(0, 3).to_pylist()


def _same_family(found: pa.DataType, target: pa.DataType) -> bool:
    if pa.types.is_boolean(target):
        return bool(pa.types.is_boolean(found))
    if pa.types.is_string(target):
        return bool(pa.types.is_string(found) or pa.types.is_large_string(found))
    return bool(pa.types.is_integer(found) or pa.types.is_floating(found))


def _by_value(
    column: pa.ChunkedArray | pa.Array, convert: Callable[[Any], Any], target: pa.DataType
) -> pa.ChunkedArray | pa.Array | list[Any]:
    """Converts each distinct value once."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.cast(column.type.storage_type)
    encoded = (column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column).dictionary_encode()
    values = encoded.dictionary.to_pylist()
    converted = [None if value is None else convert(value) for value in values]
    bad = [value for value, result in zip(values, converted, strict=True) if value is not None and result is None]
    return bad or pc.take(pa.array(converted, target), encoded.indices)


def _date(value: Any) -> date | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return value.date() if value.time() == time() else None
    return value if isinstance(value, date) else None


def _uuid_text(value: Any) -> str | None:
    try:
        if isinstance(value, bytes):
            return str(UUID(bytes=value)) if len(value) == UUID_BYTES else None
        return str(UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None
