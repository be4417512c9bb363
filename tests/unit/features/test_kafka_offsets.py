"""Which offsets of a topic one batch asks for and keeps; Ray's reader itself is tested against a broker."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import ray.data

from app.features.kafka_source import KafkaReader
from app.spec import Field, KafkaTopic, Source

READER = KafkaTopic("sales", "nowhere:1")
SOURCE = Source("sales", READER, (Field("n", "int64"), Field("message_timestamp", "timestamp")), ("n",),
                "message_timestamp")


def message(partition: int, offset: int) -> dict[str, Any]:
    value = json.dumps({"n": 10 * partition + offset}).encode()
    return {"partition": partition, "offset": offset, "key": None, "value": value, "timestamp": 0}


def test_a_batch_read_again_leaves_partitions_made_since_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def read(**bounds: Any) -> Any:
        asked.update(bounds)
        found = [message(0, 0), message(0, 1), message(1, 0), message(2, 0)]  # 2 was made while Ray read
        return SimpleNamespace(take_all=lambda: found)

    monkeypatch.setattr(ray.data, "read_kafka", read)
    monkeypatch.setattr(KafkaReader, "_watermarks", lambda _: ({0: 0, 1: 0}, {0: 2, 1: 1}))
    again = {"offsets": {"0": 2}}
    batch = KafkaReader(SOURCE, READER).next_batch([], again)
    assert batch is not None
    assert (batch.rows["n"].to_pylist(), batch.cursor) == ([0, 1], again)
    assert asked["start_offset"] == {"sales": {0: 0, 1: 0}}
    assert asked["end_offset"] == {"sales": {0: 2, 1: 0}}
    following = KafkaReader(SOURCE, READER).next_batch([again], None)
    assert following is not None and following.cursor == {"offsets": {"0": 2, "1": 1}}
