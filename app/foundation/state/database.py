"""Opens the control-state database and brings its schema up to date.

Trap: Python's sqlite3 opens a transaction before a row changes but not before a table does, and Alembic takes SQLite
for unable to roll back a table. A process killed between two tables would leave a half-made schema that can
never be migrated again. So the migration itself begins a transaction, and all of it counts or none.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy.orm import Session

from app.errors import SettingsError
from app.foundation.database_url import DatabaseAwayError, checked_url

BUSY_TIMEOUT_S = 30.0  # unless the URL says otherwise: sqlite:////data/state.db?timeout=5
VERSION_TABLE = "alembic_version"
VERSIONS = Path(__file__).parent / "migrations" / "versions"


class StateDatabase:
    """Control state behind an SQLAlchemy URL. Picklable: a copy opens its own connections."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine: sa.Engine | None = None

    @classmethod
    def open(cls, url: str) -> StateDatabase:
        """Connects to `url`, creating or migrating the schema. One that is as it should be is only read.

        Two processes may open a new database at once: for SQLite a lock file beside it lets one migrate first.

        Raises:
            SettingsError: `url` is none, has no driver here, or a newer Millrace made the schema.
            DatabaseAwayError: the database cannot be reached.
        """
        database = cls(url)
        path = _sqlite_path(url)
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            if database._schema() == newest_schema():
                return database
            with _exclusive(Path(f"{path}.lock")) if path else nullcontext():
                database._migrate()
        except sa.exc.OperationalError as error:
            raise DatabaseAwayError.of("open the control state", url, "MILLRACE_STATE_URL", error) from error
        return database

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction: committed at the end, rolled back after an error.

        Raises:
            DatabaseAwayError: the database does not answer any more.
        """
        try:
            with Session(self._connected(), expire_on_commit=False) as session, session.begin():
                yield session
        except sa.exc.OperationalError as error:
            raise DatabaseAwayError.of("use the control state", self.url, "MILLRACE_STATE_URL", error) from error

    def _connected(self) -> sa.Engine:
        if self._engine is None:
            self._engine = sa.create_engine(self.url)
            if self._engine.dialect.name == "sqlite":
                own_timeout = "timeout" in self._engine.url.query
                sa.event.listen(self._engine, "connect", _tune_own if own_timeout else _tune_sqlite)
        return self._engine

    def _schema(self) -> str | None:
        """The version of the schema; `None`: there is none yet."""
        with self._connected().connect() as connection:
            if not sa.inspect(connection).has_table(VERSION_TABLE):
                return None
            found: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}"))
            return found

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self._connected().begin() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                if not isinstance(error.__cause__, ResolutionError):
                    raise
                raise SettingsError(
                    f"the control state at {sa.make_url(self.url)} was made by a newer Millrace ({error}). "
                    "Use that version, or point MILLRACE_STATE_URL or MILLRACE_HOME elsewhere.",
                    variable="MILLRACE_STATE_URL",
                ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "_engine": None}


def _sqlite_path(url: str) -> str | None:
    parsed = checked_url(url, "MILLRACE_STATE_URL")
    return parsed.database if parsed.get_backend_name() == "sqlite" else None


def newest_schema() -> str:
    """The version of the schema that this Millrace works with."""
    return max(file.name.partition("_")[0] for file in VERSIONS.glob("[0-9]*.py"))


def _tune_sqlite(connection: Any, record: Any) -> None:
    """Readers never block the writer (WAL); a writer waits for another instead of failing."""
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
    _tune_own(connection, record)


def _tune_own(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
