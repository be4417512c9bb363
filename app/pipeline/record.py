"""The record of a run: everything that is needed to make its model again, and to tell what differs when one tries."""

from __future__ import annotations

from typing import Any

from app.features.training_set import TrainingSet
from app.foundation.lineage import hardware, require_committed
from app.models.logged_model import lineage_tags
from app.pipeline.run import Output
from app.pipeline.session import Session
from app.spec.models import Model
from app.training.train import TrainedModel


def run_record(
    session: Session, model: Model, trained: TrainedModel, train_rows: TrainingSet, frozen: TrainingSet, name: str
) -> Output:
    """Seed, data, definitions, code, environment, hardware and the whole configuration, DeepSpeed's included."""
    return {
        **session.provenance,
        "project": session.project_ref,
        "run_id": session.run_id,
        "training_run": trained.run_record["run_id"],
        "purpose": name,
        "model": {"name": model.name, "class": type(model).__name__, "service": model.service.name},
        "config": trained.config,
        "seed": model.seed,
        "training": trained.run_record,
        "hardware": hardware(),
        "train": train_rows.manifest,
        "frozen": frozen.manifest,
    }


def version_tags(session: Session, record: Output, passed: bool) -> dict[str, str]:
    """Short facts to find a version by."""
    return {
        "run_id": session.run_id,
        "training_run": str(record["training_run"]),
        "purpose": str(record["purpose"]),
        "gates_passed": str(passed),
        **lineage_tags(record),
    }


def check_code(session: Session) -> None:
    """Before anything is trained: refuses uncommitted code, or says that its difference will be kept.

    Raises:
        UncommittedCodeError: the code has uncommitted changes and nobody allowed them.
    """
    code = session.provenance
    require_committed(code, session.settings.allow_dirty)
    if code.get("code_dirty"):
        left_out: dict[str, Any] = code.get("code_diff_left_out") or {}
        told = f"; left out of it: {', '.join(f'{n} ({why})' for n, why in left_out.items())}" if left_out else ""
        session.progress.line(
            f"code: {len(code.get('code_files') or ())} files differ from commit {str(code['code_commit'])[:10]}; the "
            f"difference is kept with the model{told}"
        )
