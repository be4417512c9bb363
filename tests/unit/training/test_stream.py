"""What ranks read together is the same for any number of workers and any place to go on from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.training.arrays import Arrays
from app.training.data_plan import DataPlan
from app.training.encoded_rows import EncodedRows, collect, write_file
from app.training.stream import Batch, Position, RankStream

EPOCHS = 3


@pytest.fixture
def rows(tmp_path: Path) -> EncodedRows:
    count = 3_000
    label = np.arange(count, dtype=np.float32)
    arrays = Arrays(np.stack([label, -label], axis=1), np.arange(count)[:, None] % 7, label)
    return collect(tmp_path, 2, 1, [write_file(tmp_path, "a.arrow", arrays, np.arange(count), "a")])


def read(rows: EncodedRows, workers: int, window_bytes: int, start: Position = Position()) -> dict[object, np.ndarray]:
    """Labels of each step, of all ranks in order; and every column belongs to its row."""
    plan = DataPlan(rows.chunk_rows, 80, 4, 3, rows.row_bytes, window_bytes)
    steps: dict[object, list[np.ndarray]] = {}
    for rank in range(workers):
        stream = RankStream(rows, plan, tuple(plan.lanes_of(rank, workers)))
        for batch in stream.batches(EPOCHS, start, through_ray=False):
            _check(batch)
            steps.setdefault((batch.epoch, batch.step), []).append(batch.rows.label)
    return {step: np.concatenate(parts) for step, parts in steps.items()}


def _check(batch: Batch) -> None:
    np.testing.assert_array_equal(batch.rows.numeric[:, 1], -batch.rows.label)
    np.testing.assert_array_equal(batch.rows.codes[:, 0], batch.rows.label.astype(int) % 7)
    assert batch.wait_s >= 0


@pytest.mark.parametrize("window_bytes", [1, 4_000, 10**9])
def test_any_number_of_workers_reads_the_same_batches(rows: EncodedRows, window_bytes: int) -> None:
    four = read(rows, 4, window_bytes)
    assert len(four) == EPOCHS * (3_000 // 80)
    for workers in (1, 2):
        fewer = read(rows, workers, window_bytes)
        assert four.keys() == fewer.keys()
        assert all(np.array_equal(four[step], fewer[step]) for step in four)


@pytest.mark.parametrize("start", [Position(0, 5), Position(1, 0), Position(2, 36)])
def test_a_run_goes_on_at_the_very_batch(rows: EncodedRows, start: Position) -> None:
    whole, rest = read(rows, 2, 4_000), read(rows, 2, 4_000, start)
    expected = {step for step in whole if step >= (start.epoch, start.step)}  # type: ignore[operator]
    assert rest.keys() == expected
    assert all(np.array_equal(whole[step], rest[step]) for step in rest)


def test_a_finished_run_has_no_batches_left(rows: EncodedRows) -> None:
    assert read(rows, 1, 10**9, Position(EPOCHS, 0)) == {}
