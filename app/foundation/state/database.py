"""Opens the control-state database and brings its schema up to date."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.orm import Session

BUSY_TIMEOUT_S = 30.0


class StateDatabase:
    """Control state behind an SQLAlchemy URL. Picklable: a copy opens its own connections."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine: sa.Engine | None = None

    @classmethod
    def open(cls, url: str) -> StateDatabase:
        """Connects to `url`, creating or migrating the schema.

        Two processes may open a new database at once: for SQLite a lock file beside it lets one migrate first.
        """
        database = cls(url)
        path = sa.make_url(url).database if url.startswith("sqlite") else None
        if path:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(Path(f"{path}.lock")) if path else nullcontext():
            database._migrate()
        return database

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction: committed at the end, rolled back after an error."""
        with Session(self._connected(), expire_on_commit=False) as session, session.begin():
            yield session

    def _connected(self) -> sa.Engine:
        if self._engine is None:
            self._engine = sa.create_engine(self.url)
            if self._engine.dialect.name == "sqlite":
                sa.event.listen(self._engine, "connect", _tune_sqlite)
        return self._engine

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self._connected().begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "_engine": None}


def _tune_sqlite(connection: Any, _record: Any) -> None:
    """Readers never block the writer (WAL); a writer waits for another instead of failing."""
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
