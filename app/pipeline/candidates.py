"""From labelled rows to a registered version: train, score on frozen rows, judge, register."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from app.evaluation.gates import Verdict
from app.evaluation.importance import permutation_importance
from app.evaluation.report import ValidationReport, render_validation
from app.evaluation.validate import Validation, validate
from app.features.training_set import TrainingSet
from app.features.uses import record_model_use
from app.models.artefact import ServableModel
from app.models.registry import LoggedRun
from app.pipeline.record import check_code, run_record, version_tags
from app.pipeline.run import Output
from app.pipeline.session import Session
from app.profiles import profile_table
from app.spec.models import Model
from app.training.train import train

REPORT = "validation.html"


@dataclass(frozen=True)
class Candidate:
    """A trained model, what it scored on the frozen rows, the run as MLflow keeps it, and its report's file name."""

    folder: Path
    validation: Validation
    metrics: Output
    logged: LoggedRun
    report: str

    @property
    def verdict(self) -> Verdict:
        """What the gates made of it."""
        return self.validation.verdict


def train_and_judge(
    session: Session,
    model: Model,
    train_rows: TrainingSet,
    frozen: TrainingSet,
    *,
    champion: str | None,
    name: str,
) -> Candidate:
    """Trains `model` and the baseline on `train_rows`, scores both and the champion on `frozen`, judges.

    The run is kept in MLflow whatever the verdict, with its record.

    Raises:
        TrainingError: the rows cannot be trained on, or the run failed.
        UncommittedCodeError: the code has uncommitted changes and nobody allowed them.
    """
    check_code(session)
    project, settings = session.project, session.settings
    run_id = f"{session.run_id}-{name}"
    with ThreadPoolExecutor(1) as beside:  # starting training workers leaves cores idle: the baseline uses them
        fitting = beside.submit(train, project, project.baseline, train_rows, settings, f"{run_id}-baseline")
        trained = train(
            project, model, train_rows, settings, run_id, lambda report: session.progress.line(str(report))
        )
        baseline = fitting.result()
    validation = validate(
        project,
        trained.folder,
        frozen,
        champion=None if champion is None else champion_model(session, champion),
        baseline=ServableModel.load(baseline.folder),
    )
    metrics = validation.metrics
    record = run_record(session, model, trained, train_rows, frozen, name)
    difference = record.pop("code_diff", None)
    epochs = session.registry.training_epochs(run_id)
    report = validation_report(session, model, trained.folder, validation, frozen, record, epochs)
    logged = LoggedRun(
        params=trained.config,
        metrics={metric: values["value"] for metric, values in metrics["challenger"].items()},
        tags=version_tags(session, record, validation.verdict.passed),
        record=record,
        epochs=epochs,
        attachments={REPORT: report, **({} if difference is None else {"code.diff": difference})},
        sample=frozen.frame.head(100),
    )
    session.registry.log(project.name, trained.folder, logged)
    kept = session.settings.reports / f"{run_id}.html"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(report, encoding="utf-8")
    return Candidate(trained.folder, validation, metrics, logged, kept.name)


def validation_report(
    session: Session, model: Model, folder: Path, validation: Validation, frozen: TrainingSet, record: Output,
    epochs: list[dict[str, float]],
) -> str:
    """The page on one candidate."""
    project = session.project
    asked = frozen.frame[project.cases.prediction_timestamp]
    return render_validation(
        ValidationReport(
            project=project.name,
            purpose=str(record["purpose"]),
            model=model.name,
            gates=project.gates,
            categorical=frozen.categorical,
            validation=validation,
            importance=permutation_importance(
                ServableModel.load(folder).predict, frozen.frame, frozen.feature_names, project.label.task
            ),
            epochs=epochs,
            sweep=session.run.output("sweep") or {},
            record=record,
            stretch="" if frozen.frame.empty else f"from {asked.min():%d %b %Y %H:%M} to {asked.max():%d %b %Y %H:%M}",
        )
    )


def register(session: Session, candidate: Candidate, train_rows: TrainingSet, frozen: TrainingSet) -> str:
    """Registers exactly the folder that was scored, with all that is needed to repeat it; gives the version.

    The profile of the rows it learned from is kept beside it: the reference for drift while it is champion.
    """
    name = session.project.name
    version = session.registry.register(name, candidate.folder, candidate.logged)
    record_model_use(session.database, session.project, name, version, train_rows.manifest, session.run_id)
    _keep_reference(session, version, frozen, candidate.validation.evaluation.challenger)
    return version


def champion_model(session: Session, version: str) -> ServableModel:
    """The registered version as it is served."""
    return ServableModel.load(session.registry.folder(session.project.name, version))


def reference_path(session: Session, version: str) -> Path:
    """Where the reference profile of a version is kept; profiles of earlier champions stay."""
    return session.settings.home / "profiles" / session.project.name / f"reference-{version}.bin"


def _keep_reference(session: Session, version: str, rows: TrainingSet, scores: np.ndarray) -> None:
    path = reference_path(session, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = rows.frame[list(rows.feature_names)].assign(score=scores)
    path.write_bytes(profile_table(pa.Table.from_pandas(frame, preserve_index=False)))
