"""Feature reads and pushes in the name of whoever sent the request: their token's scopes and their roles count."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from app.errors import ScopeMissingError
from app.features.store import FeatureStore
from app.foundation.access.scopes import FeatureAct, decide_feature_scope
from app.foundation.access.tokens import Grant
from app.foundation.state import StateDatabase
from app.spec import AccessPolicy, Project
from app.spec.features import FeatureService
from app.spec.references import FeatureReference

MAX_CALLERS = 256


class FeatureCallers:
    """One store's view for each caller; used by the thread that owns the store."""

    def __init__(self, store: FeatureStore, database: StateDatabase) -> None:
        self.own = store
        self._database = database
        self._stores: OrderedDict[str, FeatureStore] = OrderedDict()

    def store_of(self, grant: Grant) -> FeatureStore:
        """The store as the bearer of `grant` may use it; the process's own where no policy tells people apart."""
        if self.own.project.access == AccessPolicy() or grant.principal == self.own.principal:
            return self.own
        found = self._stores.get(grant.principal)
        if found is None:
            found = self._stores[grant.principal] = self.own.acting_as(grant.principal)
            while len(self._stores) > MAX_CALLERS:
                self._stores.popitem(last=False)
        self._stores.move_to_end(grant.principal)
        return found

    def follow_rollbacks(self) -> bool:
        """Reads what was rolled back elsewhere; plans made for callers are made anew."""
        changed = self.own.follow_rollbacks()
        if changed:
            self._stores = OrderedDict()
        return changed


def views_of(features: FeatureService | Iterable[str], project: Project) -> list[str]:
    """Names of the views that a service or references read."""
    written = features.features if isinstance(features, FeatureService) else features
    return list(dict.fromkeys(FeatureReference.parse(text).view for text in written))


def require_feature_scope(grant: Grant, act: FeatureAct, views: Iterable[str], project: Project) -> None:
    """Raises: ScopeMissingError: the token's scopes do not cover one of the views."""
    for name in views:
        tags = project.view(name).tags
        if not decide_feature_scope(grant.scopes, act, tags):
            wanted = f"features:{act}:<tag>"
            raise ScopeMissingError(
                f"token {grant.token_id} may not {act} feature view {name!r}: it lacks the scope {wanted} for one of "
                f"its tags ({', '.join(f'{k}={v}' for k, v in tags.items()) or 'it has none'}), or features:{act}:*.",
                token_id=grant.token_id, scope=wanted, view=name,
            )
