"""Online features in Redis: shared by all hosts. A read is one round trip, a write is one transaction.

A table is one hash of states, one hash that finds a row by its row key, and a sorted set of rows for each entity of a
view with windows. Writers read, compute and write back under `WATCH` on the states of their tables: whoever is
overtaken starts again, so order and repetition of writes do not matter here either.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from struct import Struct
from typing import Any

import numpy as np
import redis

from app.errors import SettingsError, StoreUnavailableError
from app.features.online.base import Batch, LatestBatch, LatestRow, Span, StoredRows, WindowBatch
from app.features.online.latest_state import merge
from app.features.online.renewal import Intake, Renewal, Renewing, take_in

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 30.0
MAX_ATTEMPTS = 50
SCORE_SLACK_US = 4_096  # scores are doubles: exact up to the year 2255, beyond it this far off
_ROW = Struct("<qqqI")  # available, event, created, length of the row key
_KNOWN = Struct("<qq")  # available, created


class RedisOnlineStore:
    """See `OnlineStore`. Connects when first used; a pickled copy connects for itself.

    Raises:
        SettingsError: the URL cannot be read.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        try:
            self._client: Any = redis.Redis.from_url(
                url, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=ANSWER_TIMEOUT_S
            )
        except ValueError:
            raise SettingsError(
                "MILLRACE_ONLINE_URL is no Redis URL; expected redis://host:port/0, a password's special characters "
                "as %xx.",
                variable="MILLRACE_ONLINE_URL",
            ) from None  # the error repeats parts of the URL, which may be secret
        where = self._client.connection_pool.connection_kwargs
        self._name = f"redis://{where.get('host', 'localhost')}:{where.get('port', 6379)}/{where.get('db', 0)}"

    def put(self, batches: Sequence[Batch], *, replace: bool = False) -> None:
        batches = [batch for batch in batches if replace or len(_keys_of(batch))]
        if not batches:
            return
        with self._named("write to"):
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
            pipeline = self._client.pipeline(transaction=False)
            for table, keys in asked:
                pipeline.hmget(_states(table), keys)
            found = iter(pipeline.execute() if asked else [])
        return [next(found) if keys else [] for _, keys in asks]

    def rows(self, table: str, spans: Sequence[Span], num_columns: int) -> StoredRows:
        with self._named("read"):
            return self._rows(table, spans, num_columns)

    def clear(self, table: str) -> None:
        self.put([LatestBatch(table, ())], replace=True)

    def _put(self, batches: Sequence[Batch], replace: bool) -> None:
        """One attempt. What is read after `WATCH` is what `EXEC` finds, or `EXEC` refuses."""
        with self._client.pipeline(transaction=True) as transaction:
            transaction.watch(*(_states(batch.table) for batch in batches))
            writes = [_Write.of(self, batch, replace) for batch in batches]
            transaction.multi()
            for write in writes:
                write.add_to(transaction)
            transaction.execute()

    def _rows(self, table: str, spans: Sequence[Span], num_columns: int) -> StoredRows:
        pipeline = self._client.pipeline(transaction=False)
        for span in spans:
            pipeline.zrangebyscore(
                _rows(table, span.key), span.after_us - SCORE_SLACK_US, span.until_us + SCORE_SLACK_US
            )
        members = [
            (span.key, *_unpack(member))
            for span, found in zip(spans, pipeline.execute() if spans else [], strict=True) for member in found
            if span.after_us < _ROW.unpack_from(member)[0] <= span.until_us
        ]
        keys, row_keys, available, event, values = zip(*members, strict=True) if members else ((), (), (), (), ())
        return StoredRows(
            keys, row_keys, np.array(event, dtype=np.int64), np.array(available, dtype=np.int64),
            np.frombuffer(b"".join(values)).reshape(len(values), num_columns),
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


@dataclass(frozen=True)
class _Write:
    """What one batch writes. `removed`: members to take out of the rows of a key, with the row keys they had."""

    table: str
    states: dict[str, bytes]
    replaced: tuple[bytes, ...] | None  # keys that go first
    taken: WindowBatch | None = None
    removed: tuple[tuple[str, bytes], ...] = ()
    forgotten: tuple[tuple[str, int, tuple[str, ...]], ...] = ()  # key, rows until when, their row keys

    @classmethod
    def of(cls, store: RedisOnlineStore, batch: Batch, replace: bool) -> _Write:
        client = store._client
        gone = tuple(client.hkeys(_states(batch.table))) if replace else None
        if isinstance(batch, LatestBatch):
            rows: dict[str, list[LatestRow]] = {}
            for row in batch.rows:
                rows.setdefault(row.key, []).append(row)
            old = _old_states(client, batch.table, list(rows), replace)
            merged = {key: merge(key, state, rows[key]) for key, state in zip(rows, old, strict=True)}
            return cls(batch.table, merged, gone)
        found = [] if replace or not batch.keys else client.hmget(_known(batch.table), batch.row_keys)
        known = {}
        for row_key, entry in zip(batch.row_keys, found, strict=False):
            if entry is not None:
                known[row_key] = (entry[_KNOWN.size :].decode(), *_KNOWN.unpack_from(entry))
        intake = take_in(batch, known)
        renewing = Renewing(intake, _old_states(client, batch.table, intake.keys, replace))
        kept = store._rows(batch.table, renewing.spans(), batch.layout.num_words)
        renewal = renewing.renewed(kept)
        states = dict(zip(renewal.keys, renewal.states, strict=True))
        return cls(
            batch.table, states, gone, _reached(intake.taken, renewal),
            _removed(client, batch.table, intake), _forgotten(client, batch.table, renewal),
        )

    def add_to(self, transaction: Any) -> None:
        """Adds the commands. What is forgotten goes first: a corrected row keeps its key at another time."""
        if self.replaced is not None:
            transaction.unlink(*_names(self.table, self.replaced))
        for key, member in self.removed:
            transaction.zrem(_rows(self.table, key), member)
        for key, until_us, row_keys in self.forgotten:
            transaction.zremrangebyscore(_rows(self.table, key), "-inf", until_us - SCORE_SLACK_US)
            if row_keys:
                transaction.hdel(_known(self.table), *row_keys)
        if self.taken is not None:
            self._add_rows(transaction, self.taken)
        if self.states:
            transaction.hset(_states(self.table), mapping=self.states)

    def _add_rows(self, transaction: Any, taken: WindowBatch) -> None:
        members: dict[str, dict[bytes, int]] = {}
        known = {}
        times = zip(taken.available_us.tolist(), taken.event_us.tolist(), taken.created_us.tolist(), strict=True)
        for key, row_key, (available, event, created), values in zip(
            taken.keys, taken.row_keys, times, taken.values, strict=True
        ):
            name = row_key.encode()
            member = _ROW.pack(available, event, created, len(name)) + name + values.tobytes()
            members.setdefault(key, {})[member] = available
            known[row_key] = _KNOWN.pack(available, created) + key.encode()
        for key, scores in members.items():
            transaction.zadd(_rows(self.table, key), scores)
        if known:
            transaction.hset(_known(self.table), mapping=known)


def _old_states(client: Any, table: str, keys: Sequence[str], replace: bool) -> list[bytes | None]:
    if replace or not keys:
        return [None] * len(keys)
    found: list[bytes | None] = client.hmget(_states(table), keys)
    return found


def _removed(client: Any, table: str, intake: Intake) -> tuple[tuple[str, bytes], ...]:
    """Members of the sorted sets that hold rows which are being replaced."""
    if not intake.replaced:
        return ()
    pipeline = client.pipeline(transaction=False)
    for _, key, available_us in intake.replaced:
        pipeline.zrangebyscore(_rows(table, key), available_us - SCORE_SLACK_US, available_us + SCORE_SLACK_US)
    return tuple(
        (key, member)
        for (row_key, key, _), found in zip(intake.replaced, pipeline.execute(), strict=True)
        for member in found if _unpack(member)[0] == row_key
    )


def _reached(taken: WindowBatch, renewal: Renewal) -> WindowBatch:
    """The rows that some window still reaches."""
    after = {k: us for k, us in zip(renewal.keys, renewal.rows_after_us, strict=True) if us is not None}
    reached = [us > after.get(key, us - 1) for key, us in zip(taken.keys, taken.available_us.tolist(), strict=True)]
    return taken if all(reached) else taken.take(np.flatnonzero(reached))


def _forgotten(client: Any, table: str, renewal: Renewal) -> tuple[tuple[str, int, tuple[str, ...]], ...]:
    """Rows that no window reaches any more."""
    old = [(key, us) for key, us in zip(renewal.keys, renewal.rows_after_us, strict=True) if us is not None]
    if not old:
        return ()
    pipeline = client.pipeline(transaction=False)
    for key, until_us in old:
        pipeline.zrangebyscore(_rows(table, key), "-inf", until_us - SCORE_SLACK_US)
    return tuple(
        (key, until_us, tuple(_unpack(member)[0] for member in found))
        for (key, until_us), found in zip(old, pipeline.execute(), strict=True)
    )


def _unpack(member: bytes) -> tuple[str, int, int, bytes]:
    """Row key, available and event time, values."""
    available, event, _, length = _ROW.unpack_from(member)
    end = _ROW.size + length
    return member[_ROW.size : end].decode(), available, event, member[end:]


def _keys_of(batch: Batch) -> Sequence[Any]:
    return batch.rows if isinstance(batch, LatestBatch) else batch.keys


def _names(table: str, keys: Sequence[bytes]) -> list[bytes | str]:
    """Every Redis key of a table with these entities."""
    prefix = _rows(table, "").encode()
    return [_states(table), _known(table), *(prefix + key for key in keys)]


def _states(table: str) -> str:
    return f"millrace:{{{table}}}:states"


def _known(table: str) -> str:
    return f"millrace:{{{table}}}:known"


def _rows(table: str, key: str) -> str:
    return f"millrace:{{{table}}}:rows:{key}"
