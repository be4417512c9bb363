"""Keys of several columns as one text, compared by value.

Each part carries its length, so `("a", "bc")` and `("ab", "c")` never meet.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

NULL_PART = "~"  # a length-prefixed part always begins with a digit


def row_keys(frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """Identity of each row within its source: the values of the source's key; a null part counts.

    >>> row_keys(pl.DataFrame({"a": ["x", None], "b": [1, 23]}), ["a", "b"]).to_list()
    ['1:x1:1', '~2:23']
    """
    return _encoded(frame, [_part(frame, c).fill_null(NULL_PART) for c in columns])


def entity_keys(frame: pl.DataFrame, columns: Sequence[str]) -> pl.Series:
    """Identity of each row's entity; null when a part is null, which no feature row matches.

    >>> entity_keys(pl.DataFrame({"a": ["x", None], "b": [1, 23]}), ["a", "b"]).to_list()
    ['1:x1:1', None]
    """
    return _encoded(frame, [_part(frame, c) for c in columns])


def _encoded(frame: pl.DataFrame, parts: Sequence[pl.Expr]) -> pl.Series:
    return frame.select(pl.concat_str(parts).alias("key")).to_series()


def _part(frame: pl.DataFrame, column: str) -> pl.Expr:
    value = pl.col(column)
    if isinstance(frame.schema[column], pl.Datetime):
        value = value.dt.epoch("us")
    text = value.cast(pl.String)
    return pl.concat_str([text.str.len_bytes().cast(pl.String), pl.lit(":"), text])


def entity_key(parts: Sequence[str | int | None]) -> str | None:
    """`entity_keys` for one entity, whose parts are in their declared types (a moment in microseconds).

    >>> entity_key(["x", 1])
    '1:x1:1'
    """
    key = ""
    for part in parts:
        if part is None:
            return None
        text = str(part)
        key += f"{len(text) if text.isascii() else len(text.encode())}:{text}"
    return key
