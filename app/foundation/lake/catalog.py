"""Connecting to the SQL catalog, also when several processes do it first at once."""

from __future__ import annotations

import sqlalchemy as sa
from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy.exc import DatabaseError, OperationalError

from app.errors import StoreUnavailableError

CONNECT_ATTEMPTS = 4
MADE_BY_ANOTHER = ("already exists", "duplicate key")  # SQLite's words, PostgreSQL's words


def open_catalog(name: str, properties: dict[str, str]) -> SqlCatalog:
    """The catalog, whose own tables another process may be making at this moment; then they are there next time.

    Raises:
        StoreUnavailableError: its database cannot be reached.
    """
    for attempt in range(CONNECT_ATTEMPTS):
        try:
            return SqlCatalog(name, **properties)
        except DatabaseError as error:
            if attempt + 1 < CONNECT_ATTEMPTS and any(sign in str(error) for sign in MADE_BY_ANOTHER):
                continue
            if not isinstance(error, OperationalError):
                raise
            where = sa.make_url(properties["uri"]).render_as_string()  # without its password
            raise StoreUnavailableError(
                f"cannot open the catalog of tables at {where}: {error.orig}. Check that the server runs and can be "
                "reached, or set MILLRACE_CATALOG_URL.", store=where,
            ) from error
    raise AssertionError("the last attempt returned or raised")
