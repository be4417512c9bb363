"""Connecting to the SQL catalog, also when several processes do it first at once."""

from __future__ import annotations

from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy.exc import DatabaseError, OperationalError

from app.foundation.database_url import DatabaseAwayError, checked_url

CONNECT_ATTEMPTS = 4
MADE_BY_ANOTHER = ("already exists", "duplicate key")  # SQLite's words, PostgreSQL's words


def open_catalog(name: str, properties: dict[str, str]) -> SqlCatalog:
    """The catalog, whose own tables another process may be making at this moment; then they are there next time.

    Raises:
        SettingsError: its URL is none of a database, or has no driver here.
        DatabaseAwayError: its database cannot be reached.
    """
    checked_url(properties["uri"], "MILLRACE_CATALOG_URL")
    for attempt in range(CONNECT_ATTEMPTS):
        try:
            return SqlCatalog(name, **properties)
        except DatabaseError as error:
            if attempt + 1 < CONNECT_ATTEMPTS and any(sign in str(error) for sign in MADE_BY_ANOTHER):
                continue
            if not isinstance(error, OperationalError):
                raise
            raise away(properties["uri"], "open", error) from error
    raise AssertionError("the last attempt returned or raised")


def away(uri: str, verb: str, error: OperationalError) -> DatabaseAwayError:
    """What to raise when the catalog's database does not answer."""
    return DatabaseAwayError.of(f"{verb} the catalog of tables", uri, "MILLRACE_CATALOG_URL", error)
