"""Connecting to the SQL catalog, also when several processes do it first at once."""

from __future__ import annotations

from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy.exc import DatabaseError

CONNECT_ATTEMPTS = 4
MADE_BY_ANOTHER = ("already exists", "duplicate key")  # SQLite's words, PostgreSQL's words


def open_catalog(name: str, properties: dict[str, str]) -> SqlCatalog:
    """The catalog, whose own tables another process may be making at this moment; then they are there next time."""
    for _ in range(CONNECT_ATTEMPTS - 1):
        try:
            return SqlCatalog(name, **properties)
        except DatabaseError as error:
            if not any(sign in str(error) for sign in MADE_BY_ANOTHER):
                raise
    return SqlCatalog(name, **properties)
