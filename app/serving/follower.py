"""A replica's view of the traffic: follows the routing table, loads what it needs, says what it has.

A new epoch is adopted whole: first all versions it needs are in memory, then route and models are swapped in one
assignment, then the epoch is acknowledged. When the state database cannot be reached the last known route stays
in force and is reported as stale.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from app.errors import ModelError, UnknownNameError
from app.serving.routing import Route, RoutingTable

LoadedT = TypeVar("LoadedT")
logger = logging.getLogger(__name__)

POLL_S = 0.5
POLL_IN_CHANGE_S = 0.1  # a rollout writes several epochs, and each waits for all replicas
IN_CHANGE_S = 10.0
HEARTBEAT_S = 2.0
RETRY_LOAD_S = 5.0
PATIENCE_S = 10.0  # a replica that has a route goes on without a version that takes longer, until it is there


@dataclass(frozen=True)
class Followed(Generic[LoadedT]):
    """A route and the models in memory for it. `failed`: why a version that is not essential is missing."""

    route: Route
    models: dict[str, LoadedT]
    failed: dict[str, str] = field(default_factory=dict)
    stale: bool = False


class RouteFollower(Generic[LoadedT]):
    """Polls the routing table in a thread of its own.

    Args:
        routing: where epochs come from.
        model: whose traffic is followed.
        name: under which this kind of replica acknowledges.
        replica_id: this replica.
        essential: versions without which a route cannot be adopted.
        wanted: versions to load if possible, beside the essential ones.
        load: makes a version servable.
        remembered: file with the last known route of this host, for a start without the database.
        beside: called at each look while the database can be reached.
        always: called at each look.
    """

    def __init__(
        self,
        routing: RoutingTable,
        *,
        model: str,
        name: str,
        replica_id: str,
        essential: Callable[[Route], tuple[str, ...]],
        wanted: Callable[[Route], tuple[str, ...]],
        load: Callable[[str], LoadedT],
        remembered: Path | None = None,
        beside: Callable[[], None] = lambda: None,
        always: Callable[[], None] = lambda: None,
    ) -> None:
        self._routing = routing
        self._model = model
        self._name = name
        self._replica_id = replica_id
        self._boot_id = uuid.uuid4().hex
        self._essential = essential
        self._wanted = wanted
        self._load = load
        self._remembered = remembered
        self._beside = beside
        self._always = always
        self._loading: dict[str, tuple[Future[LoadedT], float]] = {}
        self._failed_at: dict[str, float] = {}
        self._state: Followed[LoadedT] | None = None
        self._acknowledged_at = 0.0
        self._seen_epoch = -1
        self._changed_at = float("-inf")
        self._stopped = threading.Event()

    @property
    def state(self) -> Followed[LoadedT]:
        """What is in force now.

        Raises:
            UnknownNameError: nothing could be loaded yet.
        """
        if self._state is None:
            raise UnknownNameError(f"model {self._model!r} has no traffic to follow yet.", model=self._model)
        return self._state

    def start(self) -> None:
        """Adopts the current route, then follows in the background.

        Raises:
            UnknownNameError: the model was never deployed.
            ModelError: an essential version cannot be loaded.
        """
        self.poll()
        if self._state is None:
            raise ModelError(f"no version of model {self._model!r} could be loaded: {self._failures()}.")
        threading.Thread(target=self._follow, name="millrace-route", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def poll(self) -> None:
        """Looks once: adopts a new epoch, retries versions that failed, keeps the acknowledgement fresh."""
        route, stale = self._read()
        before = self._state
        if route.epoch != self._seen_epoch:
            self._seen_epoch, self._changed_at = route.epoch, time.monotonic()
        if before is None or before.route.epoch != route.epoch or before.stale != stale or before.failed:
            self._adopt(route, stale)
        if self._state is not None and not stale:
            self._acknowledge(changed=self._state is not before)
        if not stale:
            self._look_beside()

    def _look_beside(self) -> None:
        try:
            self._beside()
        except SQLAlchemyError as error:
            logger.warning("state database cannot be read (%s); what is known stays in force", error)

    def _read(self) -> tuple[Route, bool]:
        try:
            return self._routing.current(self._model), False
        except SQLAlchemyError as error:
            logger.warning("state database cannot be read (%s); keeping the last route", error)
            if self._state is not None:
                return self._state.route, True
            if self._remembered is None or not self._remembered.exists():
                raise
            return Route(**json.loads(self._remembered.read_text())), True

    def _adopt(self, route: Route, stale: bool) -> None:
        held = {} if self._state is None else self._state.models
        models: dict[str, LoadedT] = {}
        failed: dict[str, str] = {}
        essential = self._essential(route)
        wanted = (*essential, *self._wanted(route))
        self._loading = {version: load for version, load in self._loading.items() if version in wanted}
        for version in dict.fromkeys(wanted):
            loaded, error = (held[version], None) if version in held else self._try_load(version)
            if error is None and loaded is not None:
                models[version] = loaded
            else:
                failed[version] = error or "not loaded"
        if all(version in models for version in essential):
            self._state = Followed(route, models, failed, stale)
            if not stale:
                self._remember(route)
        else:
            self._state = self._state and Followed(self._state.route, self._state.models, failed, self._state.stale)

    def _try_load(self, version: str) -> tuple[LoadedT | None, str | None]:
        """Loads in a thread whose failure, whatever it is, is a value here and not the end of the follower.

        Nor may a load that hangs be: it is left in its thread and looked at again. Only a replica that has nothing
        yet waits as long as it takes.
        """
        if time.monotonic() - self._failed_at.get(version, float("-inf")) < RETRY_LOAD_S:
            return None, "failed a moment ago"
        if version not in self._loading:
            self._loading[version] = (_in_thread(self._load, version), time.monotonic())
        future, began = self._loading[version]
        patience_s = max(0.0, began + PATIENCE_S - time.monotonic())
        try:
            error = future.exception(None if self._state is None else patience_s)
        except NotYet:
            return None, f"not loaded after {time.monotonic() - began:.0f} s"
        del self._loading[version]
        if error is None:
            return future.result(), None
        self._failed_at[version] = time.monotonic()
        logger.error("version %s of %s cannot be loaded: %r", version, self._model, error)
        return None, repr(error)

    def _acknowledge(self, *, changed: bool) -> None:
        now = time.monotonic()
        if self._state is None or not (changed or now - self._acknowledged_at >= HEARTBEAT_S):
            return
        try:
            self._routing.acknowledge(
                self._name, self._replica_id, self._boot_id, self._state.route.epoch, tuple(self._state.models)
            )
        except SQLAlchemyError as error:
            logger.warning("acknowledgement could not be written: %s", error)
            return
        self._acknowledged_at = now

    def _remember(self, route: Route) -> None:
        if self._remembered is not None:
            self._remembered.parent.mkdir(parents=True, exist_ok=True)
            draft = self._remembered.with_suffix(f".{self._boot_id}")
            draft.write_text(json.dumps(asdict(route)))
            draft.replace(self._remembered)

    def _failures(self) -> str:
        return ", ".join(self._failed_at) or "see the replica's log"

    def _pause_s(self) -> float:
        return POLL_IN_CHANGE_S if time.monotonic() - self._changed_at < IN_CHANGE_S else POLL_S

    def _follow(self) -> None:
        while not self._stopped.wait(self._pause_s()):
            try:
                self.poll()
            except UnknownNameError as error:
                logger.error("%s", error.message)
            self._always()


def _in_thread(load: Callable[[str], LoadedT], version: str) -> Future[LoadedT]:
    """A thread of its own for each version: one that hangs holds up no other, nor the end of the process."""
    future: Future[LoadedT] = Future()

    def run() -> None:
        try:
            future.set_result(load(version))
        except BaseException as error:  # noqa: BLE001 whatever it is, it is the load's result
            future.set_exception(error)

    threading.Thread(target=run, name=f"millrace-load-{version}", daemon=True).start()
    return future
