"""Reading features: training sets and online answers of one principal, each way of asking made ready once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Self

from app.clock import as_utc
from app.features.access import require_read
from app.features.governed import GovernedDefinitions
from app.features.historical import HistoricalFeatures, read_historical
from app.features.online import OnlineStore
from app.features.online_read import OnlineReader
from app.features.point_in_time import EVENT
from app.features.references import ReadPlan, plan_read
from app.features.spine import open_spine
from app.foundation.access import AccessControl
from app.foundation.lake import Lake
from app.foundation.state import StateDatabase
from app.spec import Project
from app.spec.features import FeatureService

PLANS_KEPT = 256  # ways of asking: clients say which features they want
Features = Sequence[str] | FeatureService


class FeatureReads(GovernedDefinitions):
    """Reads of one project's features, offline and online."""

    def __init__(
        self, project: Project, lake: Lake, database: StateDatabase, principal: str, online: OnlineStore
    ) -> None:
        super().__init__(project, lake, database, principal)
        self._online = online
        self._plan_of = lru_cache(PLANS_KEPT)(self._plan)
        self._reader_of = lru_cache(PLANS_KEPT)(self._reader)

    def get_historical_features(
        self, entity_df: Any, features: Features, full_feature_names: bool = False, as_of: datetime | None = None,
        pinned: Mapping[str, Any] | None = None,
    ) -> HistoricalFeatures:
        """Features of each row of `entity_df` as they could be known at its `event_timestamp`.

        Args:
            entity_df: pandas or polars frame, Arrow table or Ray Dataset with join keys and `event_timestamp`.
            features: references (`"view:feature"`; all forms in `app.spec.references`), or a service.
            full_feature_names: name the columns `view__feature`.
            as_of: only rows that our system had written by then exist.
            pinned: the manifest of an earlier read; the same versions and snapshots are read again, whatever has been
                written or registered since.

        Returns:
            The same rows in the same order with the same columns, features added.

        Raises:
            UnknownNameError: a view, version, feature or join key that does not exist, or a snapshot that is gone.
            MissingColumnError: a join key or `event_timestamp` is missing.
            SchemaMismatchError, TimestampError: a join key or moment of another type.
            FeatureStoreError: two columns of one name.
        """
        spine = open_spine(entity_df)
        if pinned is None:
            plan = self._plan_of(_hashable(features), full_feature_names, tuple(spine.column_names))
        else:
            plan = self._pinned_plan(features, full_feature_names, spine.column_names, pinned.get("views") or {})
        if pinned is not None and as_of is None and pinned.get("as_of"):
            as_of = datetime.fromisoformat(pinned["as_of"])
        return read_historical(
            self.project, self.lake, plan, spine, None if as_of is None else as_utc(as_of), pinned
        )

    def get_online_features(
        self, features: Features, entity_rows: Sequence[dict[str, Any]], at: datetime | None = None,
        full_feature_names: bool = False,
    ) -> list[dict[str, Any]]:
        """Each row of `entity_rows` with its features as known at `at` (default: now); unknown entities get nulls.

        The online store knows little of the past: windows of moments up to a day before an entity's newest row, and of
        other views the last eight values, before which the answer is null. Rows that become available more than a day
        from now leave an entity's windows null until a day before.

        Raises:
            FeatureStoreError: windows of a moment before that.
            UnknownNameError: a view or feature that does not exist.
            MissingColumnError: a row lacks a join key.
            SchemaMismatchError: a value of another type than declared.
        """
        if not entity_rows:
            return []
        given = [*dict.fromkeys(name for names in dict.fromkeys(map(tuple, entity_rows)) for name in names), EVENT]
        reader = self._reader_of(_hashable(features), full_feature_names, tuple(given))
        moment = datetime.now(UTC) if at is None else as_utc(at)
        return reader.read(self._online, entity_rows, moment)

    def prepare_online(self, features: Features, columns: Sequence[str]) -> None:
        """Looks up in the registry what reads of `features` need, so that they do without the state database.

        Args:
            features: as for `get_online_features`.
            columns: of the rows that will ask; another set of them costs no further look either.

        Raises:
            FeatureStoreError: a view has not been registered.
        """
        self._reader_of(_hashable(features), False, (*columns, EVENT))

    def acting_as(self, principal: str) -> Self:
        """This store as `principal` may use it: the same connections, the same thread, rights of its own."""
        other = copy(self)
        other._access = AccessControl(self.project.access, principal, self._database, self.project.name)
        other._plan_of = lru_cache(PLANS_KEPT)(other._plan)
        other._reader_of = lru_cache(PLANS_KEPT)(other._reader)
        return other

    def follow_rollbacks(self) -> bool:
        """Reads what was rolled back elsewhere since; newer versions are left to the code that declares them."""
        changed = self._registry.follow_rollbacks()
        if changed:
            self._forget_plans()
        return changed

    def _plan(self, features: Features, full_feature_names: bool, given: tuple[str, ...]) -> ReadPlan:
        """What to read, looked up and allowed."""
        return self._pinned_plan(features, full_feature_names, given, {})

    def _pinned_plan(
        self, features: Features, full_feature_names: bool, given: Sequence[str], pinned_views: Mapping[str, Any]
    ) -> ReadPlan:
        plan = plan_read(self.project, self._registry, features, given, full_feature_names, pinned_views)
        require_read(self._access, plan)
        return plan

    def _reader(self, features: Features, full_feature_names: bool, given: tuple[str, ...]) -> OnlineReader:
        return OnlineReader(self.project, self._plan_of(features, full_feature_names, given))

    def _forget_plans(self) -> None:
        self._plan_of.cache_clear()
        self._reader_of.cache_clear()


def _hashable(features: Features) -> Features:
    return features if isinstance(features, FeatureService) else tuple(features)
