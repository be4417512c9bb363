"""The tables `predictions` and `labels`, and how a segment's records become their rows."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pyarrow as pa

from app.predictionlog.segment import Kind

MOMENT = pa.timestamp("us", tz="UTC")

PREDICTIONS = pa.schema(
    [
        ("request_id", pa.string()),
        ("boot_id", pa.string()),
        ("sequence", pa.int64()),
        ("key", pa.string()),  # the case's key as text
        ("prediction_timestamp", MOMENT),  # event time: the moment asked about
        ("score", pa.float64()),
        ("assigned", pa.string()),  # champion | candidate, by the split
        ("answered_by", pa.string()),  # champion | candidate, after a fallback
        ("version", pa.string()),  # that answered
        ("epoch", pa.int64()),
        ("rollout_id", pa.string()),
        ("overridden", pa.bool_()),  # a header dealt the row, not the split
        ("error", pa.string()),  # why the candidate did not answer a row assigned to it
        ("latency_ms", pa.float64()),  # of the whole request in the replica
        ("features", pa.string()),  # JSON; null where the features of a request were not sampled
        ("logged_timestamp", MOMENT),
        ("trace_id", pa.string()),  # W3C trace of the request, if its caller sent one
        ("principal", pa.string()),  # whose token asked
    ]
)
LABELS = pa.schema(
    [
        ("key", pa.string()),
        ("label", pa.float64()),
        ("available_timestamp", MOMENT),
        ("boot_id", pa.string()),
        ("sequence", pa.int64()),
        ("created_timestamp", MOMENT),
    ]
)
MIRRORED = pa.schema(
    [
        ("request_id", pa.string()),
        ("boot_id", pa.string()),
        ("sequence", pa.int64()),
        ("key", pa.string()),
        ("prediction_timestamp", MOMENT),
        ("score", pa.float64()),  # the champion's, as answered
        ("mirror_score", pa.float64()),  # the candidate's, which nobody was given
        ("mirror_error", pa.string()),  # why there is none
        ("version", pa.string()),
        ("mirror_version", pa.string()),
        ("epoch", pa.int64()),
        ("rollout_id", pa.string()),
        ("latency_ms", pa.float64()),  # of the whole request in the replica
        ("mirror_latency_ms", pa.float64()),  # until the candidate had answered the copy
        ("logged_timestamp", MOMENT),
    ]
)
SCHEMAS: dict[Kind, pa.Schema] = {"predictions": PREDICTIONS, "labels": LABELS, "mirrored": MIRRORED}


def table_name(project: str, kind: Kind) -> str:
    """Identifier in the lake."""
    return f"{project}.{kind}"


def rows_of(kind: Kind, records: Iterable[dict[str, Any]]) -> pa.Table:
    """The rows of segment records: a record is a request, its `rows` are the entity rows."""
    rows = [row for record in records for row in _ROWS[kind](record)]
    return pa.Table.from_pylist(rows, schema=SCHEMAS[kind])


def pack_rows(rows: pa.Table) -> str:
    """Rows of a bulk request as text for one line: an Arrow stream, far cheaper to write than JSON of each row."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as stream:
        stream.write_table(rows)
    return base64.b64encode(sink.getvalue()).decode()


def unpack_rows(text: str) -> list[dict[str, Any]]:
    """What `pack_rows` packed."""
    with pa.ipc.open_stream(base64.b64decode(text)) as stream:
        rows: list[dict[str, Any]] = stream.read_all().to_pylist()
    return rows


def _prediction_rows(record: dict[str, Any]) -> Iterable[dict[str, Any]]:
    shared = {
        "request_id": record["request_id"],
        "boot_id": record["boot_id"],
        "sequence": record["sequence"],
        "prediction_timestamp": datetime.fromisoformat(record["at"]),
        "epoch": record["epoch"],
        "rollout_id": record["rollout_id"],
        "overridden": record.get("overridden", False),
        "latency_ms": record["latency_ms"],
        "logged_timestamp": datetime.fromisoformat(record["logged_timestamp"]),
        "trace_id": record.get("trace_id"),
        "principal": record.get("principal"),
    }
    for row in record["rows"] if "rows" in record else unpack_rows(record["packed_rows"]):
        features = row["features"]
        text = None if features is None else json.dumps(features, separators=(",", ":"), default=str)
        yield {**shared, **row, "features": text}


def _label_rows(record: dict[str, Any]) -> Iterable[dict[str, Any]]:
    created = datetime.fromisoformat(record["logged_timestamp"])
    for row in record["rows"]:
        yield {
            "key": row["key"],
            "label": row["label"],
            "available_timestamp": datetime.fromisoformat(row["available_timestamp"]),
            "boot_id": record["boot_id"],
            "sequence": record["sequence"],
            "created_timestamp": created,
        }


def _mirrored_rows(record: dict[str, Any]) -> Iterable[dict[str, Any]]:
    moments = {
        "prediction_timestamp": datetime.fromisoformat(record["at"]),
        "logged_timestamp": datetime.fromisoformat(record["logged_timestamp"]),
    }
    shared = {name: record[name] for name in MIRRORED.names if name in record and name not in moments}
    for row in record["rows"]:
        yield {**shared, **moments, **row}


_ROWS = {"predictions": _prediction_rows, "labels": _label_rows, "mirrored": _mirrored_rows}
