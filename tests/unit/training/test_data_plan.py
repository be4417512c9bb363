"""Which rows a step learns from depends on the seed, the epoch and the step alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.training.arrays import Arrays
from app.training.data_plan import DataPlan, Window
from app.training.encoded_rows import EncodedRows, collect, write_file

plans = st.builds(
    DataPlan,
    chunk_rows=st.lists(st.integers(1, 9), min_size=1, max_size=12).map(tuple),
    batch_size=st.just(4),
    num_lanes=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 5),
    row_bytes=st.just(1),
    window_bytes=st.integers(1, 30),
)


def rows_of(window: Window, plan: DataPlan) -> list[tuple[int, int]]:
    """(chunk, row) in the order the window reads them."""
    laid = [(part.chunk, row) for part in window.parts for row in range(part.start, part.stop)]
    return [laid[i] for i in window.order(plan.seed, len(laid))]


def steps_of(plan: DataPlan, lane: int, epoch: int, first_step: int = 0) -> dict[int, list[tuple[int, int]]]:
    steps = {}
    for window in plan.windows(lane, epoch, first_step):
        rows = rows_of(window, plan)
        assert len(rows) == window.num_steps * plan.share
        for i in range(window.num_steps):
            steps[window.first_step + i] = rows[i * plan.share : (i + 1) * plan.share]
    return steps


@given(plan=plans, epoch=st.integers(0, 3))
def test_an_epoch_reads_each_row_at_most_once_in_whole_batches(plan: DataPlan, epoch: int) -> None:
    read = [
        row for lane in range(plan.num_lanes) for rows in steps_of(plan, lane, epoch).values() for row in rows
    ]
    assert len(read) == len(set(read)) == plan.num_rows // plan.batch_size * plan.batch_size
    assert all(row < plan.chunk_rows[chunk] for chunk, row in read)


@given(plan=plans, data=st.data())
def test_going_on_from_a_step_reads_what_would_have_come(plan: DataPlan, data: st.DataObject) -> None:
    whole = steps_of(plan, 0, 1)
    first = data.draw(st.integers(0, max(0, plan.steps_per_epoch - 1)))
    later = steps_of(plan, 0, 1, first)
    assert all(later[step] == rows for step, rows in whole.items() if step >= first)


@given(plan=plans)
def test_each_epoch_has_an_order_of_its_own(plan: DataPlan) -> None:
    again = DataPlan(plan.chunk_rows, plan.batch_size, plan.num_lanes, plan.seed, plan.row_bytes, plan.window_bytes)
    assert steps_of(plan, 0, 2) == steps_of(again, 0, 2)
    if plan.num_rows > 30:
        assert steps_of(plan, 0, 0) != steps_of(plan, 0, 1)


def test_lanes_are_shared_out_whole() -> None:
    plan = DataPlan((8,), 4, 4, 0, 1)
    assert [list(plan.lanes_of(r, 2)) for r in (0, 1)] == [[0, 1], [2, 3]]
    assert list(plan.lanes_of(0, 1)) == [0, 1, 2, 3]


def test_encoded_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    num_rows = 2_500
    arrays = Arrays(
        random.normal(size=(num_rows, 3)).astype(np.float32), random.integers(0, 9, (num_rows, 2)),
        np.arange(num_rows, dtype=np.float32),
    )
    written = [write_file(tmp_path, f"{i}.arrow", arrays, rows, str(i)) for i, rows in enumerate(
        np.array_split(random.permutation(num_rows), 2)
    )]
    rows = collect(tmp_path, 3, 2, reversed(written))
    assert EncodedRows.load(tmp_path) == rows
    plan = DataPlan(rows.chunk_rows, 100, 2, 7, rows.row_bytes, window_bytes=40_000)
    read = [rows.read(w, 7) for lane in range(2) for w in plan.windows(lane, 0)]
    label = np.concatenate([part.label for part in read])
    assert sorted(label) == sorted(set(label)) and len(label) == num_rows
    position = label.astype(int)
    np.testing.assert_array_equal(np.concatenate([p.numeric for p in read]), arrays.numeric[position])
    np.testing.assert_array_equal(np.concatenate([p.codes for p in read]), arrays.codes[position])


def test_rows_without_numbers_or_without_categories_are_kept_too(tmp_path: Path) -> None:
    arrays = Arrays(np.zeros((3, 0), np.float32), np.array([[1], [2], [3]]), np.ones(3, np.float32))
    rows = collect(tmp_path, 0, 1, [write_file(tmp_path, "a.arrow", arrays, np.arange(3), "a")])
    (window,) = DataPlan(rows.chunk_rows, 3, 1, 0, rows.row_bytes).windows(0, 0)
    read = rows.read(window, 0)
    assert read.numeric.shape == (3, 0) and sorted(read.codes[:, 0]) == [1, 2, 3]
