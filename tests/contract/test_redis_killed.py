"""A Redis server that is killed and started again while it is written to and read."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from app.errors import StoreUnavailableError
from app.features.online import LatestBatch, OnlineStore, open_store
from tests.contract.redis_server import RedisServer, installed
from tests.contract.test_online_store import COUNT, asked, known, latest, put_latest, windows

WRITERS, ROWS_EACH = 3, 60  # 180 pushes in all
KILLED_AFTER = 15  # rows of the first writer
T = TypeVar("T")
WAIT_S = 60.0  # for what takes well below a second

pytestmark = pytest.mark.skipif(not installed(), reason="redis-server is not installed: apt-get install redis-server")


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that loses nothing it has answered."""
    server = RedisServer(tmp_path, keeps=True)
    server.start()
    yield server
    server.kill()


class Load:
    """Pushes rows one by one and reads each back, on and on. What fails is kept and tried again, as a client does."""

    def __init__(self, store: OnlineStore) -> None:
        self.store = store
        self.failures: list[Exception] = []
        self.stale: list[str] = []
        self.acknowledged = [0] * WRITERS
        self.killed, self.failed = threading.Event(), threading.Event()

    def write(self, writer: int) -> None:
        """The rows of one writer, each in a window and as an entity's newest."""
        for n in range(1, ROWS_EACH + 1):
            row = latest(f"e{writer}", n, n, 1, str(n), f"w{writer}r{n}")
            both = [windows(("k", n, 1.0, f"w{writer}r{n}", 1)), LatestBatch("u", [row])]
            self._until_done(lambda batches=both: self.store.put(batches))
            self.acknowledged[writer] = n
            answer = self._until_done(lambda at=n: known(self.store, [f"e{writer}"], at, "u"))
            if answer != {f"e{writer}": str(n)}:
                self.stale.append(f"writer {writer} reads {answer} after {n}")
            if writer == 0 and n == KILLED_AFTER:
                assert self.killed.wait(WAIT_S)

    def _until_done(self, act: Callable[[], T]) -> T:
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                return act()
            except Exception as error:
                self.failures.append(error)
                self.failed.set()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def test_a_killed_server_costs_clear_errors_and_no_row(keeping: RedisServer) -> None:
    """While it is away reads and pushes say so; afterwards they go on, and every row that was taken is there, once."""
    load = Load(open_store(keeping.url))
    with ThreadPoolExecutor(WRITERS) as pool:
        writers = [pool.submit(load.write, number) for number in range(WRITERS)]
        while load.acknowledged[0] < KILLED_AFTER:
            time.sleep(0.001)
        keeping.kill()
        load.killed.set()
        assert load.failed.wait(WAIT_S), "nobody noticed"
        keeping.start()
        for writer in writers:
            writer.result()
    assert {type(error) for error in load.failures} == {StoreUnavailableError}
    assert all("cannot" in str(e) and "MILLRACE_ONLINE_URL" in str(e) for e in load.failures)
    assert load.stale == []
    fresh = open_store(keeping.url)
    entities = [f"e{writer}" for writer in range(WRITERS)]
    assert known(fresh, entities, ROWS_EACH, "u") == dict.fromkeys(entities, str(ROWS_EACH))
    assert asked(fresh, ["k"], ROWS_EACH)[COUNT] == [WRITERS * ROWS_EACH]


def test_a_server_that_comes_back_empty_is_refused_until_it_is_loaded(tmp_path: Path) -> None:
    """Or every entity would be unknown, and nobody told."""
    server = RedisServer(tmp_path, keeps=False)
    try:
        server.start()
        store = open_store(server.url)
        put_latest(store, latest("k", 1, 1, 1, "a"), latest("m", 1, 1, 1, "b"))
        assert known(store, ["k"], 1) == {"k": "a"}
        server.kill()
        server.start()
        for act in (lambda: known(store, ["k"], 1), lambda: put_latest(store, latest("m", 2, 2, 1, "c"))):
            with pytest.raises(StoreUnavailableError, match=r"held features and is empty.*load-online"):
                act()
        loader = pickle.loads(pickle.dumps(store))  # a process of its own, as the command is
        loader.put([LatestBatch("t", [latest("k", 1, 1, 1, "a"), latest("m", 1, 1, 1, "b")])])
        put_latest(store, latest("m", 2, 2, 1, "c"))
        assert known(store, ["k", "m"], 2) == {"k": "a", "m": "c"}
    finally:
        server.kill()


def test_a_load_in_the_process_that_noticed_fills_it_again(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, keeps=False)
    try:
        server.start()
        store = open_store(server.url)
        put_latest(store, latest("k", 1, 1, 1, "a"))
        assert known(store, ["k"], 1) == {"k": "a"}
        server.kill()
        server.start()
        store.put([LatestBatch("t", [latest("k", 1, 1, 1, "a")])], replace=True)
        assert known(store, ["k"], 1) == {"k": "a"}
    finally:
        server.kill()
