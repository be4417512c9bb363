"""The first champion: sweep, train, validate, register."""

from __future__ import annotations

from app.errors import GateError
from app.features.training_set import TrainingSet
from app.foundation.lineage import record_decision
from app.pipeline.candidates import register, train_and_judge
from app.pipeline.history import labelled_rows
from app.pipeline.run import Output
from app.pipeline.session import Session
from app.spec.models import Model
from app.training.sweep import sweep, with_parameters


def sweep_parameters(session: Session) -> None:
    """Tries the project's search space on time-ordered folds inside the training stretch."""
    search = session.project.search

    def action() -> Output:
        if search is None:
            return {"best": {}, "trials": []}
        with session.progress.step("Sweep", total=search.num_trials) as step:
            result = sweep(session.project, first_training_rows(session), session.settings, session.run_id)
            step.advance(search.num_trials, f"best {result.best}")
        return {"best": result.best, "trials": result.trials, "importance": result.importance}

    session.run.perform("sweep", action)


def train_first(session: Session) -> None:
    """Trains the first model and the baseline, scores both on the validation stretch, judges the gates."""

    def action() -> Output:
        with session.progress.step("Train and validate", total=3) as step:
            train_rows, frozen = first_training_rows(session), first_validation_rows(session)
            step.advance(1, f"{len(train_rows.frame):,} rows to learn, {len(frozen.frame):,} to judge")
            candidate = train_and_judge(session, tuned_model(session), train_rows, frozen, champion=None, name="first")
            step.advance(1, candidate.verdict.reason)
            _refuse_if_failed(session, candidate.verdict.passed, candidate.verdict.reason)
            version = register(session, candidate, train_rows, frozen)
            session.registry.set_alias(session.project.name, "champion", version)
            step.advance(1, f"version {version} is champion")
        return {
            "version": version,
            "report": candidate.report,
            "metrics": candidate.metrics,
            "gates": candidate.verdict.to_json(),
            "train": train_rows.manifest,
            "frozen": frozen.manifest,
        }

    session.run.perform("train", action)


def tuned_model(session: Session) -> Model:
    """The declared model with the parameters of this run's sweep."""
    return with_parameters(session.project.model, session.run.require("sweep", "sweep")["best"])


def first_training_rows(session: Session) -> TrainingSet:
    """Labelled rows of the training stretch, labels known by its end."""
    timeline = session.project.timeline
    return labelled_rows(session, [timeline.train_start, timeline.train_end], timeline.train_end)


def first_validation_rows(session: Session) -> TrainingSet:
    """Labelled rows of the validation stretch, labels known by its end."""
    timeline = session.project.timeline
    return labelled_rows(session, [timeline.train_end, timeline.validation_end], timeline.validation_end)


def _refuse_if_failed(session: Session, passed: bool, reason: str) -> None:
    record_decision(
        session.database,
        actor="gates",
        subject=session.project.name,
        decision="register" if passed else "refuse",
        reason=reason,
        run_id=session.run_id,
    )
    if not passed:
        raise GateError(
            f"the first model of {session.project.name!r} did not pass its gates: {reason}. "
            "Improve the model or the features, or change Project(gates=…)."
        )
