"""First steps of the loop: raw tables, then features."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from app.features.ingest import ingest
from app.features.raw_snapshot import BEGINNING
from app.pipeline.run import Output
from app.pipeline.session import Session


def ingest_sources(session: Session) -> None:
    """Reads every source into its raw table; rows that fail expectations go to quarantine.

    Raises:
        AccessDeniedError: the principal may not ingest one of them; none is.
    """
    sources = session.project.sources

    def action() -> Output:
        session.store.require_ingestible(sources)
        counts = {}
        with session.progress.step("Ingest", total=len(sources)) as step:
            for source in sources:
                result = ingest(source, session.project.name, session.lake, session.run_id)
                counts[source.name] = {
                    "rows": result.rows,
                    "quarantined": result.quarantined,
                    "snapshot_id": result.snapshot_id,
                }
                step.advance(1, f"{source.name}: {result.rows:,} rows, {result.quarantined:,} quarantined")
        return {"sources": counts}

    session.run.perform("ingest", action)


def backfill_range(
    session: Session, start: datetime | None, end: datetime | None, views: Sequence[str] | None
) -> None:
    """Registers the views and materialises what is missing of a stretch; no step of the loop.

    Args:
        session: the open session.
        start: exclusive, available time (`None`: the beginning).
        end: inclusive (`None`: now).
        views: names (`None`: all).
    """
    until = end or session.clock.now()
    with session.progress.step("Backfill features", total=1) as step:
        session.store.apply()
        written = session.store.materialize(start or BEGINNING, until, views, session.run_id, step.note)
        step.advance(1, f"{sum(result.rows for result in written):,} rows")
    for result in written:
        found = "nothing was missing" if result.already_there else f"{result.rows:,} rows"
        refused = f", {result.quarantined:,} quarantined" if result.quarantined else ""
        session.progress.line(f"{result.view} v{result.version}: {found}{refused}")


def backfill_features(session: Session) -> None:
    """Registers the views and materialises what was available before the replay begins."""
    views = session.project.views

    def action() -> Output:
        with session.progress.step("Backfill features", total=len(views)) as step:
            session.store.apply()
            written = session.store.materialize(
                BEGINNING, session.project.timeline.validation_end, run_id=session.run_id, note=step.note
            )
            step.advance(len(views), f"{sum(result.rows for result in written):,} rows")
        return {"until": session.project.timeline.validation_end.isoformat(), "views": [v.name for v in views]}

    session.run.perform("backfill", action)
