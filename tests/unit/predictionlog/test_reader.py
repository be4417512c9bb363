"""From segment files through a real Iceberg table and back, each answer once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from app.foundation.lake import Lake
from app.predictionlog.reader import join_labels, read_labels, read_predictions
from app.predictionlog.segment import SegmentWriter, segment_folder
from app.predictionlog.shipper import ship_all
from app.settings import Settings

START = datetime(2026, 1, 1, tzinfo=UTC)


def answer(request_id: str, key: str, score: float, at: datetime, logged: datetime) -> dict[str, object]:
    row = {
        "key": key, "score": score, "assigned": "champion", "answered_by": "champion", "version": "1",
        "error": None, "features": {"a": 1.0},
    }
    return {
        "request_id": request_id, "at": at.isoformat(), "epoch": 1, "rollout_id": None, "latency_ms": 1.0,
        "logged_timestamp": logged.isoformat(), "rows": [row],
    }


def test_nothing_yet(settings: Settings) -> None:
    lake = Lake.open(settings)
    assert read_predictions(lake, "shop", START, START + timedelta(days=1)).num_rows == 0
    assert read_labels(lake, "shop").num_rows == 0


def test_last_attempt_and_half_open_window(settings: Settings) -> None:
    lake = Lake.open(settings)
    end = START + timedelta(days=1)
    writer = SegmentWriter(segment_folder(settings.segments, "shop", "predictions"))
    writer.append(answer("r1", "a", 0.1, START, START))
    writer.append(answer("r1", "a", 0.2, START, START + timedelta(seconds=1)))
    writer.append(answer("r2", "b", 0.3, end, end))
    labels = SegmentWriter(segment_folder(settings.segments, "shop", "labels"))
    for value in (0.0, 1.0):
        labels.append(
            {
                "logged_timestamp": START.isoformat(),
                "rows": [{"key": "a", "label": value, "available_timestamp": START.isoformat()}],
            }
        )
    assert ship_all(lake, settings, "shop") == {"predictions": 3, "labels": 2, "mirrored": 0}
    rows = read_predictions(lake, "shop", START, end)
    assert rows["score"].to_pylist() == [0.2]
    truth = read_labels(lake, "shop", START)
    assert truth["label"].to_pylist() == [1.0]
    assert read_labels(lake, "shop", START - timedelta(seconds=1)).num_rows == 0
    both = join_labels(read_predictions(lake, "shop", START, end + timedelta(days=1)), truth)
    assert both["label"].to_pylist() == [1.0, None]
