"""A host with HAProxies as Ray starts them, from Ray's own configuration template, and replicas that say their name."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from app.serving.haproxy import WRAPPER, serve_environment
from app.settings import Settings

FAKE_RAY = Path(__file__).parent / "fake_ray.py"
WAIT_S = 40.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


@contextmanager
def replica(name: str) -> Iterator[int]:
    """Answers every request with its name; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(name)))
            self.end_headers()
            self.wfile.write(name.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def running_host(settings: Settings) -> Iterator[ProxyHost]:
    """A host whose manager has started its first HAProxy, without replicas."""
    with tempfile.TemporaryDirectory() as folder:  # a short path, for sockets
        host = ProxyHost(settings, Path(folder) / "node", free_port())
        host.start_manager()
        host.start()
        yield host
        host.stop()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(pid), f"{pid} ends")


class ProxyHost:
    """One node of one home. Every process it starts is ended by `stop`."""

    def __init__(self, settings: Settings, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        environment = {**os.environ, **serve_environment(settings)}
        self.raylet = subprocess.Popen(
            [sys.executable, str(FAKE_RAY), "raylet"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment,
        )
        self.manager = 0
        self.haproxy: int | None = None

    def start_manager(self) -> None:
        self.manager = self._tell("manager")
        self.haproxy = None

    def kill_manager(self) -> None:
        os.kill(self.manager, signal.SIGKILL)

    def start(self, *replica_ports: int) -> int:
        """Starts HAProxy anew or, where this manager has one, in its place; waits until it runs, gives its pid."""
        pid = self.start_with(self.configuration(*replica_ports))
        assert psutil.pid_exists(pid), self.log()
        self.haproxy = pid
        return pid

    def start_with(self, configuration: str) -> int:
        """The same with any configuration; waits until it runs or has ended."""
        path = self.folder / "haproxy.cfg"
        path.write_text(configuration)
        command = [str(WRAPPER), "-db", "-f", str(path), "-dR"]
        if self.haproxy is not None:
            command += ["-sf", str(self.haproxy), "-x", str(self.folder / "admin.sock")]
        pid = self._tell(json.dumps({"command": command, "log": str(self.folder / "start.log")}))
        wait_until(lambda: self.answering_pid() == pid or not psutil.pid_exists(pid), "HAProxy runs")
        return pid

    def log(self) -> str:
        """What the newest HAProxy said at its start."""
        return (self.folder / "start.log").read_text()

    def configuration(self, *replica_ports: int) -> str:
        """What Ray would write."""
        configuration = self.folder / "haproxy.cfg"
        servers = [ServerConfig(name=f"r{port}", host="127.0.0.1", port=port) for port in replica_ports]
        api = HAProxyApi(
            HAProxyConfig(
                http_options=HTTPOptions(host="127.0.0.1", port=self.port), is_head=True,
                socket_path=str(self.folder / "admin.sock"), server_state_base=str(self.folder),
                server_state_file=str(self.folder / "server-state"),
                metrics_socket_path=str(self.folder / "metrics.sock"),
            ),
            {"http-app": BackendConfig(name="http-app", path_prefix="/", servers=servers)} if servers else {},
            str(configuration),
        )
        api._generate_config_file_internal()
        return configuration.read_text()

    def answering_pid(self) -> int | None:
        """What `show info` says, as Ray asks."""
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(str(self.folder / "admin.sock"))
                line.sendall(b"show info\n")
                said = b"".join(iter(lambda: line.recv(65_536), b"")).decode()
        except OSError:
            return None
        return next((int(row.split(":")[1]) for row in said.splitlines() if row.startswith("Pid:")), None)

    def ask(self) -> str:
        """What a new connection is answered."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            connection.request("GET", "/", headers={"connection": "close"})
            answer = connection.getresponse()
            said = answer.read().decode()
            return said if answer.status == 200 else f"status {answer.status}"
        finally:
            connection.close()

    def processes(self, word: str) -> list[int]:
        """Living processes with a path of this folder and `word` in their command line."""
        found = []
        for process in psutil.process_iter():
            try:
                line = process.cmdline()
            except psutil.Error:
                continue
            if any(w.startswith(str(self.folder)) for w in line) and any(word in w for w in line):
                found.append(process.pid)
        return found

    def stop(self) -> None:
        self.raylet.kill()
        self.raylet.wait()
        for pid in (self.manager, self.haproxy):
            if pid and psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.processes(""), "all processes end with Ray")

    def _tell(self, line: str) -> int:
        assert self.raylet.stdin is not None
        assert self.raylet.stdout is not None
        self.raylet.stdin.write(line + "\n")
        self.raylet.stdin.flush()
        return int(self.raylet.stdout.readline())


class Asking:
    """Asks over a new connection again and again, in a thread, while it is entered."""

    def __init__(self, host: ProxyHost) -> None:
        self.answers: list[str] = []
        self._host, self._over = host, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.002):
            try:
                self.answers.append(self._host.ask())
            except (OSError, http.client.HTTPException) as error:
                self.answers.append(type(error).__name__)
