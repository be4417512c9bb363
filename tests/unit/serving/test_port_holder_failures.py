"""What goes wrong around the holder of the port must not take the HAProxy that serves along."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.serving import port_holder, port_rules
from app.serving.haproxy import serve_environment
from app.serving.port_holder import PortHolder
from app.serving.port_request import SOCKET, PortRequest, ask
from app.settings import Settings
from tests.unit.serving.proxy_host import ProxyHost, free_port, kill, replica, running_host, wait_until
from tests.unit.serving.sleeper import SLEEPER

STAND_IN = "stand-in"
WHOLE = {"manager": 1, "address": "127.0.0.1:8000", "replaced": [], "configuration": ""}
MALFORMED = [
    b"{}\n", b"[]\n", b"no JSON\n", b"\xff\n",
    *(json.dumps({**WHOLE, **wrong}).encode() + b"\n" for wrong in (
        {"manager": "1"}, {"manager": 2**40}, {"address": "nowhere"}, {"address": "x:99999"}, {"replaced": 3},
    )),
]


@pytest.fixture
def host(settings: Settings) -> Iterator[ProxyHost]:
    with running_host(settings) as started:
        yield started


def holder_of(host: ProxyHost) -> int:
    return host.processes("port_holder")[0]


def test_malformed_requests_are_sent_away(host: ProxyHost) -> None:
    with replica("a") as a, replica("b") as b:
        host.start(a)
        holder = holder_of(host)
        for request in MALFORMED:
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(str(host.folder / SOCKET))
                line.sendall(request)
                assert line.recv(100) == b"", request
        assert host.ask() == "a"
        host.start(b)
        assert holder_of(host) == holder


def test_a_stand_in_that_cannot_be_started_is_tried_again(host: ProxyHost) -> None:
    with replica("a") as a:
        host.start(a)
        wait_until((host.folder / STAND_IN / "haproxy.cfg").exists, "the configuration is kept")
        log = host.folder / STAND_IN / "haproxy.log"
        log.mkdir()  # opening it fails
        kill(host.start(a))
        wait_until(lambda: "tried again" in (host.folder / "holder.log").read_text(), "a start that fails")
        log.rmdir()
        assert host.ask() == "a"
        assert host.processes(STAND_IN)


def test_a_holder_that_is_told_to_end_takes_its_haproxies_along(host: ProxyHost) -> None:
    with replica("a") as a:
        host.start(a)
        os.kill(holder_of(host), signal.SIGTERM)
        wait_until(lambda: not host.processes(""), "all end")


def test_an_error_that_nobody_expected_leaves_haproxy_alone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_host(settings) as host, replica("a") as a:
        host.start(a)
        kill(holder_of(host))
        sleeper = subprocess.Popen(SLEEPER)

        def fail(_: PortHolder) -> None:
            raise KeyError("unexpected")

        monkeypatch.setattr(PortHolder, "run", fail)
        monkeypatch.setattr(os, "fork", lambda: 0)
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(KeyError, match="unexpected"):
                port_holder.main(host.folder, serve_environment(settings)["MILLRACE_HAPROXY_BINARY"], sleeper.pid)
            assert host.ask() == "a"
        finally:
            signal.signal(signal.SIGTERM, handler)
            sleeper.kill()
            sleeper.wait()
        host.start(a)  # the next holder is started and takes over
        assert host.processes("port_holder")


def test_a_haproxy_that_dies_at_its_start_replaces_nobody(host: ProxyHost) -> None:
    with replica("a") as a, replica("b") as b:
        serving = host.start(a)
        broken = host.configuration(b) + "\nno such section\n"
        assert not psutil.pid_exists(host.start_with(broken))
        wait_until(lambda: "died at its start" in (host.folder / "holder.log").read_text(), "it is noted")
        assert psutil.pid_exists(serving)
        assert host.ask() == "a"
        assert not host.processes(STAND_IN), "the one that served still counts"
        kill(serving)
        assert host.ask() == "a", "a stand-in with the configuration that ran"


def test_a_new_haproxy_that_ran_is_stood_in_for_with_what_it_knew(host: ProxyHost) -> None:
    """Though it is killed at once: those before it have let the port go."""
    with replica("a") as a, replica("b") as b:
        host.start(a)
        kill(host.start(b))
        wait_until(lambda: host.ask() == "b", "a stand-in")


def test_of_haproxies_left_behind_only_those_that_listen_serve(host: ProxyHost) -> None:
    with replica("a") as a, replica("b") as b:
        draining = host.start(a)
        with socket.create_connection(("127.0.0.1", host.port)) as under_way:
            under_way.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n")
            serving = host.start(a)
            kill(holder_of(host))
            kill(serving)
            assert psutil.pid_exists(draining)
            host.start_manager()
            host.start_with(host.configuration())  # knows no replicas: given the port, for nobody serves
            log = (host.folder / "holder.log").read_text()
            assert f"found HAProxy {draining}, which does not listen" in log
            host.start(b)
        wait_until(lambda: host.ask() == "b", "the new HAProxy serves")


def test_a_holder_without_a_manager_leaves_though_replicas_of_other_nodes_answer(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where Ray drains a node: it kills HAProxy, then its manager, and the replicas elsewhere live on."""
    monkeypatch.setattr(port_rules, "UNMANAGED_S", 0.5)
    monkeypatch.setattr(port_holder, "LEAVE_AFTER_S", 0.5)
    binary = serve_environment(settings)["MILLRACE_HAPROXY_BINARY"]
    sleepers = [subprocess.Popen(SLEEPER) for _ in range(2)]
    ray, manager = sleepers
    with tempfile.TemporaryDirectory() as folder, replica("elsewhere") as port, socket.socket(socket.AF_UNIX) as line:
        line.bind(str(Path(folder) / SOCKET))
        line.listen()
        address = f"127.0.0.1:{free_port()}"
        configuration = f"backend app\n  server r 127.0.0.1:{port} check\n"
        holder = PortHolder(Path(folder), binary, ray.pid, line)
        given_up = threading.Timer(20, ray.kill)

        def be_drained() -> None:
            answer, descriptor = ask(Path(folder), PortRequest(manager.pid, address, (), configuration))
            assert answer.has_port
            assert descriptor is not None
            os.close(descriptor)
            wait_until((Path(folder) / STAND_IN / "haproxy.cfg").exists, "its replicas are known")
            manager.kill()

        drain = threading.Thread(target=be_drained)
        try:
            given_up.start()
            drain.start()
            holder.run()  # this process counts as the HAProxy
            drain.join()
            assert ray.poll() is None, "the holder left before its Ray did"
            assert port_holder.servers((Path(folder) / STAND_IN / "haproxy.cfg").read_text()) == [("127.0.0.1", port)]
        finally:
            given_up.cancel()
            for process in sleepers:
                process.kill()
                process.wait()
