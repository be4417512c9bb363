"""Access policy: denials are raised and audited."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from app.errors import FeatureStoreError
from app.foundation.access import require_role
from app.foundation.state import StateDatabase
from app.foundation.state import models as m
from app.settings import Settings
from app.spec import AccessPolicy

POLICY = AccessPolicy(pii_readers=("ann",))


def test_a_denial_names_who_and_what_and_is_audited(settings: Settings) -> None:
    database = StateDatabase.open(settings.state_url)
    with pytest.raises(FeatureStoreError, match="'bob' may not read pii 'customers'"):
        require_role(POLICY, "bob", "read_pii", "customers", database)
    with database.session() as session:
        assert session.scalars(sa.select(m.Decision.actor)).all() == ["bob"]


@pytest.mark.parametrize(("principal", "action"), [("ann", "read_pii"), ("bob", "write")])
def test_who_is_named_or_nobody_named_passes(settings: Settings, principal: str, action: str) -> None:
    require_role(POLICY, principal, action, "customers", StateDatabase.open(settings.state_url))  # type: ignore[arg-type]
