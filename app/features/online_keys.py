"""Entities of a request as keys of the online store. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from app.errors import MissingColumnError, SchemaMismatchError
from app.features.arrow_types import rows_to_table
from app.features.keys import entity_key
from app.features.push import micros_of
from app.spec.features import Field


@dataclass(frozen=True)
class AskedKeys:
    """Distinct keys of a request. `place`: which of them each row means, -1 for a row with a null in its key."""

    distinct: list[str]
    place: list[int] | None  # `None`: row `i` means key `i`

    def spread(self, column: Sequence[Any]) -> Sequence[Any]:
        """Values by row out of values by distinct key; `None` for a row without a key."""
        if self.place is None:
            return column
        return [None if place < 0 else column[place] for place in self.place]


def asked_keys(keys: Sequence[tuple[str, Field]], view: str, rows: Sequence[Mapping[str, Any]]) -> AskedKeys:
    """The keys of the rows of a request.

    Args:
        keys: the rows' column for each join key of the view, and its type.
        view: name of the view, for messages.
        rows: what was sent.

    Raises:
        MissingColumnError: a row lacks a join key.
        SchemaMismatchError: a join key of another type than declared.
    """
    parts = [_parts(column, field, view, rows) for column, field in keys]
    encoded: Sequence[str | None]
    if len(parts) == 1 and None not in parts[0]:  # as `entity_key`, for most requests
        encoded = [f"{len(t) if t.isascii() else len(t.encode())}:{t}" for t in map(str, parts[0])]
    else:
        encoded = [entity_key(part) for part in zip(*parts, strict=True)] if parts else [entity_key(())] * len(rows)
    distinct = list(dict.fromkeys(key for key in encoded if key is not None))
    if len(distinct) == len(encoded):
        return AskedKeys(distinct, None)
    places = {key: i for i, key in enumerate(distinct)}
    return AskedKeys(distinct, [-1 if key is None else places[key] for key in encoded])


def _parts(name: str, field: Field, view: str, rows: Sequence[Mapping[str, Any]]) -> list[str | int | None]:
    plain: type | None = {"string": str, "int64": int}.get(field.dtype)
    if all(type(row.get(name)) is plain for row in rows):
        return [row[name] for row in rows]
    parts: list[str | int | None] = []
    for row in rows:
        if name not in row:
            raise MissingColumnError(
                f"an entity row lacks the join key {name!r} of feature view {view!r}; it has: "
                f"{', '.join(row) or 'nothing'}.", column=name, view=view,
            )
        parts.append(_typed(row[name], field, view))
    return parts


def _typed(value: Any, field: Field, view: str) -> str | int | None:
    """A key's value in its declared type, as `spine_keys` brings it in training."""
    if value is None or value is pd.NA or value != value:
        return None
    if isinstance(value, np.generic) and field.dtype not in ("timestamp", "date"):
        value = value.item()
    if field.dtype == "string" and isinstance(value, str):
        return value
    if field.dtype == "int64" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if field.dtype == "int64" and isinstance(value, float) and value.is_integer():
        return int(value)
    if field.dtype == "float64" and isinstance(value, int | float) and not isinstance(value, bool):
        return str(float(value) + 0.0)  # zero has one sign
    if field.dtype == "bool" and isinstance(value, bool):
        return str(value).lower()
    if field.dtype in ("timestamp", "date", "uuid"):
        column = rows_to_table([{field.name: value}], [field], f"join key of feature view {view!r}")[field.name]
        typed = column[0].as_py()
        return micros_of(typed) if field.dtype == "timestamp" else str(typed)
    raise SchemaMismatchError(
        f"join key {field.name!r} of feature view {view!r} is {value!r}; expected {field.dtype}.",
        column=field.name, view=view,
    )
