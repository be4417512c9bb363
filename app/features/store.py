"""The feature store: one object for definitions, backfill, training reads, online reads and pushes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

import pyarrow as pa

from app.clock import as_utc
from app.errors import FeatureStoreError, UnknownNameError
from app.features.access import (
    readable_refused,
    require,
    require_quarantine,
    with_personal_marks,
)
from app.features.backfill import Backfill, MaterializeResult
from app.features.definitions import require_writable
from app.features.feature_reads import FeatureReads
from app.features.ingest import ingest
from app.features.online import CacheUse, OnlineStore, cache_use, open_store
from app.features.online_load import OnlineLoads, Rollback
from app.features.push import PushResult, Rows
from app.features.push_write import Target, write_pushed
from app.features.quarantine import read_quarantine
from app.features.raw_tables import IngestResult
from app.features.retention import Maintenance
from app.features.statistics import ViewStatistics, view_statistics
from app.features.view_tables import view_table
from app.foundation.lake import CompactionResult, Lake
from app.foundation.lake.orphans import DEFAULT_AGE, SweepResult
from app.foundation.projects import load_project
from app.foundation.state import StateDatabase
from app.settings import Settings, load_settings
from app.spec import Project
from app.spec.features import FeatureView, Source


class FeatureStore(FeatureReads):
    """Features of one project.

    Moments without a zone are UTC. Ranges of backfills are of the time at which rows became *available*. What the
    project's access policy does not let `principal` do raises `AccessDeniedError` and is kept in the audit trail.
    """

    def __init__(
        self, project: Project, settings: Settings, principal: str | None = None, online: OnlineStore | None = None
    ) -> None:
        database = StateDatabase.open(settings.state_url)
        opened = online or open_store(settings.online_url, settings.online_cache_s, settings.online_cache_entries)
        super().__init__(project, Lake.open(settings), database, principal or settings.principal, opened)
        self._declared_views = {view.name for view in project.views}
        self._loads = OnlineLoads(project.name, self.lake, database, opened)
        self._backfill = Backfill(project.name, self.lake, database)

    @classmethod
    def open(
        cls, project_ref: str, settings: Settings | None = None, principal: str | None = None
    ) -> FeatureStore:
        """The store of the project at `module:ATTRIBUTE`.

        Args:
            project_ref: where the project is.
            settings: where everything lives (default: from the environment).
            principal: who asks (default: the settings').

        Raises:
            ProjectError: the project cannot be loaded.
        """
        return cls(load_project(project_ref), settings or load_settings(), principal)

    def rollback(self, view: str, version: int) -> Rollback:
        """Makes an earlier version of a view the one that is read by default, online and for training sets.

        The online store gets what the version's table holds before the first reader can see it. A store that is open
        elsewhere stays with the version it first saw until its `refresh`
        or `follow_rollbacks`; applications follow within a second.

        Raises:
            UnknownNameError: there is no such view or version.
            FeatureStoreError: the version has no rows, or the view was deleted.
            AccessDeniedError: the principal may not.
            StateConflictError: somebody else changed the registry meanwhile.
        """
        self.kind_of(view, "view")
        self.refresh()
        before, from_version = self._registry.view(view)
        target, _ = self._registry.view(view, version)
        require(self._access, "apply", before)
        filled = self._loads.fill_for_rollback(target, version, from_version)
        self._registry.rollback(view, version)
        self.refresh()
        return filled

    def ingest(self, run_id: str | None = None) -> list[IngestResult]:
        """Reads every source of the project into its raw table."""
        run_id = run_id or uuid4().hex
        self.require_ingestible(self.project.sources)
        done = [ingest(source, self.project.name, self.lake, run_id) for source in self.project.sources]
        views, maintenance = self._all_versions(), Maintenance(self.project.name, self.lake)
        for source, result in zip(self.project.sources, done, strict=True):
            if result.new_rows:
                maintenance.of_source(source, views)
        return done

    def materialize(
        self, start: datetime, end: datetime, views: Sequence[str] | None = None, run_id: str | None = None,
        note: Callable[[str], None] | None = None,
    ) -> list[MaterializeResult]:
        """Backfills the rows that became available in `(start, end]`; repeated, it writes nothing.

        Rows ingested since an earlier backfill are added. Killed, it leaves whole chunks; run again, it goes on.
        `note` is called with what was done after each chunk.

        Raises:
            UnknownNameError: a source that was not ingested.
            FeatureStoreError: `end` is not after `start`, a view is not registered, or a transform raised.
            DataError: a transform's result is not as declared.
        """
        start, end = as_utc(start), as_utc(end)
        if end <= start:
            raise FeatureStoreError(f"cannot materialise from {start} to {end}: the end must be later than the start.")
        return self._backfill.materialize(self._writable(views), start, end, run_id or uuid4().hex, note)

    def materialize_incremental(
        self, end: datetime, views: Sequence[str] | None = None, run_id: str | None = None,
        note: Callable[[str], None] | None = None,
    ) -> list[MaterializeResult]:
        """Backfills from where the last backfill ended, with rows of before that were ingested late."""
        return self._backfill.materialize_incremental(self._writable(views), as_utc(end), run_id or uuid4().hex, note)

    def quarantine(self, source: str | None = None, view: str | None = None) -> pa.Table:
        """Rows that broke an expectation of a source or view, as JSON with the reason, oldest first.

        Without a name, those of the views and sources that the principal may read. Personal values are hidden from a
        principal without the right to read them.

        Raises:
            AccessDeniedError: the principal may not read the view or source it names.
        """
        require_quarantine(self._access, self.project, source, view)
        refused = read_quarantine(self.lake, self.project.name, source, view)
        return readable_refused(self._access, self.project, refused)

    def statistics(self, view: str) -> ViewStatistics | None:
        """What the view's table holds now; `None` when it was never materialised."""
        declared, version = self._stored(view)
        require(self._access, "read", declared)
        marked = with_personal_marks(declared)
        return view_statistics(self.lake, self._database, marked, view_table(self.project.name, view, version))

    def online_until(self, view: str) -> datetime | None:
        """Up to when the view's table was last brought into the online store; pushes may be newer."""
        return self._loads.last_load(view, self._stored(view)[1])

    def sweep(self, older_than: timedelta = DEFAULT_AGE) -> list[SweepResult]:
        """Deletes files that failed or killed writes left beside the project's tables.

        Raises:
            FeatureStoreError: a limit so short that a write in flight could lose its files.
            AccessDeniedError: the principal may not materialise everything.
        """
        self._access.require("materialize", f"project {self.project.name!r}")
        return [self.lake.sweep_orphans(table, older_than) for table in self.lake.tables(self.project.name)]

    def compact(self) -> list[CompactionResult]:
        """Rewrites small files of the project's tables into larger ones; rows and earlier snapshots stay as they are.

        Raises:
            AccessDeniedError: the principal may not materialise everything.
            StateConflictError: others kept committing first.
        """
        self._access.require("materialize", f"project {self.project.name!r}")
        return [self.lake.compact(table) for table in self.lake.tables(self.project.name)]

    def forget_snapshots(self) -> int:
        """Forgets snapshots that nothing refers to any more, of all tables of the store, and gives their number.

        No row is lost, and what a training set was made of stays. Ingest, backfill and push do it by themselves.

        Raises:
            AccessDeniedError: the principal may not materialise everything.
        """
        self._access.require("materialize", f"project {self.project.name!r}")
        return Maintenance(self.project.name, self.lake).of_all(self.project.sources, self._all_versions())

    @property
    def principal(self) -> str:
        """Who asks."""
        return self._access.principal

    @property
    def online(self) -> OnlineStore:
        """Where features are served from; may be shared with a store of another thread."""
        return self._online

    @property
    def online_cache(self) -> CacheUse | None:
        """How reads from memory did; `None` while MILLRACE_ONLINE_CACHE_S is 0."""
        return cache_use(self._online)

    def push(self, view: str, rows: Rows, to: Target = "online_and_offline") -> PushResult:
        """Adds rows of the view's source (before its transform) to the view.

        Raises:
            DataError: a column is missing or of another type; nothing is taken.
        """
        declared, version = self._stored(view)
        return self._push(declared.source, [(declared, version)], rows, to)

    def push_source(self, source_name: str, rows: Rows, to: Target = "online") -> PushResult:
        """Adds rows of a source to every view that reads it.

        Raises:
            UnknownNameError: there is no such source.
            DataError: a column is missing or of another type; nothing is taken.
        """
        sources = {s.name: s for s in self.project.sources}
        if source_name not in sources:
            raise UnknownNameError(
                f"project {self.project.name!r} has no source {source_name!r}; it has: {', '.join(sources)}.",
                source=source_name,
            )
        views = [self._stored(v.name) for v in self.project.views if v.source.name == source_name]
        return self._push(sources[source_name], views, rows, to)

    def load_online(
        self, until: datetime, views: Sequence[str] | None = None, replace: bool = False
    ) -> dict[str, int]:
        """Brings what was available by `until` from the views' tables into the online store; gives rows by view.

        What was pushed there stays. `replace`: the online store's rows of the views are forgotten first, also those
        that were pushed to it alone.
        """
        chosen = self._chosen(views)
        for view, _ in chosen:
            require(self._access, "materialize", view)
        return {view.name: self._loads.load(view, version, as_utc(until), replace) for view, version in chosen}

    def _push(
        self, source: Source, views: Sequence[tuple[FeatureView, int]], rows: Rows, to: Target
    ) -> PushResult:
        for view, _ in views:
            require(self._access, "push", view)
            require_writable(view)
        return write_pushed(self.lake, self._online, self.project.name, source, views, rows, to)

    def _chosen(self, views: Sequence[str] | None) -> list[tuple[FeatureView, int]]:
        names = [v.name for v in self.project.views] if views is None else views
        return [self._stored(name) for name in names]

    def _all_versions(self) -> list[tuple[FeatureView, int]]:
        """Every registered version of the project's views."""
        names = [v.name for v in self.project.views if isinstance(v, FeatureView)]
        return [self._registry.view(name, v.version) for name in names for v in self._registry.versions("view", name)]

    def _stored(self, reference: str) -> tuple[FeatureView, int]:
        """The stored view and version that `view` or `view@v2` names."""
        name, separator, version = reference.partition("@v")
        if separator and not version.isdecimal():
            raise UnknownNameError(f"{reference!r} names no version of a view; expected 'view' or 'view@v2'.",
                                   view=reference)
        if name not in self._declared_views:  # looking everything up anew would slow down each push
            self.kind_of(name, "view")
        return self._registry.view(name, int(version) if separator else None)

    def _writable(self, views: Sequence[str] | None) -> list[tuple[FeatureView, int]]:
        """The chosen views, all of which may and can be materialised."""
        chosen = self._chosen(views)
        for view, _ in chosen:
            require(self._access, "materialize", view)
            require_writable(view)
        return chosen
