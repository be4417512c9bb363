"""Databases of the settings: URLs that no driver can open, and databases that do not answer."""

from __future__ import annotations

import sqlalchemy as sa

from app.errors import SettingsError, StoreUnavailableError

EXAMPLES = "sqlite:////data/name.db or postgresql+psycopg2://user@host/name"


class DatabaseAwayError(StoreUnavailableError, sa.exc.SQLAlchemyError):
    """A database of ours that does not answer. Also SQLAlchemy's error: who goes on without it catches that."""

    code: str = StoreUnavailableError.code

    @classmethod
    def of(cls, what: str, url: str, variable: str, error: sa.exc.OperationalError) -> DatabaseAwayError:
        """The error for the thing `what` (e.g. "use the control state"); the password is never shown."""
        where = shown(url)
        return cls(
            f"cannot {what} at {where}: {error.orig}. Check that the server runs and can be reached, or set "
            f"{variable}.", store=where,
        )


def shown(url: str | sa.URL) -> str:
    """The URL without its password and without its query, where drivers take passwords too.

    >>> shown("postgresql://me:secret@host/name?password=secret")
    'postgresql://me:***@host/name'
    """
    return sa.make_url(url).set(query={}).render_as_string()


def checked_url(url: str, variable: str) -> sa.URL:
    """The URL, when SQLAlchemy knows its database and the driver is installed. Reaches for no server.

    Raises:
        SettingsError: it is no database URL, or its driver is not installed or cannot be used here. The password is
            never shown.
    """
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise SettingsError(f"{variable} is no database URL. Expected e.g. {EXAMPLES}.", variable=variable) from error
    where = shown(parsed)
    try:
        dialect = parsed.get_dialect()
        dialect.import_dbapi()
    except sa.exc.NoSuchModuleError as error:
        raise SettingsError(
            f"{variable} is {where}, but {parsed.drivername!r} names no kind of database. Expected e.g. {EXAMPLES}.",
            variable=variable,
        ) from error
    except ImportError as error:
        raise SettingsError(
            f"{variable} is {where}, whose driver is not installed ({error}). Install it, or name another: e.g. "
            f"{EXAMPLES}.", variable=variable,
        ) from error
    if dialect.is_async:
        raise SettingsError(
            f"{variable} is {where}, whose driver {dialect.driver!r} works in event loops alone. Expected e.g. "
            f"{EXAMPLES}.", variable=variable,
        )
    return parsed
