"""Fixtures every test may use: settings in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings whose home is a fresh folder."""
    return load_settings({"MILLRACE_HOME": str(tmp_path / "home")}, in_job=False)
