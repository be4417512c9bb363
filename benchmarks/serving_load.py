"""wrk: the load on a server, every request with a body of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPT = """
local rows, next_row = {}, 0
for line in io.lines("%(bodies)s") do rows[#rows + 1] = line end
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
%(headers)s
request = function()
  next_row = next_row + 1
  local body = rows[(next_row - 1) %% #rows + 1]
  return wrk.format(nil, nil, nil, (body:gsub("@", tostring(next_row), 1)))
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests": %%d, "seconds": %%f, "p50_ms": %%f, "p99_ms": %%f, "failed": %%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """What wrk saw. `failed`: requests without an answer of 2xx."""

    connections: int
    per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


def measure(
    url: str, bodies: list[dict[str, Any]], connections: int, duration_s: float, token: str | None = None
) -> Load:
    """Asks `url` for `duration_s` over `connections`; an `@` in a body becomes the number of the request.

    Raises:
        FileNotFoundError: wrk is not installed.
        RuntimeError: wrk failed.
    """
    if shutil.which("wrk") is None:
        raise FileNotFoundError("wrk is not installed; on Debian: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        lines, script = Path(folder, "bodies"), Path(folder, "load.lua")
        lines.write_text("\n".join(json.dumps(body) for body in bodies))
        header = "" if token is None else f'wrk.headers["authorization"] = "Bearer {token}"'
        script.write_text(SCRIPT % {"bodies": lines, "headers": header})
        done = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{duration_s:g}s", "--timeout", "10s", "-s", str(script), url],
            capture_output=True, text=True, check=False,
        )
    if done.returncode or not done.stdout.strip().endswith("}"):
        raise RuntimeError(f"wrk failed: {done.stderr[-500:]} {done.stdout[-500:]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return Load(
        connections, found["requests"] / found["seconds"], found["p50_ms"], found["p99_ms"], found["failed"]
    )
