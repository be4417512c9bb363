"""The world that rollouts of these tests happen in."""

from __future__ import annotations

import pytest

from app.settings import Settings
from tests.unit.rollout.world import World


@pytest.fixture
def world(settings: Settings) -> World:
    return World(settings)
