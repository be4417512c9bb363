"""Real HAProxies behind a port that is held: what clients see when one is killed, and that nothing is left behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.settings import Settings
from tests.unit.serving.proxy_host import Asking, ProxyHost, kill, replica, running_host, wait_until

STAND_IN = "stand-in"


@pytest.fixture
def host(settings: Settings) -> Iterator[ProxyHost]:
    with running_host(settings) as started:
        yield started


def test_before_an_application_is_there_the_answer_is_404(host: ProxyHost) -> None:
    assert host.ask() == "status 404"


def test_a_killed_haproxy_is_stood_in_for_until_ray_has_another_one(host: ProxyHost) -> None:
    with replica("a") as a, replica("b") as b:
        host.start(a)
        with Asking(host) as asking:
            wait_until(lambda: len(asking.answers) > 20, "answers")
            kill(host.start(a))
            wait_until(lambda: bool(host.processes(STAND_IN)), "a stand-in")
            seen = len(asking.answers)
            wait_until(lambda: len(asking.answers) > seen + 20, "answers of the stand-in")
            assert host.answering_pid() is None, "Ray must see that its HAProxy is gone"
            host.kill_manager()
            host.start_manager()
            host.start()
            assert host.ask() == "a", "a HAProxy that knows no replicas takes nothing from the stand-in"
            host.start(b)
            wait_until(lambda: host.ask() == "b", "the new HAProxy serves")
            wait_until(lambda: not host.processes(STAND_IN), "the stand-in ends")
    assert len([answer for answer in asking.answers if answer not in ("a", "b")]) <= 1, "the one under way"


def test_haproxy_serves_on_when_its_manager_is_killed(host: ProxyHost) -> None:
    with replica("a") as a, replica("b") as b:
        orphan = host.start(a)
        with Asking(host) as asking:
            host.kill_manager()
            host.start_manager()
            host.start()
            assert host.ask() == "a"
            host.start(b)
            wait_until(lambda: host.ask() == "b", "the new HAProxy serves")
            wait_until(lambda: not psutil.pid_exists(orphan), "the orphan ends")
    assert set(asking.answers) <= {"a", "b"}


def test_a_killed_stand_in_is_replaced(host: ProxyHost) -> None:
    with replica("a") as a:
        kill(host.start(a))
        wait_until(lambda: bool(host.processes(STAND_IN)), "a stand-in")
        first = host.processes(STAND_IN)
        kill(first[0])
        assert host.ask() == "a"
        assert host.processes(STAND_IN) != first


def test_an_application_that_is_deleted_is_not_stood_in_for(host: ProxyHost) -> None:
    with replica("a") as a:
        host.start(a)
        kill(host.start())
        host.start_manager()
        host.start()
        assert host.ask() == "status 404"
        assert not host.processes(STAND_IN)


def test_a_killed_holder_is_replaced(host: ProxyHost) -> None:
    with replica("a") as a, replica("b") as b:
        host.start(a)
        kill(host.processes("port_holder")[0])
        assert host.ask() == "a"
        host.start(b)
        wait_until(lambda: host.ask() == "b", "the new HAProxy serves")
        kill(host.start(b))
        wait_until(lambda: host.ask() == "b", "a stand-in of the new holder")


def test_nothing_outlives_ray(host: ProxyHost) -> None:
    with replica("a") as a:
        host.start(a)
        kill(host.start(a))
        wait_until(lambda: bool(host.processes(STAND_IN)), "a stand-in")
        host.raylet.kill()
        host.raylet.wait()
        wait_until(lambda: not host.processes(""), "all end")
    with pytest.raises(ConnectionRefusedError):
        host.ask()


def test_nothing_outlives_serve(host: ProxyHost) -> None:
    """Ray lives on, but it ended its manager, its HAProxy and the replicas."""
    with replica("a") as a:
        host.start(a)
        kill(host.start(a))
        host.kill_manager()
    wait_until(lambda: not host.processes(""), "all end")
    with pytest.raises(ConnectionRefusedError):
        host.ask()


def test_a_port_that_another_home_holds_is_not_shared(host: ProxyHost, settings: Settings) -> None:
    with tempfile.TemporaryDirectory() as folder, replica("a") as a:
        host.start(a)
        other = ProxyHost(settings, Path(folder) / "node", host.port)
        other.start_manager()
        with pytest.raises(AssertionError, match=f"cannot listen at 127.0.0.1:{host.port}: Address already in use"):
            other.start()
        other.stop()
        assert host.ask() == "a"
