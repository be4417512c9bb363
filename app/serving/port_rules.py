"""Which HAProxy of a host has the public port: the rules, without the processes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

UNMANAGED_S = 60.0  # Ray needs some 6 s to start a killed manager anew
SURVIVED_S = 2.0


@dataclass(frozen=True)
class Proxy:
    """A living HAProxy of one home and node.

    Attributes:
        has_port: it was given the public port; else it waits for its replicas on a socket of its own.
        has_replicas: its configuration names some.
        retired: another one was started in its place; it answers what it was asked and ends.
    """

    pid: int
    has_port: bool
    has_replicas: bool
    retired: bool = False

    @property
    def serves(self) -> bool:
        return self.has_port and self.has_replicas and not self.retired


@dataclass(frozen=True)
class Trial:
    """A HAProxy that was given the port and may yet die at its start.

    Attributes:
        configuration: to be kept once it runs; `None`: it names no replicas.
        others: those that had the port before it.
        since_s: of the monotonic clock.
    """

    pid: int
    configuration: str | None
    others: tuple[int, ...]
    since_s: float


def decide_has_port(has_replicas: bool, replaced: Collection[int], living: Iterable[Proxy]) -> bool:
    """Whether a HAProxy that starts now gets the public port.

    One that knows no replicas would answer 404, so it gets the port only where it takes nothing from one that serves.
    Ray's new one begins so after a kill, beside a stand-in, or beside its predecessor when Ray's manager was killed.

    Args:
        replaced: those that Ray stops in its favour. Where Ray replaces the one that serves, its project is gone.
    """
    return has_replicas or not any(proxy.serves and proxy.pid not in replaced for proxy in living)


def decide_stand_in(living: Iterable[Proxy], is_known: bool) -> bool:
    """Whether nobody serves although it is known with which replicas."""
    return is_known and not any(proxy.serves for proxy in living)


def decide_trial(*, lives: bool, has_taken_over: bool, age_s: float) -> bool | None:
    """Whether a new HAProxy has the port for good; `None`: it is too early to say.

    Args:
        has_taken_over: those that had the port before it have let it go, which it tells them once it runs.
    """
    if has_taken_over or age_s >= SURVIVED_S:
        return True
    return None if lives else False


def decide_leave(
    *, has_ray: bool, has_manager: bool, has_proxy: bool, has_replica: bool, unmanaged_s: float = 0.0
) -> bool:
    """Whether the port has no owner left: Ray has ended, or Serve has, which takes its managers and replicas along.

    Args:
        has_replica: one of any node accepts, so it says nothing of this node: a drained one has no manager again.
        unmanaged_s: since when there is no manager.
    """
    if not has_ray:
        return True
    return not has_manager and (not (has_proxy and has_replica) or unmanaged_s > UNMANAGED_S)
