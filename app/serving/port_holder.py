"""Holds the public port of a host while HAProxies come and go: a small process of its own, one for each home and node.

It listens and never accepts. Each HAProxy that serves is given the same socket, so what connects while none accepts
waits in the kernel's queue instead of being refused. When the one that serves dies, a stand-in with the last
configuration that named replicas starts at once, and serves until Ray's next HAProxy knows its replicas. Only the
standard library, so that it stays small:

python -S -m app.serving.port_holder FOLDER HAPROXY_BINARY RAYLET_PID
"""

from __future__ import annotations

import fcntl
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from app.serving.haproxy_configuration import public_address, servers, stand_in, with_public_bind
from app.serving.port_request import SOCKET, PortAnswer, PortRequest, read_request, send_answer
from app.serving.port_rules import Proxy, decide_has_port, decide_leave, decide_stand_in
from app.serving.public_socket import may_listen, open_public_socket

TICK_S = 0.5
LEAVE_AFTER_S = 10.0  # without an owner: on a busy host Ray takes seconds to start its next manager
BETWEEN_STAND_INS_S = 1.0
STOP_TIMEOUT_S = 3.0
STAND_IN = Path("stand-in") / "haproxy.cfg"  # ends as Ray's own, so whoever looks for HAProxies finds both


class PortHolder:
    """The process's state. `ray`: the raylet without which nothing here is needed."""

    def __init__(self, folder: Path, binary: str, ray: int, line: socket.socket) -> None:
        self._folder, self._binary, self._ray, self._line = folder, binary, ray, line
        self._selector = selectors.DefaultSelector()
        self._selector.register(line, selectors.EVENT_READ, None)
        self._descriptors: dict[int, int] = {}  # of living processes: pid → pidfd
        self._proxies: dict[int, Proxy] = {}
        self._managers: set[int] = set()
        self._address: str | None = None
        self._public: socket.socket | None = None
        self._kept: str | None = None  # the last configuration that named replicas
        self._no_stand_in_before = 0.0
        self._owned_at = time.monotonic()
        if not self._watch(ray):
            raise SystemExit(f"no process {ray}: Ray is gone")
        self._adopt()

    def run(self) -> None:
        """Returns when the port has no owner left."""
        while not self._is_ownerless():
            for key, _ in self._selector.select(TICK_S):
                if key.data is None:
                    self._answer()
                else:
                    self._ended(key.data)
            if decide_stand_in(self._proxies.values(), self._kept is not None):
                self._start_stand_in()

    def leave(self) -> None:
        """Closes the port and stops every HAProxy of the folder."""
        if self._public is not None:
            self._public.close()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for pid in self._proxies:
            _signal(pid, signal.SIGTERM)
        while self._proxies and time.monotonic() < deadline:
            for key, _ in self._selector.select(0.1):
                if key.data is not None:
                    self._ended(key.data)
        for pid in self._proxies:
            _signal(pid, signal.SIGKILL)
        (self._folder / SOCKET).unlink(missing_ok=True)
        _note("left")

    def _is_ownerless(self) -> bool:
        has_ray = self._ray in self._descriptors
        has_replica = bool(self._managers) or any(may_listen(server) for server in servers(self._kept or ""))
        now = time.monotonic()
        if not decide_leave(
            has_ray=has_ray, has_manager=bool(self._managers), has_proxy=bool(self._proxies), has_replica=has_replica
        ):
            self._owned_at = now
        return not has_ray or now - self._owned_at > LEAVE_AFTER_S

    def _answer(self) -> None:
        line, _ = self._line.accept()
        with line:
            pid, user, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if user != os.getuid():
                _note(f"user {user} asked and was sent away")
                return
            try:
                request = read_request(line)
                answer = self._decide(pid, request)
                descriptor = self._public.fileno() if answer.has_port and self._public else None
                send_answer(line, answer, descriptor)
            except OSError as error:  # whoever asked is gone: its end is seen where processes end
                _note(f"process {pid} asked, then: {error}")

    def _decide(self, pid: int, request: PortRequest) -> PortAnswer:
        if request.address != self._address:
            self._move_to(request.address)
        has_replicas = bool(servers(request.configuration))
        if not decide_has_port(has_replicas, request.replaced, self._proxies.values()):
            self._add(Proxy(pid, has_port=False, has_replicas=False), request.manager)
            _note(f"HAProxy {pid} knows no replicas and waits")
            return PortAnswer()
        try:
            self._open()
        except OSError as error:
            return PortAnswer(refusal=f"HAProxy cannot listen at {request.address}: {error.strerror}. Stop what does.")
        others = tuple(self._proxies)
        self._retire_all()
        self._keep(stand_in(request.configuration) if has_replicas else None)
        self._add(Proxy(pid, has_port=True, has_replicas=has_replicas), request.manager)
        _note(f"HAProxy {pid} has the port{'' if has_replicas else ', without replicas'}")
        return PortAnswer(True, others)

    def _add(self, proxy: Proxy, manager: int) -> None:
        if self._watch(proxy.pid):
            self._proxies[proxy.pid] = proxy
        if self._watch(manager):
            self._managers.add(manager)

    def _ended(self, pid: int) -> None:
        descriptor = self._descriptors.pop(pid)
        self._selector.unregister(descriptor)
        os.close(descriptor)
        self._managers.discard(pid)
        proxy = self._proxies.pop(pid, None)
        with suppress(ChildProcessError):  # only stand-ins are children
            os.waitpid(pid, os.WNOHANG)
        if proxy is not None and proxy.serves:
            _note(f"HAProxy {pid}, which served, ended")

    def _start_stand_in(self) -> None:
        if self._kept is None or time.monotonic() < self._no_stand_in_before:
            return
        self._no_stand_in_before = time.monotonic() + BETWEEN_STAND_INS_S
        self._open()
        assert self._public is not None
        descriptor = self._public.fileno()
        configuration = self._folder / STAND_IN
        configuration.write_text(with_public_bind(self._kept, f"fd@{descriptor}"))
        with configuration.with_suffix(".log").open("wb") as log:
            process = subprocess.Popen(
                [self._binary, "-db", "-f", str(configuration)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[descriptor],
            )
        self._watch(process.pid)
        self._proxies[process.pid] = Proxy(process.pid, has_port=True, has_replicas=True)
        _note(f"stand-in {process.pid} serves")

    def _keep(self, configuration: str | None) -> None:
        """Also on disk, for the next holder should this one be killed."""
        self._kept = configuration
        path = self._folder / STAND_IN
        if configuration is None:
            path.unlink(missing_ok=True)
        else:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.write_text(configuration)

    def _adopt(self) -> None:
        """HAProxies that a holder which was killed left behind: they serve on, on its socket."""
        ours = {str(self._folder / "haproxy.cfg"), str(self._folder / STAND_IN)}
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:  # no process, or one that ended
                continue
            if words[0] == self._binary and ours & set(words) and self._watch(int(entry.name)):
                self._proxies[int(entry.name)] = Proxy(int(entry.name), has_port=True, has_replicas=True)
                _note(f"found HAProxy {entry.name}")
        if self._proxies and (self._folder / STAND_IN).exists():
            self._kept = (self._folder / STAND_IN).read_text()
            self._address = public_address(self._kept)

    def _move_to(self, address: str) -> None:
        """What serves at another address is left over from a Serve that was shut down."""
        self._retire_all()
        self._keep(None)
        if self._public is not None:
            self._public.close()
        self._address, self._public = address, None

    def _retire_all(self) -> None:
        self._proxies = {pid: replace(proxy, retired=True) for pid, proxy in self._proxies.items()}

    def _open(self) -> None:
        """Raises: OSError: the port is taken by somebody else."""
        if self._public is None and self._address is not None:
            self._public = open_public_socket(self._address, is_ours=bool(self._proxies))

    def _watch(self, pid: int) -> bool:
        """False when it has ended already."""
        if pid not in self._descriptors:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                return False
            self._descriptors[pid] = descriptor
            self._selector.register(descriptor, selectors.EVENT_READ, pid)
        return True


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _note(event: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), event, flush=True)


def main(folder: Path, binary: str, ray: int) -> None:
    """Returns at once where another holder of the folder runs; else when it listens, while a child of it runs on."""
    lock = (folder / "holder.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    (folder / SOCKET).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as line:
        line.bind(str(folder / SOCKET))
        line.listen()
        if os.fork():
            return
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        holder = PortHolder(folder, binary, ray, line)
        try:
            holder.run()
        finally:
            holder.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
