"""Arrow IPC streams as bodies: many rows in and out without a Python object for each value. Pure."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from app.errors import RequestError
from app.features.arrow_types import ARROW_TYPES
from app.serving.request import MalformedRequestError
from app.serving.schema import RequestSchema
from app.spec.features import DType

ARROW_STREAM = "application/vnd.apache.arrow.stream"
MAX_ARROW_BYTES = 64 * 1024 * 1024
MAX_ARROW_ROWS = 200_000


def read_table(body: bytes) -> pa.Table:
    """The table in a body.

    Raises:
        MalformedRequestError: no Arrow IPC stream.
        RequestError: no rows, or more than `MAX_ARROW_ROWS`.
    """
    try:
        with pa.ipc.open_stream(body) as stream:
            batches, num_rows = [], 0
            for batch in stream:
                num_rows += batch.num_rows
                if num_rows > MAX_ARROW_ROWS:
                    raise RequestError(f"the table has more than {MAX_ARROW_ROWS} rows; send fewer at once.")
                batches.append(batch)
            table = pa.Table.from_batches(batches, stream.schema)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise MalformedRequestError(f"the body is no Arrow IPC stream: {error}.") from error
    if num_rows == 0:
        raise RequestError("the table has no rows.")
    if len(set(table.column_names)) < table.num_columns:
        raise RequestError("the table has two columns of one name.")
    return table


def check_table(table: pa.Table, schema: RequestSchema, feature_names: tuple[str, ...]) -> tuple[pa.Table, bool]:
    """The table with columns of the declared types, and whether it has full feature rows.

    It has when every feature of the champion is there; otherwise its rows are entities.

    Raises:
        RequestError: names the column that must change.
    """
    has_features = set(feature_names) <= set(table.column_names)
    columns: Mapping[str, DType] = schema.entity
    if has_features:
        columns = {**schema.features, schema.key: schema.entity[schema.key]}
    for name in table.column_names:
        if name not in columns:
            raise RequestError(f"unknown column {name!r}; known: {', '.join(columns)}.", field=name)
    lacking = [name for name in columns if name not in table.column_names and not has_features]
    if lacking:
        raise RequestError(
            f"the table lacks column {lacking[0]!r}. Send every feature of the model ({', '.join(feature_names)}) or "
            f"every column of an entity ({', '.join(columns)}).", field=lacking[0],
        )
    return pa.table({name: _checked(table[name], columns[name], name) for name in table.column_names}), has_features


def table_keys(table: pa.Table, key: str, required: bool) -> tuple[str, ...]:
    """Each row's key as text; full feature rows without one get their number.

    Raises:
        RequestError: a null key of an entity, or one that is there twice.
    """
    if key not in table.column_names:
        return tuple(map(str, range(table.num_rows)))
    found = table[key]
    if found.null_count and required:
        raise RequestError(f"column {key!r} has nulls; each row needs its key.", field=key)
    keys = tuple(str(n) if value is None else str(value) for n, value in enumerate(found.to_pylist()))
    if len(set(keys)) < len(keys):
        raise RequestError(f"column {key!r} has a value twice; send each once.", field=key)
    return keys


def write_table(table: pa.Table) -> bytes:
    """The table as an IPC stream."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def _checked(column: pa.ChunkedArray, dtype: DType, name: str) -> pa.ChunkedArray:
    wanted = ARROW_TYPES[dtype]
    given: Any = column.type
    if pa.types.is_dictionary(given):
        column, given = column.cast(given.value_type), given.value_type
    fits = given == wanted or pa.types.is_null(given) or _widens(given, wanted)
    try:
        cast = column.cast(wanted) if fits else None
    except pa.ArrowException:
        cast = None
    if cast is None:
        raise RequestError(f"column {name!r} is {given}; expected {dtype}.", field=name, expected=dtype)
    if pa.types.is_floating(wanted) and not pc.all(pc.is_finite(cast), min_count=0).as_py():
        raise RequestError(
            f"column {name!r} has NaN or infinity; send null for what is not known.", field=name, expected=dtype
        )
    return cast


def _widens(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether every value of one type is a value of the other."""
    types = pa.types
    if types.is_floating(wanted):
        return bool(types.is_floating(given) or types.is_integer(given))
    if types.is_integer(wanted):
        return bool(types.is_integer(given))
    if types.is_timestamp(wanted):
        return bool(types.is_timestamp(given))
    if types.is_string(wanted) or types.is_large_string(wanted):
        return bool(types.is_string(given) or types.is_large_string(given) or types.is_string_view(given))
    return False
