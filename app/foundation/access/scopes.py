"""What a token may be used for. Pure.

| scope | lets its bearer |
|---|---|
| `predict` | ask for predictions, `/v1/predict` and `/v2/...` |
| `labels` | send true outcomes |
| `features:read:<tag>` | read online features of the views that carry the tag |
| `features:push:<tag>` | push rows to the views that carry the tag |
| `rollout` | start, pause, promote and abort rollouts |
| `admin` | everything |

A tag is a view's tag by name (`team`) or by name and value (`team=pricing`); `*` stands for every view.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from app.errors import SettingsError

ADMIN, PREDICT, LABELS, ROLLOUT = "admin", "predict", "labels", "rollout"
PLAIN = (PREDICT, LABELS, ROLLOUT, ADMIN)
FeatureAct = Literal["read", "push"]
_OF_FEATURES = re.compile(r"features:(read|push):(\*|[^\s:,]+)")


def check_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """The scopes, each once.

    Raises:
        SettingsError: none was given, or one that does not exist.

    >>> check_scopes(["predict", "features:read:team=pricing", "predict"])
    ('predict', 'features:read:team=pricing')
    """
    found = tuple(dict.fromkeys(scopes))
    for scope in found:
        if scope not in PLAIN and not _OF_FEATURES.fullmatch(scope):
            raise SettingsError(
                f"there is no scope {scope!r}; expected {', '.join(PLAIN)}, features:read:<tag> or "
                "features:push:<tag>, where <tag> is a view's tag such as team or team=pricing, or * for every view.",
                scope=scope,
            )
    if not found:
        raise SettingsError(f"a token needs a scope: {', '.join(PLAIN)}, features:read:<tag> or features:push:<tag>.")
    return found


def decide_scope(scopes: Collection[str], wanted: str) -> bool:
    """Whether a token with `scopes` may do what needs `wanted`.

    >>> decide_scope({"predict"}, "predict"), decide_scope({"predict"}, "labels"), decide_scope({"admin"}, "labels")
    (True, False, True)
    """
    return wanted in scopes or ADMIN in scopes


def decide_feature_scope(scopes: Collection[str], act: FeatureAct, tags: Mapping[str, str]) -> bool:
    """Whether a token with `scopes` may do `act` to a view that carries `tags`.

    >>> decide_feature_scope({"features:read:team"}, "read", {"team": "pricing"})
    True
    >>> decide_feature_scope({"features:read:team=ops"}, "read", {"team": "pricing"})
    False
    >>> decide_feature_scope({"features:read:*"}, "push", {})
    False
    """
    if ADMIN in scopes or f"features:{act}:*" in scopes:
        return True
    return any(f"features:{act}:{k}" in scopes or f"features:{act}:{k}={v}" in scopes for k, v in tags.items())
