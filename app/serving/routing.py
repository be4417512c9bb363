"""The durable state of the traffic: numbered routing epochs, and which replicas follow them.

Each change appends the next epoch; nobody changes an epoch that was written. Replicas acknowledge the epoch they
follow and the versions they have loaded, so that a promotion can wait for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from app.clock import Clock, WallClock
from app.errors import StateConflictError, UnknownNameError
from app.foundation.state import StateDatabase
from app.foundation.state import models as m

ACKNOWLEDGEMENT_FRESH_S = 10.0
WAIT_STEP_S = 0.1


@dataclass(frozen=True)
class Route:
    """One routing epoch of a model.

    `weight_percent` of the entity rows go to `candidate`; of the others it is shown `mirror_percent`. `prepare` is a
    version that every champion replica loads beside its own before a promotion.
    """

    model: str
    epoch: int
    champion: str
    candidate: str | None = None
    weight_percent: float = 0.0
    prepare: str | None = None
    rollout_id: str | None = None
    mirror_percent: float = 0.0

    @property
    def salt(self) -> str:
        """What makes the split of one rollout independent of the one before."""
        return self.rollout_id or self.model

    def same_traffic(self, other: Route) -> bool:
        """Whether both mean the same, whatever their epochs."""
        return _meaning(self) == _meaning(other)


@dataclass(frozen=True)
class Acknowledgement:
    """What one live replica said last."""

    replica_id: str
    epoch: int
    loaded: tuple[str, ...]


def candidate_name(model: str) -> str:
    """Under which name the candidate's replicas acknowledge."""
    return f"{model}/candidate"


def needs_champion(route: Route) -> tuple[str, ...]:
    """Without this version a champion's replica cannot adopt the route."""
    return (route.champion,)


def needs_nothing(_: Route) -> tuple[str, ...]:
    """A candidate's replica follows any route."""
    return ()


def wants_prepared(route: Route) -> tuple[str, ...]:
    """What a champion's replica loads beside the champion."""
    return (route.prepare,) if route.prepare is not None else ()


def wants_candidate(route: Route) -> tuple[str, ...]:
    """What a candidate's replica loads."""
    return (route.candidate,) if route.candidate is not None else ()


class RoutingTable:
    """Routing epochs and acknowledgements in the state database. Picklable."""

    def __init__(self, database: StateDatabase, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or WallClock()

    def find(self, model: str) -> Route | None:
        """The newest epoch, or `None` when the model was never deployed."""
        with self._database.session() as session:
            row = session.scalars(
                select(m.RoutingState).where(m.RoutingState.model == model).order_by(m.RoutingState.epoch.desc())
            ).first()
            return None if row is None else _route(row)

    def current(self, model: str) -> Route:
        """The newest epoch.

        Raises:
            UnknownNameError: the model was never deployed.
        """
        route = self.find(model)
        if route is None:
            raise UnknownNameError(f"model {model!r} has no traffic yet. Deploy a champion first.", model=model)
        return route

    def write(
        self,
        model: str,
        expected_epoch: int,
        *,
        champion: str,
        candidate: str | None = None,
        weight_percent: float = 0.0,
        prepare: str | None = None,
        rollout_id: str | None = None,
        mirror_percent: float = 0.0,
        reason: str,
    ) -> Route:
        """Appends epoch `expected_epoch + 1` (0: there is none yet) if nobody else did.

        Raises:
            StateConflictError: the newest epoch is another one.
        """
        row = m.RoutingState(
            model=model, epoch=expected_epoch + 1, champion=champion, candidate=candidate,
            weight_percent=weight_percent, prepare=prepare, rollout_id=rollout_id, reason=reason,
            mirror_percent=mirror_percent,
            written_at=self._clock.now(),
        )
        found = self.find(model)
        newest = 0 if found is None else found.epoch
        if newest != expected_epoch:
            raise _conflict(model, expected_epoch, newest)
        try:
            with self._database.session() as session:
                session.add(row)
        except IntegrityError as error:
            raise _conflict(model, expected_epoch, expected_epoch + 1) from error
        return _route(row)

    def acknowledge(self, name: str, replica_id: str, boot_id: str, epoch: int, loaded: tuple[str, ...]) -> None:
        """Records that a live replica (`boot_id`: this start of it) follows `epoch` and has `loaded` in memory."""
        with self._database.session() as session:
            session.merge(
                m.ReplicaAck(
                    model=name, replica_id=replica_id, boot_id=boot_id, epoch=epoch, loaded=list(loaded),
                    seen_at=self._clock.now(),
                )
            )

    def leave(self, name: str, replica_id: str) -> None:
        """Forgets a replica that stops in an orderly way."""
        with self._database.session() as session:
            session.execute(
                delete(m.ReplicaAck).where(m.ReplicaAck.model == name, m.ReplicaAck.replica_id == replica_id)
            )

    def acknowledgements(self, name: str) -> tuple[Acknowledgement, ...]:
        """The replicas heard of in the last ten seconds."""
        since = self._clock.now() - timedelta(seconds=ACKNOWLEDGEMENT_FRESH_S)
        with self._database.session() as session:
            rows = session.scalars(
                select(m.ReplicaAck).where(m.ReplicaAck.model == name, m.ReplicaAck.seen_at >= since)
            )
            return tuple(Acknowledgement(r.replica_id, r.epoch, tuple(r.loaded)) for r in rows)

    def acknowledged(self, name: str, epoch: int, num_replicas: int, version: str | None = None) -> bool:
        """Whether at least `num_replicas` are alive and all of them follow `epoch` and have `version` loaded."""
        live = self.acknowledgements(name)
        return len(live) >= num_replicas and all(
            a.epoch >= epoch and (version is None or version in a.loaded) for a in live
        )

    def wait_acknowledged(
        self, name: str, epoch: int, num_replicas: int, timeout_s: float, version: str | None = None
    ) -> bool:
        """Waits for `acknowledged`; false when it has not come true within `timeout_s`."""
        deadline = self._clock.now() + timedelta(seconds=timeout_s)
        while not self.acknowledged(name, epoch, num_replicas, version):
            if self._clock.now() >= deadline:
                return False
            self._clock.sleep(WAIT_STEP_S)
        return True


def _meaning(route: Route) -> tuple[object, ...]:
    return (
        route.model, route.champion, route.candidate, route.weight_percent, route.prepare, route.rollout_id,
        route.mirror_percent,
    )


def _route(row: m.RoutingState) -> Route:
    return Route(
        row.model, row.epoch, row.champion, row.candidate, row.weight_percent, row.prepare, row.rollout_id,
        row.mirror_percent,
    )


def _conflict(model: str, expected: int, found: int) -> StateConflictError:
    return StateConflictError(
        f"traffic of model {model!r} stands at epoch {found}, not {expected}: somebody else changed it. "
        "Read it again and decide anew.",
        model=model, expected=expected, found=found,
    )
