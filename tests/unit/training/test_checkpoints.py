"""Nothing is loaded that is damaged, incomplete or of another model."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from app.models.signature import Signature
from app.spec import FeatureService, TorchModel
from app.training.checkpoints import POSITION, CheckpointRefusedError, Kept, seal_copy, verify
from app.training.data_plan import DataPlan
from app.training.encoded_rows import EncodedRows
from app.training.stream import Position
from app.training.worker import WorkerPlan

KEPT = Kept(Position(1, 7), 2, "this model", losses=3.5, num_losses=7)


def stored(tmp_path: Path) -> Path:
    """A checkpoint of two ranks as it lies in the run's folder."""
    target = tmp_path / "run" / "checkpoint"
    for rank in range(2):
        local = tmp_path / f"rank-{rank}"
        (local / "state").mkdir(parents=True)
        (local / "state" / f"shard-{rank}.pt").write_bytes(bytes([rank]) * 10_000)
        if rank == 0:
            (local / POSITION).write_text(json.dumps(asdict(KEPT)))
        seal_copy(local, target, rank)
    return target


def test_a_whole_checkpoint_tells_where_the_run_stood(tmp_path: Path) -> None:
    assert verify(stored(tmp_path), "this model") == KEPT


def test_a_truncated_shard_is_refused_by_name(tmp_path: Path) -> None:
    folder = stored(tmp_path)
    shard = folder / "state" / "shard-1.pt"
    shard.write_bytes(shard.read_bytes()[:9_999])
    with pytest.raises(CheckpointRefusedError, match=r"shard-1\.pt is missing or truncated"):
        verify(folder, "this model")


@pytest.mark.parametrize("missing", ["position.json", "sha256-1.json", "state/shard-0.pt"])
def test_a_missing_file_is_refused_by_name(tmp_path: Path, missing: str) -> None:
    folder = stored(tmp_path)
    (folder / missing).unlink()
    with pytest.raises(CheckpointRefusedError, match=Path(missing).name):
        verify(folder, "this model")


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefusedError, match="another model"):
        verify(stored(tmp_path), "that model")


def test_a_copy_that_fails_leaves_none_of_its_files(tmp_path: Path) -> None:
    local, target = tmp_path / "rank-0", tmp_path / "run"
    local.mkdir()
    (local / "a.pt").write_bytes(b"whole")
    (local / "b.pt").write_bytes(b"not written")
    target.mkdir()
    (target / "b.pt").mkdir()  # stands for a disk that is full when the second file comes
    with pytest.raises(OSError):
        seal_copy(local, target, 0)
    assert sorted(f.name for f in target.iterdir()) == ["b.pt"]


def test_a_fingerprint_is_of_what_a_checkpoint_must_agree_with() -> None:
    model = TorchModel("m", FeatureService("s", ()), "f:f")
    rows = EncodedRows(Path("rows"), 1, 0, ("a",), ((0, 0, 8),))
    plan = WorkerPlan(model, Signature(1, (), "binary"), rows, DataPlan((8,), 4, 2, 7, 8), Path("run"), False, 0.0)
    same = replace(plan, model=replace(model, num_workers=1, deadline_s=1.0), deadline_at=9.0, attempt=3)
    assert same.fingerprint == plan.fingerprint, "a run may go on elsewhere, with fewer workers and another deadline"
    for other in (
        replace(plan, model=replace(model, learning_rate=0.5)),
        replace(plan, signature=Signature(2, (), "binary")),
        replace(plan, data=DataPlan((9,), 4, 2, 7, 8)),
    ):
        assert other.fingerprint != plan.fingerprint
