"""Connecting to the SQL catalog, also when several processes do it first at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DatabaseError, OperationalError

from app.foundation.database_url import DatabaseAwayError, checked_url

CONNECT_ATTEMPTS = 4
MADE_BY_ANOTHER = ("already exists", "duplicate key")  # SQLite's words, PostgreSQL's words


def open_catalog(name: str, properties: dict[str, str]) -> SqlCatalog:
    """The catalog, whose own tables another process may be making at this moment; then they are there next time.

    Whatever is asked of it later, listings and commits included, a database that does not answer is a
    `DatabaseAwayError`.

    Raises:
        SettingsError: its URL is none of a database, or has no driver here.
        DatabaseAwayError: its database cannot be reached.
    """
    checked_url(properties["uri"], "MILLRACE_CATALOG_URL")
    for attempt in range(CONNECT_ATTEMPTS):
        try:
            catalog = SqlCatalog(name, **properties)
        except DatabaseError as error:
            if attempt + 1 < CONNECT_ATTEMPTS and any(sign in str(error) for sign in MADE_BY_ANOTHER):
                continue
            if not isinstance(error, OperationalError):
                raise
            raise _away(properties["uri"], "open", error) from error
        _name_errors(catalog, properties["uri"])  # only here: what it does first it tells by the database's own errors
        return catalog
    raise AssertionError("the last attempt returned or raised")


def _name_errors(catalog: SqlCatalog, uri: str) -> None:
    @event.listens_for(catalog.engine, "handle_error")
    def named_error(context: ExceptionContext) -> None:
        error = context.sqlalchemy_exception
        if isinstance(error, OperationalError):
            raise _away(uri, "use", error)


@contextmanager
def named(uri: str) -> Iterator[None]:
    """Names a database that does not answer to whoever opens the catalog for itself, as Ray's reader and writer do."""
    try:
        yield
    except OperationalError as error:
        raise _away(uri, "use", error) from error


def _away(uri: str, verb: str, error: OperationalError) -> DatabaseAwayError:
    """What to raise when the catalog's database does not answer."""
    return DatabaseAwayError.of(f"{verb} the catalog of tables", uri, "MILLRACE_CATALOG_URL", error)
