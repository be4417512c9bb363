"""A compilation that was killed leaves a lock, on which later ranks would hang."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from app.training.environment import clear_stale_locks


def locked(folder: Path, age_s: float) -> Path:
    folder.mkdir()
    lock = folder / "lock"
    lock.touch()
    os.utime(lock, (time.time() - age_s,) * 2)
    return lock


def test_only_locks_nobody_works_under_are_cleared(tmp_path: Path) -> None:
    left, busy, young = (locked(tmp_path / name, age_s) for name, age_s in (("a", 60.0), ("b", 60.0), ("c", 0.0)))
    compiler = subprocess.Popen([sys.executable, "-c", "input()"], cwd=busy.parent, stdin=subprocess.PIPE)
    try:
        assert clear_stale_locks(tmp_path) == [left]
    finally:
        compiler.communicate(b"\n")
    assert not left.exists() and busy.exists() and young.exists()
    assert clear_stale_locks(tmp_path) == [busy]


def test_deepspeed_is_imported_without_mlflow_which_can_still_be_imported() -> None:
    code = (
        "import sys; from app.training.environment import import_deepspeed, prepare_process;"
        "prepare_process(use_gpu=False); import_deepspeed();"
        "assert 'mlflow' not in sys.modules; import mlflow; assert mlflow.__version__"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
