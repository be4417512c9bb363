"""Whether a policy lets a principal do something. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from app.spec.policies import AccessAction, AccessPolicy, Role

ANY = "*"


def decide_access(
    policy: AccessPolicy, principal: str, action: AccessAction, view: str | None, tags: Mapping[str, str]
) -> bool:
    """Whether `principal` may do `action` to `view` (`None`: to what is no view), which carries `tags`.

    >>> policy = AccessPolicy(roles=(Role("analyst", ("ann",), ("read",), views=("price",)),))
    >>> [decide_access(policy, "ann", action, "price", {}) for action in ("read", "push")]
    [True, False]
    >>> decide_access(AccessPolicy(), "anybody", "delete", "price", {})
    True
    """
    listed = short_form(policy, action)
    if not policy.roles and not listed:
        return True
    return principal in listed or any(
        allows(role, action, view, tags) and not {principal, ANY}.isdisjoint(role.principals) for role in policy.roles
    )


def short_form(policy: AccessPolicy, action: AccessAction) -> tuple[str, ...]:
    """Who the policy's lists name for an action."""
    if action == "read":
        return ()
    return policy.pii_readers if action == "read_pii" else policy.writers


def allows(role: Role, action: AccessAction, view: str | None, tags: Mapping[str, str]) -> bool:
    """Whether a role is about this action and this view. What is no view needs a role for all views."""
    covered = ANY in role.views or (view is not None and view in role.views)
    return action in role.actions and covered and all(tags.get(k) == v for k, v in role.tags.items())
