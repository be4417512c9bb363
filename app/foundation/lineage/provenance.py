"""Which code and environment a result came from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
PACKED = "provenance.json"  # written by `millrace submit`, since Ray leaves .git out of a job's package
RECORDED = ("ray", "torch", "deepspeed", "scikit-learn", "pyarrow", "pandas", "numpy", "polars", "mlflow")


def provenance(root: Path = ROOT) -> dict[str, Any]:
    """Commit, uncommitted difference, lock, machine and versions.

    In a job that `millrace submit` packed, the commit is the one it noted; without that file and without git
    the commit is "unknown" and `code_source` says so.
    """
    packed = root / PACKED
    code = json.loads(packed.read_text()) if packed.exists() else code_state(root)
    lock = root / "requirements.lock"
    return {
        **code,
        "lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else "unknown",
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in RECORDED},
    }


def code_state(root: Path = ROOT) -> dict[str, Any]:
    """The checkout's commit and the hash of what is not committed, as git tells them."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {"code_commit": "unknown", "code_dirty": None, "code_source": "no git checkout and no provenance file"}
    difference = _git(root, "diff", "HEAD") or ""
    return {
        "code_commit": commit,
        "code_dirty": bool(difference),
        "code_diff_sha256": hashlib.sha256(difference.encode()).hexdigest() if difference else None,
        "code_source": "git",
    }


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
