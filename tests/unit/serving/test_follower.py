"""A replica adopts an epoch whole, keeps answering when something fails, and says what it has."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from app.errors import ModelError
from app.foundation.state import StateDatabase
from app.serving import follower as follower_module
from app.serving.follower import RouteFollower
from app.serving.routing import Route, RoutingTable
from app.settings import Settings


class Loader:
    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.broken: set[str] = set()

    def __call__(self, version: str) -> str:
        if version in self.broken:
            raise ValueError(f"version {version} is broken")
        self.loaded.append(version)
        return f"model {version}"


@pytest.fixture
def routing(settings: Settings) -> RoutingTable:
    table = RoutingTable(StateDatabase.open(settings.state_url))
    table.write("m", 0, champion="1", reason="first")
    return table


def follow(routing: RoutingTable, loader: Callable[[str], str], remembered: Path | None = None) -> RouteFollower[str]:
    return RouteFollower(
        routing, model="m", name="m", replica_id="r", essential=lambda r: (r.champion,),
        wanted=lambda r: (r.prepare,) if r.prepare else (), load=loader, remembered=remembered,
    )


def test_prepare_then_switch(routing: RoutingTable) -> None:
    loader = Loader()
    follower = follow(routing, loader)
    follower.poll()
    routing.write("m", 1, champion="1", prepare="2", reason="prepare")
    follower.poll()
    assert routing.acknowledged("m", 2, 1, "2")
    assert follower.state.models == {"1": "model 1", "2": "model 2"}
    routing.write("m", 2, champion="2", reason="switch")
    follower.poll()
    assert follower.state.models == {"2": "model 2"}
    assert loader.loaded == ["1", "2"]
    assert routing.acknowledged("m", 3, 1)


def test_champion_that_cannot_load_leaves_the_old_one_answering(routing: RoutingTable) -> None:
    loader = Loader()
    follower = follow(routing, loader)
    follower.poll()
    loader.broken.add("2")
    routing.write("m", 1, champion="2", reason="without preparing")
    follower.poll()
    assert follower.state.route.champion == "1"
    assert "broken" in follower.state.failed["2"]
    assert not routing.acknowledged("m", 2, 1)


def test_prepared_version_that_fails_is_tried_again(
    routing: RoutingTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "RETRY_LOAD_S", 0.0)
    loader = Loader()
    loader.broken.add("2")
    follower = follow(routing, loader)
    routing.write("m", 1, champion="1", prepare="2", reason="prepare")
    follower.poll()
    assert not routing.acknowledged("m", 2, 1, "2")
    loader.broken.clear()
    follower.poll()
    assert routing.acknowledged("m", 2, 1, "2")


def test_start_without_any_loadable_version(routing: RoutingTable) -> None:
    loader = Loader()
    loader.broken.add("1")
    with pytest.raises(ModelError, match="could be loaded"):
        follow(routing, loader).start()


def test_database_away(routing: RoutingTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remembered = tmp_path / "route.json"
    first = follow(routing, Loader(), remembered)
    first.poll()

    def away(_: str) -> Route:
        raise OperationalError("select", {}, OSError("disk"))

    monkeypatch.setattr(routing, "current", away)
    first.poll()
    assert first.state.stale
    second = follow(routing, Loader(), remembered)
    second.poll()
    assert (second.state.route.champion, second.state.stale) == ("1", True)
    with pytest.raises(OperationalError):
        follow(routing, Loader()).poll()


def test_what_is_looked_at_beside_may_fail_without_ending_the_follower(routing: RoutingTable) -> None:
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        raise OperationalError("SELECT", {}, Exception("gone"))

    follower = RouteFollower(
        routing, model="m", name="m", replica_id="r", essential=lambda r: (r.champion,), wanted=lambda r: (),
        load=Loader(), beside=look,
    )
    follower.poll()
    follower.poll()
    assert (follower.state.route.champion, len(looks)) == ("1", 2)


def held_back(loader: Loader, let_go: threading.Event) -> Callable[[str], str]:
    """Loads version 2 only once it is let go."""

    def load(version: str) -> str:
        if version == "2":
            assert let_go.wait(30)
        return loader(version)

    return load


def test_a_version_that_hangs_in_load_holds_up_nothing_else(
    routing: RoutingTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "PATIENCE_S", 0.05)
    let_go, loader = threading.Event(), Loader()
    follower = follow(routing, held_back(loader, let_go))
    follower.poll()
    routing.write("m", 1, champion="1", prepare="2", reason="prepare")
    follower.poll()
    assert follower.state.route.epoch == 2
    assert "not loaded" in follower.state.failed["2"]
    routing.write("m", 2, champion="1", prepare="3", reason="another one")
    follower.poll()
    assert follower.state.models == {"1": "model 1", "3": "model 3"}
    let_go.set()


def test_a_slow_version_is_taken_once_it_is_loaded(routing: RoutingTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_module, "PATIENCE_S", 0.0)
    let_go, loader = threading.Event(), Loader()
    follower = follow(routing, held_back(loader, let_go))
    follower.poll()
    routing.write("m", 1, champion="1", prepare="2", reason="prepare")
    follower.poll()
    assert "2" not in follower.state.models
    let_go.set()
    monkeypatch.setattr(follower_module, "PATIENCE_S", 30.0)
    follower.poll()
    assert follower.state.models["2"] == "model 2"
    assert loader.loaded == ["1", "2"], "loaded once"


class Waits:
    """A clock and the pauses that were made on it; `stops_after` of them the follower is told to stop."""

    def __init__(self, stops_after: int) -> None:
        self.now_s, self.pauses_s, self._stops_after = 100.0, list[float](), stops_after

    def monotonic(self) -> float:
        return self.now_s

    def wait(self, pause_s: float) -> bool:
        self.pauses_s.append(pause_s)
        self.now_s += pause_s
        return len(self.pauses_s) > self._stops_after


def test_after_a_change_of_epoch_it_looks_more_often_for_a_while(
    routing: RoutingTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = Waits(stops_after=220)
    monkeypatch.setattr(follower_module, "time", waits)
    follower = follow(routing, Loader())
    monkeypatch.setattr(follower, "_stopped", waits)
    follower.poll()
    follower._follow()
    fast = round(follower_module.IN_CHANGE_S / follower_module.POLL_IN_CHANGE_S)
    quick = waits.pauses_s.count(follower_module.POLL_IN_CHANGE_S)
    assert fast <= quick <= fast + 1, "ten seconds of quick looks after the epoch it found first"
    assert set(waits.pauses_s[quick:]) == {follower_module.POLL_S}
    routing.write("m", 1, champion="1", reason="again")
    del waits.pauses_s[:]
    follower._follow()
    assert waits.pauses_s[0] == follower_module.POLL_S
    assert set(waits.pauses_s[1:fast]) == {follower_module.POLL_IN_CHANGE_S}
    assert waits.pauses_s[-1] == follower_module.POLL_S
