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
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from app.serving.haproxy_configuration import servers, stand_in
from app.serving.port_request import SOCKET, PortAnswer, PortRequest, peer, read_request, send_answer
from app.serving.port_rules import Proxy, Trial, decide_has_port, decide_leave, decide_stand_in, decide_trial
from app.serving.public_socket import has_any, listening_at, may_listen, open_public_socket
from app.serving.stand_in import keep_on_disk, left_behind, start_stand_in
from app.serving.watched_processes import POLL_S, WatchedProcesses

TICK_S = 0.5
LEAVE_AFTER_S = 10.0  # without an owner: on a busy host Ray takes seconds to start its next manager
BETWEEN_STAND_INS_S = 1.0
STOP_TIMEOUT_S = 3.0


class PortHolder:
    """The process's state. `ray`: the raylet without which nothing here is needed."""

    def __init__(self, folder: Path, binary: str, ray: int, line: socket.socket) -> None:
        self._folder, self._binary, self._ray, self._line = folder, binary, ray, line
        self._living = WatchedProcesses(line)
        self._proxies: dict[int, Proxy] = {}
        self._managers: set[int] = set()
        self._address: str | None = None
        self._public: socket.socket | None = None
        self._kept: str | None = None  # the last configuration that named replicas, and ran
        self._trial: Trial | None = None
        self._no_stand_in_before = 0.0
        self._owned_at = self._managed_at = time.monotonic()
        if not self._living.watch(ray):
            raise SystemExit(f"no process {ray}: Ray is gone")
        self._adopt()

    def run(self) -> None:
        """Returns when the port has no owner left."""
        while not self._is_ownerless():
            ended, is_asked = self._living.wait(TICK_S)
            self._forget(ended)
            if is_asked:
                self._answer()
            try:
                self._judge()
                if decide_stand_in(self._proxies.values(), self._kept is not None):
                    self._start_stand_in()
            except OSError as error:  # may pass: a full disk, no descriptor left
                _note(f"no stand-in could be started, and will be tried again: {error}")

    def leave(self) -> None:
        """Closes the port and stops every HAProxy of the folder."""
        if self._public is not None:
            self._public.close()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for pid in self._proxies:
            _signal(pid, signal.SIGTERM)
        while self._proxies and time.monotonic() < deadline:
            ended, _ = self._living.wait(0.1)
            self._forget(ended)
        for pid in self._proxies:
            _signal(pid, signal.SIGKILL)
        (self._folder / SOCKET).unlink(missing_ok=True)
        _note("left")

    def _is_ownerless(self) -> bool:
        has_ray, has_manager, now = self._ray in self._living, bool(self._managers), time.monotonic()
        if has_manager:
            self._managed_at = now
        has_replica = has_manager or any(may_listen(server) for server in servers(self._kept or ""))
        if not decide_leave(
            has_ray=has_ray, has_manager=has_manager, has_proxy=bool(self._proxies), has_replica=has_replica,
            unmanaged_s=now - self._managed_at,
        ):
            self._owned_at = now
        return not has_ray or now - self._owned_at > LEAVE_AFTER_S

    def _answer(self) -> None:
        try:
            line, _ = self._line.accept()
            with line:
                pid, user = peer(line)
                if user != os.getuid():
                    raise PermissionError(f"user {user} is sent away")
                answer = self._decide(pid, read_request(line))
                send_answer(line, answer, self._public.fileno() if answer.has_port and self._public else None)
        except (OSError, ValueError) as error:  # whoever asked is gone, asks something else, or no descriptor is left
            _note(f"nobody was answered: {error}")
            time.sleep(POLL_S)

    def _decide(self, pid: int, request: PortRequest) -> PortAnswer:
        if request.address != self._address:
            self._move_to(request.address)
        if self._trial is not None and self._trial.pid in request.replaced:
            self._settle(self._trial)  # Ray has seen that it runs
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
        self._add(Proxy(pid, has_port=True, has_replicas=has_replicas), request.manager)
        had_it = tuple(other for other in others if self._proxies[other].has_port and not self._proxies[other].retired)
        kept = stand_in(request.configuration) if has_replicas else None
        self._trial = Trial(pid, kept, had_it, time.monotonic())
        _note(f"HAProxy {pid} has the port{'' if has_replicas else ', without replicas'}")
        return PortAnswer(True, others)

    def _add(self, proxy: Proxy, manager: int) -> None:
        if self._living.watch(proxy.pid):
            self._proxies[proxy.pid] = proxy
        if self._living.watch(manager):
            self._managers.add(manager)

    def _forget(self, ended: list[int]) -> None:
        for pid in ended:
            self._managers.discard(pid)
            proxy = self._proxies.pop(pid, None)
            with suppress(ChildProcessError):  # only stand-ins are children
                os.waitpid(pid, os.WNOHANG)
            if proxy is not None and proxy.serves:
                _note(f"HAProxy {pid}, which served, ended")

    def _judge(self) -> None:
        """Settles who has the port, once the newest HAProxy runs or has died over it."""
        trial = self._trial
        if trial is None or self._address is None:
            return
        sockets = listening_at(self._address)
        with_port = {pid for pid in trial.others if pid in self._proxies and has_any(pid, sockets)}
        runs = decide_trial(
            lives=trial.pid in self._proxies, has_taken_over=bool(trial.others) and not with_port,
            age_s=time.monotonic() - trial.since_s,
        )
        if runs:
            self._settle(trial)
        elif runs is False:
            _note(f"HAProxy {trial.pid} died at its start: {sorted(with_port)} serve on")
            self._trial = None
            self._retire(set(self._proxies) - with_port)

    def _settle(self, trial: Trial) -> None:
        self._trial = None
        self._retire(set(self._proxies) - {trial.pid})
        self._keep(trial.configuration)

    def _start_stand_in(self) -> None:
        if time.monotonic() < self._no_stand_in_before:
            return
        self._no_stand_in_before = time.monotonic() + BETWEEN_STAND_INS_S
        self._open()
        assert self._kept is not None
        assert self._public is not None
        process = start_stand_in(self._binary, self._folder, self._kept, self._public.fileno())
        try:
            self._living.watch(process.pid)
        except OSError:
            process.kill()
            process.wait()
            raise
        self._proxies[process.pid] = Proxy(process.pid, has_port=True, has_replicas=True)
        _note(f"stand-in {process.pid} serves")

    def _keep(self, configuration: str | None) -> None:
        self._kept = configuration
        try:
            keep_on_disk(self._folder, configuration)
        except OSError as error:
            _note(f"the next holder would not know what to serve: {error}")

    def _adopt(self) -> None:
        """HAProxies that a holder which was killed left behind: those that listen serve on, on its socket."""
        left = left_behind(self._binary, self._folder)
        for pid in filter(self._living.watch, (*left.listening, *left.others)):
            listens = pid in left.listening
            self._proxies[pid] = Proxy(pid, has_port=listens, has_replicas=listens and left.kept is not None)
            _note(f"found HAProxy {pid}, which {'listens' if listens else 'does not listen'}")
        if left.listening:
            self._address, self._kept = left.address, left.kept

    def _move_to(self, address: str) -> None:
        """What serves at another address is left over from a Serve that was shut down."""
        self._trial = None
        self._retire(set(self._proxies))
        self._keep(None)
        if self._public is not None:
            self._public.close()
        self._address, self._public = address, None

    def _retire(self, pids: set[int]) -> None:
        for pid in pids:
            self._proxies[pid] = replace(self._proxies[pid], retired=True)

    def _open(self) -> None:
        """Raises: OSError: the port is taken by somebody else."""
        if self._public is None and self._address is not None:
            is_ours = any(proxy.has_port for proxy in self._proxies.values())
            self._public = open_public_socket(self._address, is_ours=is_ours)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _note(event: str) -> None:
    with suppress(OSError):  # a full disk takes the note, not the port
        print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), event, flush=True)


def main(folder: Path, binary: str, ray: int) -> None:
    """Returns at once where another holder of the folder runs; else when it listens, while a child of it runs on.

    HAProxies are stopped when the port has no owner left, or on SIGTERM; should the holder fail, they serve on.
    """
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
        holder = PortHolder(folder, binary, ray, line)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with suppress(SystemExit):
            holder.run()
        holder.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
