"""How many workers a run goes on with: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PATIENCE_S = 10.0  # a node that is back within this time is waited for


@dataclass(frozen=True)
class Seen:
    """What the supervisor sees. `room`: workers that all live nodes could hold; `since_s`: how long it has been so."""

    running: int
    room: int
    since_s: float
    checkpointed: bool  # whether this attempt has stored a checkpoint, so that growing loses little


def decide_workers(possible: Sequence[int], seen: Seen) -> int:
    """The number of workers to go on with; `seen.running` where nothing is to change.

    Args:
        possible: numbers that can share the batch evenly, largest first.
        seen: the state of the run and the cluster.

    >>> decide_workers([2, 1], Seen(running=2, room=1, since_s=30.0, checkpointed=False))
    1
    >>> decide_workers([2, 1], Seen(running=1, room=2, since_s=30.0, checkpointed=True))
    2
    """
    if seen.since_s < PATIENCE_S:
        return seen.running
    best = next((n for n in possible if n <= seen.room), None)
    if best is None or (best > seen.running and not seen.checkpointed):
        return seen.running
    return best
