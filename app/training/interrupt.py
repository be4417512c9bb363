"""Ends a Ray Train run whole: its controller, and the placement groups it asked for.

Ray Train 2.60's controller does not yield while it waits for CPUs, so an abort never reaches it, and its cleaner learns
of a group only once that is placed. Ray itself keeps a group until the job that made it ends: it would take the first
free CPUs and give them to no one.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import ray
from ray._private.state import state
from ray.actor import ActorHandle
from ray.core.generated.gcs_pb2 import PlacementGroupTableData  # type: ignore[attr-defined]
from ray.train.torch import TorchTrainer
from ray.util.placement_group import PlacementGroup, remove_placement_group

ABORT_S = 2.0
LOOK_S = 0.2


class InterruptibleTrainer(TorchTrainer):
    """A `TorchTrainer` that the SIGINT of `ray.cancel` ends in any state: its own handler only asks for an abort."""

    def _register_sigint_handler(self, controller: ActorHandle[Any]) -> None:
        def end(*_: object) -> None:
            controller.abort.remote()
            time.sleep(ABORT_S)  # in a cancelled task `ray.wait` raises at once
            ray.kill(controller)
            raise KeyboardInterrupt

        signal.signal(signal.SIGINT, end)


def remove_orphaned_groups(patience_s: float) -> None:
    """Removes this job's groups whose maker is dead, waiting so long for the first."""
    until_s = time.monotonic() + patience_s
    while True:
        orphans = list(_orphaned_groups())
        for group in orphans:
            remove_placement_group(group)
        if orphans or time.monotonic() > until_s:
            return
        time.sleep(LOOK_S)


def _orphaned_groups() -> Iterator[PlacementGroup]:
    """By the head's own table: the public one does not say who made a group."""
    job = bytes.fromhex(ray.get_runtime_context().get_job_id())
    for raw in state._connect_and_get_accessor().get_placement_group_table():
        told = PlacementGroupTableData.FromString(raw)
        removed = told.state == PlacementGroupTableData.REMOVED
        if told.creator_job_id == job and told.creator_actor_dead and not told.is_detached and not removed:
            yield PlacementGroup(ray.PlacementGroupID(told.placement_group_id))
