"""Environments of the systems we measure ourselves against: one virtual environment each, made when first needed.

`benchmarks/peers/<peer>/requirements.txt` pins what is installed into `.peers/<peer>`. A peer's script lies beside its
requirements and imports nothing of ours; it is called with two paths, of its arguments and of its result, both JSON.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parents[1] / ".peers"
QUIET = {"FEAST_USAGE": "False", "PYTHONWARNINGS": "ignore"}


def peer_python(peer: str) -> Path:
    """The interpreter of a peer's environment; makes the environment when it is missing or its pins have changed.

    Raises:
        FileNotFoundError: there is no such peer.
        subprocess.CalledProcessError: its packages cannot be installed.
    """
    requirements = HERE / peer / "requirements.txt"
    pins = hashlib.sha256(requirements.read_bytes()).hexdigest()
    folder = ENVIRONMENTS / peer
    python, made = folder / "bin" / "python", folder / "requirements.sha256"
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / f"{peer}.lock").open("w") as lock:  # two benchmarks may want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists() or made.read_text() != pins:
            print(f"installing the packages of {peer} into {folder.name}/ (once)", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            subprocess.run(
                [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements],
                check=True,
            )
            made.write_text(pins)
    return python


def run_peer(peer: str, script: str, arguments: dict[str, Any], timeout_s: float = 1800) -> dict[str, Any]:
    """Runs `benchmarks/peers/<peer>/<script>` in the peer's environment and gives what it wrote as its result.

    Args:
        peer: folder of the peer.
        script: file in that folder; it reads JSON from `argv[1]` and writes JSON to `argv[2]`.
        arguments: anything JSON can hold.
        timeout_s: after this the script is killed.

    Raises:
        RuntimeError: the script failed; the message ends with what it said last.
        subprocess.TimeoutExpired: it took too long.
    """
    python = peer_python(peer)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder, "arguments.json"), Path(folder, "result.json")
        asked.write_text(json.dumps(arguments))
        done = subprocess.run(
            [str(python), str(HERE / peer / script), str(asked), str(answer)], env={**environment, **QUIET},
            capture_output=True, text=True, timeout=timeout_s, check=False,
        )
        if done.returncode or not answer.exists():
            raise RuntimeError(f"{peer}/{script} ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
        result: dict[str, Any] = json.loads(answer.read_text())
        return result
