"""Environment of training processes: which accelerator DeepSpeed uses and where compiled extensions lie.

DeepSpeed compiles `deepspeed_shm_comm` at first use (about 80 s). `prebuild` does it once per environment; a rank
killed while compiling leaves a `lock` on which later ranks would hang without a word, so stale locks are cleared first.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

EXTENSIONS = Path(sys.prefix) / "torch_extensions"
STALE_AFTER_S = 300.0  # a compilation takes about 80 s on two cores


def prepare_process(*, use_gpu: bool) -> None:
    """Sets what DeepSpeed and torch read at import; call before importing deepspeed."""
    if not use_gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ["TORCH_EXTENSIONS_DIR"] = str(EXTENSIONS)
    os.environ["DS_IGNORE_CUDA_DETECTION"] = "1"
    binaries = str(Path(sys.executable).parent)  # ninja comes with the lock
    os.environ["PATH"] = os.pathsep.join([binaries, *os.get_exec_path()])


def clear_stale_locks() -> list[Path]:
    """Removes locks older than any compilation takes, left by a process that was killed; gives those removed."""
    now = time.time()
    stale = [lock for lock in sorted(EXTENSIONS.rglob("lock")) if now - lock.stat().st_mtime > STALE_AFTER_S]
    for lock in stale:
        lock.unlink(missing_ok=True)
    return stale
