"""A Kafka topic through Ray Data's reader, against the broker that librdkafka itself brings for tests.

`test.mock.num.brokers` makes a producer serve Kafka's protocol on loopback: real requests over real sockets, read by
Ray's workers in their own processes; no replication, no disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from app.errors import DataError
from app.features.incremental_ingest import _BatchCommit
from app.features.ingest import ingest
from app.features.quarantine import read_quarantine
from app.foundation.lake import Lake
from app.settings import Settings
from app.spec import Expectation, Field, KafkaTopic, Source

pytestmark = pytest.mark.usefixtures("ray_head")
TOPIC = "sales"


@dataclass
class Broker:
    """A producer and the address of the broker in it."""

    producer: Any
    servers: str

    def send(self, *values: Any, partition: int = 0) -> None:
        for value in values:
            text = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.producer.produce(TOPIC, text, key=b"k", partition=partition)
        assert self.producer.flush(30) == 0


@pytest.fixture
def broker() -> Iterator[Broker]:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": "", "test.mock.num.brokers": 1})
    found = next(iter(producer.list_topics(timeout=30).brokers.values()))
    yield Broker(producer, f"{found.host}:{found.port}")


def topic(broker: Broker, batch_messages: int = 10) -> Source:
    return Source(
        "sales", KafkaTopic(TOPIC, broker.servers, batch_messages=batch_messages),
        (
            Field("n", "int64"), Field("at", "timestamp"), Field("message_key", "string"),
            Field("message_partition", "int64"), Field("message_offset", "int64"),
        ),
        ("message_partition", "message_offset"), "at", expectations=(Expectation("n", minimum=0),),
    )


def sale(n: int) -> dict[str, Any]:
    return {"n": n, "at": "2013-01-01T00:00:00Z", "more": "than declared"}


def rows(lake: Lake) -> list[int]:
    return sorted(lake.read("shop.raw_sales", ["n"])["n"].to_pylist())


def test_messages_arrive_in_bounded_batches_and_only_new_ones_later(settings: Settings, broker: Broker) -> None:
    lake = Lake.open(settings)
    broker.send(*map(sale, range(25)))
    broker.send(*map(sale, range(100, 105)), partition=1)
    first = ingest(topic(broker), "shop", lake, "run")
    assert (first.rows, first.quarantined) == (30, 0)
    assert len(lake.commits("shop.raw_sales")) > 2
    assert ingest(topic(broker), "shop", lake, "run").already_there
    broker.send(sale(25))
    assert ingest(topic(broker), "shop", lake, "run").rows == 1
    assert rows(lake) == [*range(26), *range(100, 105)]
    assert set(lake.read("shop.raw_sales")["message_key"].to_pylist()) == {"k"}


def test_messages_that_are_no_rows_do_not_stop_the_stream(settings: Settings, broker: Broker) -> None:
    lake = Lake.open(settings)
    broker.send(sale(1), b"{not json", ["a", "list"], {"n": "one", "at": "2013-01-01T00:00:00Z"}, sale(-5), sale(2))
    result = ingest(topic(broker), "shop", lake, "run")
    assert (result.rows, result.quarantined) == (2, 4)
    assert rows(lake) == [1, 2]
    refused = read_quarantine(lake, "shop", "sales").to_pylist()
    assert sorted(r["reason"].split(":")[0] for r in refused) == [
        "n is below 0", *(f"partition 0, offset {i}" for i in (1, 2, 3))
    ]
    assert "{not json" in {r["row"] for r in refused}


def test_an_interrupted_batch_is_read_again_and_its_refused_rows_are_kept_once(
    settings: Settings, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.open(settings)
    broker.send(sale(1), sale(-1))

    def die(*_: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(_BatchCommit, "_table_unmoved", die)
        ingest(topic(broker), "shop", lake, "run")
    assert read_quarantine(lake, "shop", "sales").num_rows == 1
    broker.send(sale(2), sale(-2))
    ingest(topic(broker), "shop", lake, "run")
    assert rows(lake) == [1, 2]
    assert read_quarantine(lake, "shop", "sales").num_rows == 2


def test_a_broker_that_is_down_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.features import kafka_source

    monkeypatch.setattr(kafka_source, "TIMEOUT_S", 2.0)
    lake = Lake.open(settings)
    with pytest.raises(DataError, match=r"source 'sales': Kafka at 127\.0\.0\.1:9 did not answer"):
        ingest(topic(Broker(None, "127.0.0.1:9")), "shop", lake, "run")
    assert lake.commits("shop.raw_sales") == []
