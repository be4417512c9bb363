"""Which code and environment a result came from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from app.foundation.lineage.code_diff import code_diff

ROOT = Path(__file__).resolve().parents[3]
PACKED = "provenance.json"  # written by `millrace submit`, since Ray leaves .git out of a job's package
RAY_PACKAGE = "_ray_pkg_"
UNKNOWN = "unknown"
RECORDED = (
    "ray", "torch", "deepspeed", "scikit-learn", "scipy", "pyarrow", "pandas", "numpy", "polars", "mlflow",
    "onnxruntime", "skops",
)


def provenance(root: Path = ROOT) -> dict[str, Any]:
    """Commit, uncommitted difference, lock, machine and versions.

    In a job that `millrace submit` packed, the commit is the one it noted. A plain `ray job submit` brings no
    commit: then `package_hash`, Ray's name for exactly these files, says what ran, and `code_source` says so.
    """
    code = code_state(root)
    package_hash = ray_package(Path.cwd())
    if code["code_commit"] == UNKNOWN:  # where git can tell, it is believed over a file that may be left over
        packed = next((f / PACKED for f in (root, Path.cwd()) if (f / PACKED).exists()), None)
        if packed is not None:
            code = json.loads(packed.read_text())
        elif package_hash is not None:
            code["code_source"] = "hash of the package that ray job submit made; millrace submit keeps the commit"
    lock = root / "requirements.lock"
    if code.get("code_dirty") and "code_diff" not in code:
        difference = code_diff(root)
        code |= {"code_diff": difference.text, "code_diff_left_out": dict(difference.left_out)}
    return {
        **code,
        "package_hash": package_hash,
        "lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else UNKNOWN,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "machine": platform.machine(),
        "versions": {name: importlib.metadata.version(name) for name in RECORDED},
    }


def packed_state(root: Path = ROOT) -> dict[str, Any]:
    """What `millrace submit` sends along: the state of the code, and its difference as text."""
    state = code_state(root)
    if state["code_dirty"]:
        difference = code_diff(root)
        state |= {"code_diff": difference.text, "code_diff_left_out": dict(difference.left_out)}
    return state


def code_state(root: Path = ROOT) -> dict[str, Any]:
    """The checkout's commit and the hash of what is not committed, new files included, as git tells them."""
    top = _git(root, "rev-parse", "--show-toplevel")
    commit = _git(root, "rev-parse", "HEAD")
    if top is None or commit is None or Path(os.fsdecode(top.strip())).resolve() != root.resolve():
        # A package installed in a venv may lie inside somebody else's checkout, whose commit says nothing of it.
        return {
            "code_commit": UNKNOWN,
            "code_dirty": None,
            "code_diff_sha256": None,
            "code_files": [],
            "code_source": "no git checkout and no provenance file",
        }
    changed = _git(root, "diff", "HEAD") or b""
    listed = _git(root, "ls-files", "--others", "--exclude-standard", "-z") or b""
    new_names = [name for name in listed.split(b"\0") if name]
    difference = hashlib.sha256(changed)
    for name in new_names:
        difference.update(name + b"\0" + _file_sha256(root / os.fsdecode(name)))
    dirty = bool(changed or new_names)
    changed_names = (_git(root, "diff", "HEAD", "--name-only", "-z") or b"").split(b"\0")
    return {
        "code_commit": commit.decode().strip(),
        "code_dirty": dirty,
        "code_diff_sha256": difference.hexdigest() if dirty else None,
        "code_files": sorted(os.fsdecode(name) for name in [*changed_names, *new_names] if name),
        "code_source": "git",
    }


def ray_package(folder: Path) -> str | None:
    """The hash in the name of the folder into which Ray unpacked a job's files, `None` anywhere else.

    >>> ray_package(Path("/tmp/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_4f2a"))
    '4f2a'
    """
    return next((part.removeprefix(RAY_PACKAGE) for part in folder.parts if part.startswith(RAY_PACKAGE)), None)


def _file_sha256(path: Path) -> bytes:
    """Of the content; a link to a folder, or a checkout within this one, has none of its own."""
    if not path.is_file():
        return b""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()


def _git(root: Path, *arguments: str) -> bytes | None:
    """What git says, as bytes: a difference may be in any encoding. `None` without git or a checkout."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout
