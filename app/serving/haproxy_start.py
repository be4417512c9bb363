"""Becomes HAProxy, with the public port from the holder, which is started where there is none.

Ray runs this in HAProxy's place (through haproxy_wrapper.sh) and later compares process ids, so it ends in `exec`. Only
the standard library: it runs at each change of a replica.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from app.serving.haproxy_configuration import completed, public_address, with_public_bind
from app.serving.port_request import PortAnswer, PortRequest, ask
from app.serving.private_folder import close_to_others

HOLDER = "app.serving.port_holder"
HOLDER_TIMEOUT_S = 10.0


def main(binary: str, arguments: list[str]) -> None:
    """Runs HAProxy with Ray's arguments and does not return."""
    if "-f" in arguments:
        arguments = with_port(binary, arguments, Path(arguments[arguments.index("-f") + 1]))
    os.execv(binary, [binary, *arguments])


def with_port(binary: str, arguments: list[str], configuration: Path) -> list[str]:
    """Completes the configuration file; gives the arguments by which others that serve are stopped, too."""
    folder = configuration.parent
    if not close_to_others(folder):
        raise SystemExit(f"{folder} or the folder above it is not this user's own. Remove it, or set another TMPDIR.")
    text = completed(configuration.read_text(), folder)
    address = public_address(text)
    if address is None:
        raise SystemExit(f"{configuration} has no public listener; expected a bind in its frontend http_frontend.")
    replaced = replaced_by(arguments)
    answer, descriptor = _ask_holder(binary, folder, PortRequest(os.getppid(), address, tuple(replaced), text))
    if answer.refusal is not None:
        raise SystemExit(answer.refusal)
    if descriptor is None:
        configuration.write_text(with_public_bind(text, f"unix@{folder}/wait.sock mode 600"))
        return arguments
    os.set_inheritable(descriptor, True)
    configuration.write_text(with_public_bind(text, f"fd@{descriptor}"))
    others = [str(pid) for pid in answer.others if pid not in replaced]
    return [*arguments, "-sf", *others] if others else arguments


def replaced_by(arguments: list[str]) -> list[int]:
    """Process ids that follow `-sf`."""
    found: list[int] = []
    counts = False
    for argument in arguments:
        counts = argument == "-sf" or (counts and argument.isdigit())
        if counts and argument != "-sf":
            found.append(int(argument))
    return found


def _ask_holder(binary: str, folder: Path, request: PortRequest) -> tuple[PortAnswer, int | None]:
    deadline = time.monotonic() + HOLDER_TIMEOUT_S
    while True:
        try:
            return ask(folder, request)
        except OSError as error:  # none runs, or it leaves just now
            if time.monotonic() > deadline:
                raise SystemExit(f"no holder of the public port in {folder} ({error}); see holder.log there") from error
        _start_holder(binary, folder)
        time.sleep(0.02)


def _start_holder(binary: str, folder: Path) -> None:
    """Starts one that outlives this process; where one runs already, the new one ends at once."""
    ray = _parent_of(os.getppid())
    with (folder / "holder.log").open("ab") as log:
        subprocess.run(
            [sys.executable, "-S", "-m", HOLDER, str(folder), binary, str(ray)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, check=True,
        )


def _parent_of(pid: int) -> int:
    """The raylet, which Ray's workers are children of."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
