"""Stands for a raylet and its manager of HAProxy: processes that start Ray's way what they are told on standard input.

python fake_ray.py raylet: the line `manager` starts a new manager; every other line goes to the newest, which starts
the command that it holds as JSON. Each prints the process ids of what it starts.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys


def raylet() -> None:
    managers: list[subprocess.Popen[str]] = []
    for line in sys.stdin:
        if line.strip() == "manager":
            managers.append(subprocess.Popen([sys.executable, __file__, "manager"], stdin=subprocess.PIPE, text=True))
            print(managers[-1].pid, flush=True)
        else:
            pipe = managers[-1].stdin
            assert pipe is not None
            pipe.write(line)
            pipe.flush()


def manager() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended children leave nothing
    for line in sys.stdin:
        said = json.loads(line)
        with open(said["log"], "w") as log:
            process = subprocess.Popen(said["command"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        print(process.pid, flush=True)


if __name__ == "__main__":
    {"raylet": raylet, "manager": manager}[sys.argv[1]]()
