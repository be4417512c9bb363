"""Checkpoints of a run: each rank's shard, hashed as it is stored and verified before it is loaded.

A step's checkpoint is written to the worker's own disk, which is all the training waits for; it is copied to the run's
folder by a thread. DeepSpeed's shards are pickles: they stay in the run's folder and nothing is unpickled
whose hash differs from the one noted when it was written.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import threading
from argparse import Namespace
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import Checkpoint, CheckpointUploadMode

from app.training.learner import Learner
from app.training.stream import Position

TAG = "state"
POSITION = "position.json"
SEAL = "sha256-{rank}.json"
UNIVERSAL = "universal"


class CheckpointRefusedError(Exception):
    """A checkpoint that must not be loaded: damaged, incomplete, or of another model."""


@dataclass(frozen=True)
class Kept:
    """What is written beside the shards. `losses`, `num_losses`: of the epoch's steps so far."""

    position: Position
    num_workers: int
    fingerprint: str
    losses: float = 0.0
    num_losses: int = 0
    finished: bool = False


class Checkpointer:
    """Writes the checkpoints of one rank, the copy to the run's folder in the background."""

    def __init__(self, run_folder: Path, rank: int) -> None:
        self._run_folder, self._rank = run_folder, rank
        self._copied = threading.Event()
        self._copied.set()

    @property
    def idle(self) -> bool:
        """Whether the checkpoint before has been stored; a worker's disk holds one at a time."""
        return self._copied.is_set()

    def save(self, learner: Learner, kept: Kept, metrics: dict[str, Any]) -> None:
        """Writes this rank's shard and reports; of a finished run the weights alone. All ranks call it."""
        self._copied.wait()
        folder = Path(tempfile.mkdtemp(prefix="millrace-checkpoint-"))
        if kept.finished:
            learner.save_weights(folder)
        else:
            learner.engine.save_checkpoint(str(folder), tag=TAG)
        if self._rank == 0:
            (folder / POSITION).write_text(json.dumps(asdict(kept)))
        self._copied.clear()
        ray.train.report(
            metrics,
            checkpoint=Checkpoint.from_directory(str(folder)),
            checkpoint_upload_mode=CheckpointUploadMode.SYNC if kept.finished else CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=self._store,
            delete_local_checkpoint_after_upload=True,
        )

    def _store(self, checkpoint: Checkpoint, name: str) -> Checkpoint:
        target = self._run_folder / name
        try:
            seal_copy(Path(checkpoint.path), target, self._rank)
        except OSError:
            shutil.rmtree(checkpoint.path, ignore_errors=True)
            raise
        finally:
            self._copied.set()
        return Checkpoint.from_directory(str(target))


def seal_copy(source: Path, target: Path, rank: int) -> None:
    """Copies a rank's files and, last, the list of their hashes.

    Raises:
        OSError: the disk is full or the folder cannot be reached; this rank's files are removed again.
    """
    hashes: dict[str, str] = {}
    try:
        for file in sorted(f for f in source.rglob("*") if f.is_file()):
            name = str(file.relative_to(source))
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            hashes[name] = _copy(file, target / name)
        target.mkdir(parents=True, exist_ok=True)  # a rank may have had nothing to write
        (target / SEAL.format(rank=rank)).write_text(json.dumps(hashes))
    except OSError:
        for name in hashes:
            (target / name).unlink(missing_ok=True)
        raise


def verify(folder: Path, fingerprint: str) -> Kept:
    """What a checkpoint holds, once every file is what was written and it is of this very model.

    Raises:
        CheckpointRefusedError: it is damaged, incomplete or of another model.
    """
    if not (folder / POSITION).exists():
        raise CheckpointRefusedError(f"checkpoint {folder} is incomplete: {POSITION} is missing")
    told = json.loads((folder / POSITION).read_text())
    kept = Kept(**{**told, "position": Position(**told["position"])})
    if kept.fingerprint != fingerprint:
        raise CheckpointRefusedError(
            f"checkpoint {folder} is of another model, configuration or data than this run's (fingerprint "
            f"{kept.fingerprint[:12]}, expected {fingerprint[:12]})"
        )
    for rank in range(kept.num_workers):
        seal = folder / SEAL.format(rank=rank)
        if not seal.exists():
            raise CheckpointRefusedError(f"checkpoint {folder} is incomplete: worker {rank}'s {seal.name} is missing")
        for name, expected in json.loads(seal.read_text()).items():
            if not (folder / name).exists() or _sha256(folder / name) != expected:
                raise CheckpointRefusedError(
                    f"checkpoint {folder} is damaged: {name} is missing or truncated (its SHA-256 differs)"
                )
    return kept


def restore(learner: Learner, folder: Path, kept: Kept, num_workers: int) -> None:
    """Loads the state of a verified checkpoint; of another number of workers through a universal checkpoint."""
    engine = learner.engine
    if kept.num_workers == num_workers or engine.zero_optimization_stage() == 0:  # at stage 0 every rank has it all
        engine.load_checkpoint(str(folder), tag=TAG)
        return
    if torch.distributed.get_rank() == 0 and not (folder / UNIVERSAL / "done").exists():
        _to_universal(folder)
    torch.distributed.barrier()
    engine._config.load_universal_checkpoint = True
    engine.load_checkpoint(str(folder), tag=UNIVERSAL)
    engine._config.load_universal_checkpoint = False  # saving stage 3 with it on would lose the other ranks' state


def fingerprint_of(*parts: object) -> str:
    """SHA-256 of everything that makes two runs the same, by its `repr`."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _to_universal(folder: Path) -> None:
    from deepspeed.checkpoint import ds_to_universal

    target = folder / UNIVERSAL
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    ds_to_universal.main(
        Namespace(
            input_folder=str(folder / TAG), output_folder=str(target), num_extract_workers=1, num_merge_workers=1,
            keep_temp_folder=False, strict=True, inject_missing_state=True,
        )
    )
    (target / "done").touch()


def _copy(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with source.open("rb") as read, target.open("wb") as written:
        while block := read.read(4 * 1024**2):
            digest.update(block)
            written.write(block)
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
