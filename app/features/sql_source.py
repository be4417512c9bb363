"""Rows of a SQL database: whole, or those whose cursor column is greater than the greatest one read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from app.errors import DataError, SettingsError
from app.features.arrow_types import conform_column, rows_to_table
from app.features.cursors import Cursor, SourceBatch
from app.spec.features import Source, SqlQuery


class SqlReader:
    """Cursor `{"value": …}`: the greatest cursor value read. All rows of one value are in one batch."""

    def __init__(self, source: Source, reader: SqlQuery) -> None:
        assert reader.cursor is not None
        self._source = source
        self._reader = reader
        self._engine = _engine(source, reader)
        quote = self._engine.dialect.identifier_preparer.quote
        self._column = quote(reader.cursor)
        self._rows = f"FROM ({as_written(reader.query)}) AS source_rows"
        self._from = f"{self._rows} WHERE {self._column} IS NOT NULL"

    def next_batch(self, committed: Sequence[Cursor], again: Cursor | None) -> SourceBatch | None:
        """See `CursorReader`."""
        with connected(self._source, self._engine) as connection:
            self._refuse_without_cursor(connection)
            after = _from_json(committed[-1]["value"]) if committed else None
            until = _from_json(again["value"]) if again is not None else self._until(connection, after)
            if until is None:
                return None
            where = f"{self._from} AND {self._column} <= :until{_after(after, self._column)}"
            found = connection.execute(sa.text(f"SELECT * {where}"), _given(after=after, until=until))
            rows = table_of(self._source, found.mappings().all())
        return SourceBatch(rows, {"value": _to_json(until)})

    def _refuse_without_cursor(self, connection: sa.Connection) -> None:
        count = f"SELECT count(*) {self._rows} WHERE {self._column} IS NULL"
        lost = connection.execute(sa.text(count)).scalar_one()
        if lost:
            raise DataError(
                f"source {self._source.name!r}: {lost} row(s) have no value in the cursor column "
                f"{self._reader.cursor!r}, so they would never be read. Give them one, leave them out in the query, or "
                "declare the source without cursor to read it whole.", source=self._source.name, rows=lost,
            )

    def _until(self, connection: sa.Connection, after: Any) -> Any:
        """The cursor value at which a batch ends, `None` when nothing is new (or all of it too young)."""
        select = f"SELECT {self._column} {self._from}{_after(after, self._column)} ORDER BY {self._column} LIMIT :n"
        values = list(connection.execute(sa.text(select), _given(after=after, n=self._reader.batch_rows)).scalars())
        if not self._reader.lag or not values:
            return values[-1] if values else None
        field = next(f for f in self._source.fields if f.name == self._reader.cursor)
        moments = conform_column(pa.array(values), field, f"cursor of source {self._source.name!r}").to_pylist()
        limit = datetime.now(UTC) - self._reader.lag
        return next((v for v, at in zip(reversed(values), reversed(moments), strict=True) if at <= limit), None)


def whole_tables(source: Source, reader: SqlQuery) -> Iterator[pa.Table]:
    """All rows of the query, a bounded table at a time."""
    with connected(source, _engine(source, reader)) as connection:
        streaming = connection.execution_options(stream_results=True, max_row_buffer=reader.batch_rows)
        streamed = streaming.execute(sa.text(as_written(reader.query)))
        for part in streamed.mappings().partitions(reader.batch_rows):
            yield table_of(source, part)


def as_written(query: str) -> str:
    """A user's query for `sa.text`, which would read `:name` as a parameter.

    >>> str(sa.text(as_written("SELECT ':a', now()::date")))
    "SELECT ':a', now()::date"
    """
    return re.sub(r"(?<![:\\]):(?=\w)", r"\\:", query)


def table_of(source: Source, rows: Sequence[Any]) -> pa.Table:
    """Rows in the source's declared columns and types; exact decimals become floats."""
    plain = [{k: float(v) if isinstance(v, Decimal) else v for k, v in row.items()} for row in rows]
    return rows_to_table(plain, source.fields, f"source {source.name!r}")


@contextmanager
def connected(source: Source, engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection; what the database says is told without the URL's password.

    Raises:
        DataError: the database refused the query or could not be reached.
    """
    try:
        with engine.connect() as connection:
            yield connection
    except sa.exc.StatementError as error:
        raise DataError(
            f"source {source.name!r}: the database {engine.url.render_as_string(hide_password=True)} answered: "
            f"{error.orig}. Correct the query or the URL.", source=source.name,
        ) from error


def _engine(source: Source, reader: SqlQuery) -> sa.Engine:
    try:
        return sa.create_engine(reader.url)
    except sa.exc.ArgumentError as error:
        raise SettingsError(
            f"source {source.name!r}: its URL is no SQLAlchemy URL; expected e.g. postgresql+psycopg2://user@host/name "
            "or sqlite:////data/rows.db.", source=source.name,
        ) from error


def _after(after: Any, column: str) -> str:
    return "" if after is None else f" AND {column} > :after"


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"datetime": value.isoformat()}
    return float(value) if isinstance(value, Decimal) else value


def _from_json(value: Any) -> Any:
    return datetime.fromisoformat(value["datetime"]) if isinstance(value, dict) else value
