"""Databases that cannot be reached: one error that names the store and says what to do, without its password."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import StoreUnavailableError
from app.features.store import FeatureStore
from app.settings import load_settings
from tests.unit.features import shop

NOWHERE = "postgresql+psycopg2://millrace:secret@127.0.0.1:9/tables"  # port 9 refuses


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("MILLRACE_CATALOG_URL", "cannot open the catalog of tables at .*127.0.0.1:9.*set MILLRACE_CATALOG_URL"),
        ("MILLRACE_STATE_URL", "cannot open the control state at .*127.0.0.1:9.*set MILLRACE_STATE_URL"),
    ],
)
def test_a_database_that_is_down_is_named(tmp_path: Path, variable: str, message: str) -> None:
    settings = load_settings({"MILLRACE_HOME": str(tmp_path), variable: NOWHERE}, in_job=False)
    with pytest.raises(StoreUnavailableError, match=f"(?s){message}") as refused:
        store = FeatureStore(shop.PROJECT, settings)
        store.apply()
        store.push("price", shop.prices_frame(), to="offline")
    assert "secret" not in str(refused.value)
