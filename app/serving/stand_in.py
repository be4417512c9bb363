"""A HAProxy of the holder's own, and what of HAProxies a holder leaves to the next one: a configuration on disk, and
processes. Only the standard library, as the holder."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.serving.haproxy_configuration import public_address, with_public_bind
from app.serving.public_socket import has_any, listening_at

CONFIGURATION = "haproxy.cfg"
STAND_IN = Path("stand-in") / CONFIGURATION  # ends as Ray's own, so whoever looks for HAProxies finds both


@dataclass(frozen=True)
class LeftBehind:
    """`listening`, `others`: living HAProxies; `kept`: the configuration, if it names replicas."""

    listening: tuple[int, ...]
    others: tuple[int, ...]
    address: str | None
    kept: str | None


def start_stand_in(binary: str, folder: Path, configuration: str, public: int) -> subprocess.Popen[bytes]:
    """Starts HAProxy on the listening socket of the descriptor `public`.

    Raises:
        OSError: it cannot be started.
    """
    path = folder / STAND_IN
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(with_public_bind(configuration, f"fd@{public}"))
    with path.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(
            [binary, "-db", "-f", str(path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[public]
        )


def keep_on_disk(folder: Path, configuration: str | None) -> None:
    """For the next holder, should this one be killed.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / STAND_IN
    if configuration is None:
        path.unlink(missing_ok=True)
    else:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_text(configuration)


def left_behind(binary: str, folder: Path) -> LeftBehind:
    """What a holder that was killed left: some that listen, and some that only finish what they were asked, or wait."""
    kept, given = folder / STAND_IN, folder / CONFIGURATION
    source = next((path for path in (kept, given) if path.exists()), None)
    text = source.read_text() if source else ""
    address = public_address(text)
    sockets = listening_at(address) if address else set()
    living = set(_haproxies(binary, {str(kept), str(given)}))
    listening = {pid for pid in living if has_any(pid, sockets)}
    return LeftBehind(tuple(listening), tuple(living - listening), address, text if source == kept else None)


def _haproxies(binary: str, configurations: set[str]) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # no process, or one that ended
            continue
        if words[0] == binary and configurations & set(words):
            yield int(entry.name)
