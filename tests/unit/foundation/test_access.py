"""Access policy: each action allowed and denied; denials are raised and audited."""

from __future__ import annotations

from typing import get_args

import pytest
import sqlalchemy as sa

from app.errors import AccessDeniedError
from app.foundation.access import AccessControl, decide_access
from app.foundation.state import StateDatabase
from app.foundation.state import models as m
from app.settings import Settings, load_settings
from app.spec import AccessPolicy, Role
from app.spec.policies import AccessAction

ACTIONS: tuple[AccessAction, ...] = get_args(AccessAction)


@pytest.mark.parametrize("action", ACTIONS)
def test_an_empty_policy_lets_everybody(action: AccessAction) -> None:
    assert decide_access(AccessPolicy(), "anybody", action, "customers", {})


@pytest.mark.parametrize("action", ACTIONS)
def test_a_role_allows_its_actions_to_its_principals_and_nothing_else(action: AccessAction) -> None:
    policy = AccessPolicy(roles=(Role("one", ("ann",), (action,)),))
    assert decide_access(policy, "ann", action, "customers", {})
    assert not decide_access(policy, "bob", action, "customers", {})
    assert [a for a in ACTIONS if decide_access(policy, "ann", a, "customers", {})] == [action]


@pytest.mark.parametrize("action", ACTIONS)
def test_short_forms_name_who_may_read_personal_data_and_who_may_write(action: AccessAction) -> None:
    policy = AccessPolicy(pii_readers=("ann",), writers=("bob",))
    allowed = [who for who in ("ann", "bob", "eve") if decide_access(policy, who, action, "customers", {})]
    assert allowed == {"read": ["ann", "bob", "eve"], "read_pii": ["ann"]}.get(action, ["bob"])


def test_roles_cover_views_and_tags() -> None:
    policy = AccessPolicy(
        roles=(Role("shop", ("*",), ("read",), views=("price",)), Role("risk", ("ann",), ("read",), tags={"team": "r"}))
    )
    assert decide_access(policy, "anybody", "read", "price", {})
    assert not decide_access(policy, "anybody", "read", "turnover", {"team": "r"})
    assert decide_access(policy, "ann", "read", "turnover", {"team": "r"})
    assert not decide_access(policy, "ann", "read", "turnover", {"team": "other"})
    assert not decide_access(policy, "anybody", "read", None, {})


def test_a_denial_names_who_what_and_which_fields_and_is_audited(settings: Settings) -> None:
    database = StateDatabase.open(settings.state_url)
    policy = AccessPolicy(pii_readers=("ann",), roles=(Role("support", ("joe",), ("read_pii",)),))
    control = AccessControl(policy, "bob", database, "shop")
    with pytest.raises(AccessDeniedError) as caught:
        control.require("read_pii", "feature view 'customers'", view="customers", fields=("mail", "name"))
    assert str(caught.value).startswith(
        "'bob' may not read personal data of feature view 'customers' (field mail, name): "
        "the right 'read_pii' here is with ann, role support."
    )
    assert (caught.value.code, caught.value.http_status) == ("access_denied", 403)
    with database.session() as session:
        (kept,) = session.scalars(sa.select(m.Decision))
    assert (kept.actor, kept.subject, kept.decision) == ("bob", "feature view 'customers'", "denied")
    assert kept.detail == {"project": "shop", "action": "read_pii", "view": "customers", "fields": ["mail", "name"]}


def test_what_is_allowed_leaves_no_trace(settings: Settings) -> None:
    database = StateDatabase.open(settings.state_url)
    AccessControl(AccessPolicy(writers=("bob",)), "bob", database, "shop").require("push", "feature view 'price'")
    with database.session() as session:
        assert session.scalars(sa.select(m.Decision)).all() == []


def test_the_principal_is_the_setting_or_the_user_of_the_system() -> None:
    assert load_settings({"MILLRACE_PRINCIPAL": "ann"}, in_job=False).principal == "ann"
    by_system = load_settings({}, in_job=False).principal
    assert by_system == load_settings({"USER": "somebody-else"}, in_job=False).principal != ""
