"""What a checkout holds that no commit does, as text that may be kept beside a model.

Left out, and named: what is binary or large, and what is or looks like a secret.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import UncommittedCodeError

MAX_FILE_BYTES = 256 * 1024
MAX_DIFF_BYTES = 4 * 2**20
SECRET_NAMES = re.compile(
    r"(^|/)(\.env(\..*)?|.*\.(pem|key|p12|pfx|jks|kdbx)|id_(rsa|dsa|ecdsa|ed25519)|\.netrc|\.pgpass|\.npmrc|\.pypirc"
    r"|[^/]*(secret|credential|passw|token)[^/]*\.(json|ya?ml|toml|ini|cfg|conf|txt|env))$",
    re.IGNORECASE,
)
SECRET_TEXT = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[0-9A-Za-z]{30,}|\bxox[abprs]-[0-9A-Za-z-]{10,}"
    r"|\beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.|://[^/\s:@]+:[^/\s:@]+@"
    r"|(password|passwd|secret|api_?key|access_?key|auth_?token)['\"]?\s*[:=]\s*['\"][^'\"\s]{8,}['\"]",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class CodeDiff:
    """`text`: a patch for `git apply`. `left_out`: files that changed too, each with why it is not in the text."""

    text: str
    left_out: Mapping[str, str]
    files: tuple[str, ...]


def code_diff(root: Path) -> CodeDiff:
    """Of the checkout at `root`, changed and new files that git does not ignore; empty without git."""
    parts, left_out, files = [], {}, []
    taken = 0
    for name, patch in _patches(root):
        files.append(name)
        reason = _reason_to_leave_out(root / name, name, patch)
        if reason is None and taken + len(patch) > MAX_DIFF_BYTES:
            reason = f"the difference is larger than {MAX_DIFF_BYTES // 2**20} MiB"
        if reason is not None:
            left_out[name] = reason
            continue
        taken += len(patch)
        parts.append(patch.decode("utf-8", errors="replace"))
    return CodeDiff("".join(parts), left_out, tuple(files))


def require_committed(code: Mapping[str, Any], allow_dirty: bool) -> None:
    """Refuses code that no commit holds: what it trains could not be made again from the repository.

    Args:
        code: what `code_state` says of the checkout or package.
        allow_dirty: whether the user wants it all the same; its difference is then recorded.

    Raises:
        UncommittedCodeError: there are uncommitted changes and nobody allowed them.
    """
    if not code.get("code_dirty") or allow_dirty:
        return
    names = [str(name) for name in code.get("code_files") or ()]
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    raise UncommittedCodeError(
        f"the code has uncommitted changes ({shown or 'see git status'}), so a model trained now could not be made "
        "again from its commit. Commit them, or give --allow-dirty (MILLRACE_ALLOW_DIRTY=1): the difference is then "
        "recorded with the model.",
        files=names,
    )


def _patches(root: Path) -> Iterator[tuple[str, bytes]]:
    """Name and patch of every file that differs from the commit, new ones included."""
    for name in _names(root, "diff", "HEAD", "--name-only", "--no-renames", "-z"):
        yield name, _git(root, "diff", "HEAD", "--no-renames", "--", f":(literal){name}")
    for name in _names(root, "ls-files", "--others", "--exclude-standard", "-z"):
        if (root / name).is_file() and not (root / name).is_symlink():
            large = (root / name).stat().st_size > MAX_FILE_BYTES
            yield name, b"" if large else _git(root, "diff", "--no-index", "--", os.devnull, name, found=1)
        else:
            yield name, b""


def _reason_to_leave_out(path: Path, name: str, patch: bytes) -> str | None:
    if SECRET_NAMES.search(name):
        return "its name is that of a secret"
    if len(patch) > MAX_FILE_BYTES or (path.is_file() and not patch and path.stat().st_size > MAX_FILE_BYTES):
        return f"larger than {MAX_FILE_BYTES // 1024} KiB"
    if not patch:
        return "neither text nor a file"
    if b"\nBinary files " in patch:
        return "binary"
    if SECRET_TEXT.search(patch.decode("utf-8", errors="replace")):
        return "holds what looks like a secret"
    return None


def _names(root: Path, *arguments: str) -> list[str]:
    return [os.fsdecode(name) for name in _git(root, *arguments).split(b"\0") if name]


def _git(root: Path, *arguments: str, found: int = 0) -> bytes:
    """What git prints; nothing without git or a checkout. `found`: a further code that means success."""
    command = ["git", "-C", str(root), "-c", "core.quotePath=false", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        return b""
    return done.stdout if done.returncode in (0, found) else b""
