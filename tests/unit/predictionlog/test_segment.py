"""What is written to a segment is read again, whatever a record holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.predictionlog.segment import SegmentWriter, read_lines


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (1.1, 1.1), (2**70, 2**70), (-(2**63), -(2**63)), ("é\u2028\n", "é\u2028\n"), (None, None), (True, True),
        (np.float64(0.1), 0.1), (np.int64(3), 3), ((1, 2), [1, 2]), (float("nan"), None),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
    ],
)
def test_a_record_is_one_line(tmp_path: Path, value: Any, read: Any) -> None:
    writer = SegmentWriter(tmp_path)
    writer.append({"value": value})
    writer.close()
    (path,) = tmp_path.iterdir()
    records, end = read_lines(path, 0, 10_000)
    assert [record["value"] for record in records] == [read]
    assert end == path.stat().st_size
    assert path.read_bytes().count(b"\n") == 1
    json.loads(path.read_bytes())
