"""Which HAProxy has the public port, and when the port is given up."""

from __future__ import annotations

import pytest

from app.serving.port_rules import Proxy, decide_has_port, decide_leave, decide_stand_in, decide_trial

SERVING = Proxy(1, has_port=True, has_replicas=True)
RETIRED = Proxy(2, has_port=True, has_replicas=True, retired=True)
EMPTY = Proxy(3, has_port=True, has_replicas=False)
WAITING = Proxy(4, has_port=False, has_replicas=False)


@pytest.mark.parametrize(
    ("has_replicas", "replaced", "living", "expected"),
    [
        (False, [], [], True),  # the first of a host
        (False, [], [SERVING], False),  # Ray begins anew beside a stand-in
        (True, [], [SERVING], True),
        (False, [4], [WAITING, SERVING], False),  # and has not heard of its replicas yet
        (True, [4], [WAITING, SERVING], True),
        (False, [1], [SERVING], True),  # the application is deleted
        (False, [], [RETIRED, EMPTY], True),  # none of which serves
    ],
)
def test_who_has_the_port(has_replicas: bool, replaced: list[int], living: list[Proxy], expected: bool) -> None:
    assert decide_has_port(has_replicas, replaced, living) is expected


@pytest.mark.parametrize(
    ("living", "is_known", "expected"),
    [
        ([SERVING], True, False),
        ([], True, True),
        ([RETIRED, EMPTY, WAITING], True, True),
        ([], False, False),  # no replicas were ever known, or their application is deleted
    ],
)
def test_when_a_stand_in_starts(living: list[Proxy], is_known: bool, expected: bool) -> None:
    assert decide_stand_in(living, is_known) is expected


@pytest.mark.parametrize(
    ("has_ray", "has_manager", "has_proxy", "has_replica", "expected"),
    [
        (False, True, True, True, True),
        (True, True, False, False, False),  # between two applications
        (True, False, True, True, False),  # the manager was killed and comes again
        (True, False, True, False, True),  # Serve was shut down
        (True, False, False, True, True),
    ],
)
def test_when_the_port_is_given_up(
    has_ray: bool, has_manager: bool, has_proxy: bool, has_replica: bool, expected: bool
) -> None:
    leaves = decide_leave(has_ray=has_ray, has_manager=has_manager, has_proxy=has_proxy, has_replica=has_replica)
    assert leaves is expected


def test_a_node_whose_manager_does_not_come_again_is_given_up() -> None:
    others = {"has_ray": True, "has_proxy": True, "has_replica": True}
    assert decide_leave(**others, has_manager=False, unmanaged_s=61)
    assert not decide_leave(**others, has_manager=False, unmanaged_s=59)
    assert not decide_leave(**others, has_manager=True, unmanaged_s=61)


@pytest.mark.parametrize(
    ("lives", "has_taken_over", "age_s", "expected"),
    [
        (True, False, 0.1, None),
        (False, False, 0.1, False),  # died at its start
        (True, True, 0.1, True),
        (False, True, 0.1, True),  # ran, then was killed
        (True, False, 5.0, True),  # the first, or those before it do not let go
    ],
)
def test_when_a_new_haproxy_counts(lives: bool, has_taken_over: bool, age_s: float, expected: bool | None) -> None:
    assert decide_trial(lives=lives, has_taken_over=has_taken_over, age_s=age_s) is expected
