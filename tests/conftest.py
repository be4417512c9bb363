"""Fixtures every test may use: settings in an empty folder."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest

from app.settings import Settings, load_settings

# Times are never asserted: a shared machine may stall for longer than any deadline.
hypothesis.settings.register_profile("millrace", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("millrace")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose home is a fresh folder."""
    return load_settings({"MILLRACE_HOME": str(tmp_path / "home")}, in_job=False)
