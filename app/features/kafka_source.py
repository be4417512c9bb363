"""Messages of a Kafka topic as rows, through Ray Data's reader, in micro-batches between offsets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import ray.data

from app.errors import DataError
from app.features.arrow_types import arrow_schema, rows_to_table
from app.features.cursors import Cursor, SourceBatch
from app.features.sources import original_errors
from app.spec.features import KafkaTopic, Source

TIMEOUT_S = 30.0
Offsets = dict[int, int]
Bounds = dict[str, dict[int, int | str]]  # what Ray's reader takes: offsets by topic and partition


class KafkaReader:
    """Cursor `{"offsets": {partition: next}}`: the offset behind the last message read of each partition.

    The newest offsets are asked once, so an ingest ends however fast messages arrive.
    """

    def __init__(self, source: Source, reader: KafkaTopic) -> None:
        self._source = source
        self._reader = reader
        self._oldest, self._newest = self._watermarks()

    def next_batch(self, committed: Sequence[Cursor], again: Cursor | None) -> SourceBatch | None:
        """See `CursorReader`."""
        start = dict(self._oldest)
        for cursor in committed[-1:]:
            start.update({int(partition): offset for partition, offset in cursor["offsets"].items()})
        self._refuse_gaps(start)
        end = {int(p): o for p, o in again["offsets"].items()} if again is not None else self._end(start)
        if all(end.get(p, start[p]) <= start[p] for p in start):
            return None
        first: Bounds = {self._reader.topic: {**start}}
        behind: Bounds = {self._reader.topic: {**start, **end}}  # Ray reads all of a partition that is not named
        with original_errors():
            messages = ray.data.read_kafka(
                topics=self._reader.topic,
                bootstrap_servers=self._reader.bootstrap_servers.split(","),
                start_offset=first,
                end_offset=behind,
                consumer_config=dict(self._reader.consumer) or None,
            ).take_all()
        wanted = [m for m in messages if m["partition"] in end]  # one made meanwhile waits for the next batch
        rows, refused = self._rows(sorted(wanted, key=lambda m: (m["partition"], m["offset"])))
        return SourceBatch(rows, {"offsets": {str(p): o for p, o in end.items()}}, refused)

    def _watermarks(self) -> tuple[Offsets, Offsets]:
        """Oldest and next offset of each partition, as the broker has them now."""
        from confluent_kafka import Consumer, KafkaException, TopicPartition

        servers = self._reader.bootstrap_servers
        settings = {"bootstrap.servers": servers, "group.id": "millrace", **self._reader.consumer}
        consumer = Consumer(settings)
        try:
            topic = consumer.list_topics(self._reader.topic, timeout=TIMEOUT_S).topics[self._reader.topic]
            if topic.error is not None or not topic.partitions:
                raise DataError(
                    f"source {self._source.name!r}: Kafka at {servers} has no topic {self._reader.topic!r}.",
                    source=self._source.name,
                )
            marks = {
                p: consumer.get_watermark_offsets(TopicPartition(self._reader.topic, p), timeout=TIMEOUT_S)
                for p in topic.partitions
            }
        except KafkaException as error:
            raise DataError(
                f"source {self._source.name!r}: Kafka at {servers} did not answer: {error}.", source=self._source.name
            ) from error
        finally:
            consumer.close()
        return {p: low for p, (low, _) in marks.items()}, {p: high for p, (_, high) in marks.items()}

    def _end(self, start: Offsets) -> Offsets:
        """At most so many messages, shared out over the partitions that have new ones."""
        waiting = [p for p in start if self._newest.get(p, 0) > start[p]]
        share = max(self._reader.batch_messages // max(len(waiting), 1), 1)
        return {p: min(max(self._newest.get(p, 0), o), o + share) for p, o in start.items()}

    def _refuse_gaps(self, start: Offsets) -> None:
        for partition, offset in start.items():
            oldest = self._oldest.get(partition, 0)
            if oldest > offset:
                raise DataError(
                    f"source {self._source.name!r}: partition {partition} of topic {self._reader.topic!r} begins at "
                    f"offset {oldest}, but the next to read is {offset}: the topic's retention dropped "
                    f"{oldest - offset} message(s) that were never ingested. Load them from elsewhere, or declare the "
                    "source under a new name to begin where the topic does.", source=self._source.name,
                )

    def _rows(self, messages: Sequence[dict[str, Any]]) -> tuple[pa.Table, list[tuple[str, str]]]:
        """Rows as declared, and reason and text of messages that are none."""
        where = f"source {self._source.name!r}"
        names = {f.name for f in self._source.fields}
        good: list[dict[str, Any]] = []
        refused: list[tuple[str, str]] = []
        for message in messages:
            text = (message["value"] or b"").decode("utf-8", "replace")
            try:
                row = json.loads(text)
                if not isinstance(row, dict):
                    raise ValueError("no JSON object")
                row = {name: row.get(name, value) for name, value in {**dict.fromkeys(names), **_own(message)}.items()}
                rows_to_table([{k: v for k, v in row.items() if k in names}], self._source.fields, where)
            except (ValueError, DataError) as error:
                at = f"partition {message['partition']}, offset {message['offset']}"
                refused.append((f"{at}: {error}", text))
                continue
            good.append({k: v for k, v in row.items() if k in names})
        if not good:
            return arrow_schema(self._source.fields).empty_table(), refused
        return rows_to_table(good, self._source.fields, where), refused


def _own(message: dict[str, Any]) -> dict[str, Any]:
    """What a message says of itself, under the names of `KafkaTopic`."""
    key = message["key"]
    return {
        "message_key": None if key is None else key.decode("utf-8", "replace"),
        "message_timestamp": datetime.fromtimestamp(message["timestamp"] / 1_000, UTC),
        "message_partition": int(message["partition"]),
        "message_offset": int(message["offset"]),
    }
