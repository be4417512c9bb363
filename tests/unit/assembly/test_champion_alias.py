"""The registry's alias follows the traffic without ever holding it up."""

from __future__ import annotations

import threading
import time
from typing import cast

from app.assembly.champion_alias import ChampionAlias
from app.errors import UnknownNameError
from app.models.registry import ModelRegistry

WAIT_S = 10.0


class SlowRegistry:
    """A registry that answers when it is told to, or raises what it is given."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.raises: list[Exception] = []
        self.moved: list[str] = []

    def set_alias(self, name: str, alias: str, version: str) -> None:
        assert (name, alias) == ("shop", "champion")
        assert self.answers.wait(WAIT_S)
        if self.raises:
            raise self.raises.pop(0)
        self.moved.append(version)


def settle(alias: ChampionAlias, champion: str, registry: SlowRegistry, moved: list[str]) -> None:
    deadline = time.monotonic() + WAIT_S
    while registry.moved != moved or registry.raises:
        assert time.monotonic() < deadline, (registry.moved, registry.raises)
        alias.follow(champion)
        time.sleep(0.01)


def test_a_registry_that_is_away_holds_nothing_up_and_is_tried_again() -> None:
    registry = SlowRegistry()
    registry.raises = [ConnectionError("refused")]
    alias = ChampionAlias(cast(ModelRegistry, registry), "shop")
    for _ in range(5):
        alias.follow("1")  # returns, though the registry does not answer
    registry.answers.set()
    settle(alias, "1", registry, ["1"])


def test_the_alias_moves_once_for_each_champion() -> None:
    registry = SlowRegistry()
    registry.answers.set()
    alias = ChampionAlias(cast(ModelRegistry, registry), "shop")
    settle(alias, "1", registry, ["1"])
    for _ in range(20):
        alias.follow("1")
        time.sleep(0.005)
    assert registry.moved == ["1"]
    settle(alias, "2", registry, ["1", "2"])


def test_a_version_that_nobody_registered_is_told_once() -> None:
    registry = SlowRegistry()
    registry.answers.set()
    registry.raises = [UnknownNameError("no version 9")]
    alias = ChampionAlias(cast(ModelRegistry, registry), "shop")
    settle(alias, "9", registry, [])
    for _ in range(20):
        alias.follow("9")
        time.sleep(0.005)
    assert registry.moved == []
    settle(alias, "2", registry, ["2"])
