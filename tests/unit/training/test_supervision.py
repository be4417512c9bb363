"""How many workers a run goes on with, and what is told of its epochs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.training.data_plan import fitting_batch, possible_workers
from app.training.elastic import PATIENCE_S, Seen, decide_workers
from app.training.progress import FILE, EpochReport, ProgressReader, RunRecord


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Seen(4, 4, 99.0, True), 4),
        (Seen(4, 3, PATIENCE_S / 2, True), 4),  # the node may come back
        (Seen(4, 3, 99.0, False), 2),  # three cannot share four lanes evenly
        (Seen(4, 0, 99.0, False), 4),  # nothing would do: wait, the deadline ends it
        (Seen(1, 4, 99.0, False), 1),  # growing now would lose all there is
        (Seen(1, 4, 99.0, True), 4),
        (Seen(2, 3, 99.0, True), 2),
    ],
)
def test_workers_follow_the_nodes(seen: Seen, expected: int) -> None:
    assert decide_workers([4, 2, 1], seen) == expected


@given(most=st.integers(1, 64), room=st.integers(0, 80), since_s=st.floats(0, 60), kept=st.booleans())
def test_a_run_never_asks_for_more_than_there_is_room_for_unless_it_waits(
    most: int, room: int, since_s: float, kept: bool
) -> None:
    possible = possible_workers(most, 1)
    decided = decide_workers(possible, Seen(most, room, since_s, kept))
    assert decided in possible and most % decided == 0
    if since_s >= PATIENCE_S and room >= 1:
        assert decided <= room or decided == most <= room


@given(batch=st.integers(1, 500), rows=st.integers(0, 500), multiple=st.integers(1, 8))
def test_a_batch_fits_the_rows_and_the_workers(batch: int, rows: int, multiple: int) -> None:
    fitted = fitting_batch(batch * multiple, rows, multiple)
    assert fitted <= rows and fitted % multiple == 0
    assert fitted > 0 or rows < multiple


def reported(epoch: int, ended: bool, wait_s: float = 0.1) -> dict[str, Any]:
    return {
        "epoch": epoch, "epoch_ended": ended, "loss": 1.0 / epoch, "rows_per_s": 10.0, "data_wait_s": wait_s,
        "data_wait_share": wait_s, "checkpoint_stall_s": 0.0, "workers": 2, "step": 0,
    }


def test_each_finished_epoch_is_told_once_with_the_slowest_ranks_wait(tmp_path: Path) -> None:
    record, told = RunRecord(tmp_path), list[EpochReport]()
    reader = ProgressReader(tmp_path, 2, told.append)
    reader.catch_up()
    record.after_report(None, [reported(1, False), reported(1, False)], None)
    record.after_report(None, [reported(1, True), reported(1, True, wait_s=0.4)], None)
    reader.catch_up()
    reader.catch_up()
    with (tmp_path / FILE).open("a") as half_written:
        half_written.write(json.dumps(reported(2, True)))
        half_written.flush()
        reader.catch_up()
        half_written.write("\n")
    reader.catch_up()
    assert [(r.epoch, r.data_wait_share) for r in told] == [(1, 0.4), (2, 0.1)]
    assert reader.checkpoints == 3
    assert str(told[0]) == "epoch 1 of 2: loss 1.0000, 10 rows/s, 40.0% waiting for data"
