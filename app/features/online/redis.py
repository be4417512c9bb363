"""Online features in Redis: shared by all hosts. A read is one round trip, a write is one transaction.

What a table is kept in is told by `redis_write`. Writers read, compute and write back under `WATCH` on the states of
their tables: whoever is overtaken starts again, so order and repetition of writes do not matter here either.

A server that comes back without what it held would answer "unknown" to everything. Who has seen it filled notices at
the next read or write, since the key that tells the layout is gone with the rest, and refuses until somebody loads it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hiredis
import redis

from app.errors import SettingsError, StoreUnavailableError
from app.features.online.base import LAYOUT, Batch, LatestBatch, Span, StoredRows
from app.features.online.old_layout import other_layout
from app.features.online.redis_write import BatchWrite, num_rows, packed, states_key, stored_rows, tiles_key

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 30.0
MAX_ATTEMPTS = 50
READ_BYTES = 2**18  # taken from the socket at once; a read of 100 entities brings about so much
LAYOUT_KEY = "millrace:layout"


class RedisOnlineStore:
    """See `OnlineStore`. Connects when first used; a pickled copy connects for itself.

    Raises:
        SettingsError: the URL cannot be read.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        try:
            self._client: Any = redis.Redis.from_url(
                url, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=ANSWER_TIMEOUT_S,
                socket_read_size=READ_BYTES,
            )
        except ValueError:
            raise SettingsError(
                "MILLRACE_ONLINE_URL is no Redis URL; expected redis://host:port/0, a password's special characters "
                "as %xx.",
                variable="MILLRACE_ONLINE_URL",
            ) from None  # the error repeats parts of the URL, which may be secret
        where = self._client.connection_pool.connection_kwargs
        self._is_known = False  # whether the layout was found to be ours
        self._name = f"redis://{where.get('host', 'localhost')}:{where.get('port', 6379)}/{where.get('db', 0)}"

    def put(self, batches: Sequence[Batch], *, replace: bool = False) -> None:
        batches = [batch for batch in batches if replace or num_rows(batch)]
        if not batches:
            return
        with self._named("write to"):
            self._require_layout()
            if self._is_known and not replace and not self._client.exists(LAYOUT_KEY):
                raise self._emptied()
            self._client.set(LAYOUT_KEY, LAYOUT, nx=True)
            for attempt in range(MAX_ATTEMPTS):
                try:
                    self._put(batches, replace)
                    return
                except redis.WatchError:
                    time.sleep(random.uniform(0, 0.001 * min(2**attempt, 64)))
        raise StoreUnavailableError(
            f"the online store {self._name} was changed by others in each of {MAX_ATTEMPTS} attempts to write to it; "
            "nothing was changed. Push from fewer processes at once, or in larger batches.", store=self._name,
        )

    def states(self, asks: Sequence[tuple[str, Sequence[str]]]) -> list[list[bytes | None]]:
        asked = [(table, keys) for table, keys in asks if keys]
        with self._named("read"):
            self._require_layout()
            layout, *of_hashes = self._of_hashes(asked) if asked else [b""]
        if self._is_known and layout is None:
            raise self._emptied()
        found = iter(of_hashes)
        return [next(found) if keys else [] for _, keys in asks]

    def tiles(self, table: str, keys: Sequence[str]) -> list[bytes | None]:
        with self._named("read"):
            return packed(self._client, tiles_key(table), keys)

    def rows(self, table: str, spans: Sequence[Span], num_columns: int) -> StoredRows:
        with self._named("read"):
            return stored_rows(self._client, table, spans, num_columns)

    def clear(self, table: str) -> None:
        self.put([LatestBatch(table, ())], replace=True)

    def _of_hashes(self, asked: Sequence[tuple[str, Sequence[str]]]) -> list[Any]:
        """The layout and the states of each table: a pipeline without what redis-py does for each of its arguments."""
        commands: list[Any] = [("GET", LAYOUT_KEY), *(("HMGET", states_key(table), *keys) for table, keys in asked)]
        together = b"".join(map(hiredis.pack_command, commands))
        pool = self._client.connection_pool
        connection = pool.get_connection()

        def answers() -> list[Any]:
            connection.send_packed_command([together])
            return [connection.read_response() for _ in commands]

        try:
            found: list[Any] = connection.retry.call_with_retry(
                answers, lambda _: connection.disconnect()
            )
        except BaseException:
            connection.disconnect()  # answers that nobody has read may be under way
            raise
        finally:
            pool.release(connection)
        return found

    def _require_layout(self) -> None:
        """Looks once whether the store can be read, which takes a look at all keys where nothing was ever written.

        Raises:
            StoreUnavailableError: it was filled in another layout.
        """
        if self._is_known:
            return
        found = self._client.get(LAYOUT_KEY)
        if found is None and next(self._client.scan_iter(match="millrace:{*", count=10_000), None) is not None:
            found = b"1"  # which had no key to tell it by
        if found is not None and int(found) != LAYOUT:
            raise other_layout(self._name, int(found))
        self._is_known = found is not None

    def _put(self, batches: Sequence[Batch], replace: bool) -> None:
        """One attempt. What is read after `WATCH` is what `EXEC` finds, or `EXEC` refuses."""
        with self._client.pipeline(transaction=True) as transaction:
            transaction.watch(*(states_key(batch.table) for batch in batches))
            writes = [BatchWrite.of(self._client, batch, replace) for batch in batches]
            transaction.multi()
            for write in writes:
                write.add_to(transaction)
            transaction.execute()

    def _emptied(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"the online store {self._name} held features and is empty: it was restarted without what it held, or was "
            "emptied. Let the server keep what it is given (appendonly yes, appendfsync always), and bring back what "
            "the views' tables hold: `millrace features load-online`.", store=self._name,
        )

    @contextmanager
    def _named(self, action: str) -> Iterator[None]:
        try:
            yield
        except redis.WatchError:
            raise
        except (redis.RedisError, OSError) as error:
            raise StoreUnavailableError(
                f"cannot {action} the online store {self._name}: {error}. Check that the server runs and can be "
                "reached, or set MILLRACE_ONLINE_URL.", store=self._name,
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return (RedisOnlineStore, (self._url,))
