"""Which HAProxy of a host has the public port: the rules, without the processes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass


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


def decide_leave(*, has_ray: bool, has_manager: bool, has_proxy: bool, has_replica: bool) -> bool:
    """Whether the port has no owner left: Ray has ended, or Serve has, which takes its managers and replicas along."""
    return not has_ray or not (has_manager or (has_proxy and has_replica))
