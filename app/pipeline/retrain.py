"""A challenger at moment T: learned from labels available by T - h, judged beside the champion on (T - h, T]."""

from __future__ import annotations

from datetime import datetime

from app.features.training_set import TrainingSet
from app.foundation.lineage import record_decision
from app.pipeline.candidates import register, train_and_judge
from app.pipeline.fit import tuned_model
from app.pipeline.history import labelled_rows
from app.pipeline.run import Output
from app.pipeline.session import Session


def retrain(session: Session, at: datetime, champion: str, reason: str) -> Output:
    """Trains, judges and, when the gates pass, registers a challenger; gives what happened.

    The output's `version` is `None` when the champion stays, and `reason` says why.
    """
    session.store.materialize_incremental(at)
    train_rows, frozen = challenger_rows(session, at)
    candidate = train_and_judge(
        session, tuned_model(session), train_rows, frozen, champion=champion, name=f"at-{at:%Y%m%d}"
    )
    version = None
    if candidate.verdict.passed:
        version = register(session, candidate, train_rows, frozen)
        session.registry.set_alias(session.project.name, "challenger", version)
    record_decision(
        session.database,
        actor="gates",
        subject=session.project.name,
        decision="roll out" if version else "keep champion",
        reason=candidate.verdict.reason,
        event_at=at,
        run_id=session.run_id,
        detail={"trigger": reason, "champion": champion, "challenger": version},
    )
    return {
        "at": at.isoformat(),
        "trigger": reason,
        "champion": champion,
        "version": version,
        "report": candidate.report,
        "reason": candidate.verdict.reason,
        "metrics": candidate.metrics,
        "gates": candidate.verdict.to_json(),
        "train_rows": len(train_rows.frame),
        "frozen_rows": len(frozen.frame),
    }


def challenger_rows(session: Session, at: datetime) -> tuple[TrainingSet, TrainingSet]:
    """Rows to learn from and frozen rows to judge on, at moment `at`."""
    timeline, policy = session.project.timeline, session.project.retrain
    cut = at - policy.holdout
    start = timeline.train_start
    if policy.train_window is not None:
        start = max(start, cut - policy.train_window)
    kept = [timeline.train_end, timeline.validation_end]
    boundaries = [start, *(b for b in kept if start < b < cut), cut]
    return labelled_rows(session, boundaries, cut), labelled_rows(session, [cut, at], at)
