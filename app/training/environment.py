"""Environment of training processes: which accelerator DeepSpeed uses and where compiled extensions lie.

DeepSpeed compiles `deepspeed_shm_comm` at first use (about 80 s). `prebuild` does it once per environment; a rank
killed while compiling leaves a `lock` on which later ranks would hang without a word, so stale locks are cleared first.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from pathlib import Path
from types import ModuleType

import psutil

EXTENSIONS = Path(sys.prefix) / "torch_extensions"
YOUNG_S = 15.0  # between a lock and the compiler's start


def prepare_process(*, use_gpu: bool) -> None:
    """Sets what DeepSpeed and torch read at import; call before importing deepspeed."""
    if not use_gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ["TORCH_EXTENSIONS_DIR"] = str(EXTENSIONS)
    os.environ["DS_IGNORE_CUDA_DETECTION"] = "1"
    binaries = str(Path(sys.executable).parent)  # ninja comes with the lock
    os.environ["PATH"] = os.pathsep.join([binaries, *os.get_exec_path()])


def import_deepspeed() -> ModuleType:
    """DeepSpeed without MLflow, which its autotuner alone uses: most of the time that the import would take."""
    if "mlflow" in sys.modules or "deepspeed" in sys.modules:
        return importlib.import_module("deepspeed")
    sys.modules["mlflow"] = None  # type: ignore[assignment]  # Python's way to say that there is none
    try:
        return importlib.import_module("deepspeed")
    finally:
        del sys.modules["mlflow"]


def clear_stale_locks(extensions: Path = EXTENSIONS) -> list[Path]:
    """Removes locks in whose folder nobody compiles, left by a process that was killed; gives those removed."""
    now = time.time()
    old = [lock for lock in sorted(extensions.rglob("lock")) if now - lock.stat().st_mtime > YOUNG_S]
    if not old:
        return []
    busy = _working_folders()
    stale = [lock for lock in old if lock.parent.resolve() not in busy]
    for lock in stale:
        lock.unlink(missing_ok=True)
    return stale


def _working_folders() -> set[Path]:
    """Where the processes of this host work: a compiler works in the folder of what it builds."""
    folders = set()
    for process in psutil.process_iter():
        try:
            folders.add(Path(process.cwd()))
        except (psutil.Error, OSError):  # gone by now, or not ours to look at
            continue
    return folders
