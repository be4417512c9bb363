"""One way to train any declared model."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.models.embedded_score import embed_scores
from app.models.export import CHECKED_ROWS
from app.settings import Settings
from app.spec import Project
from app.spec.models import Model, TorchModel
from app.training.arrays import check_trainable
from app.training.estimator import train_estimator
from app.training.model_scores import add_scores, resolve_scores, with_versions
from app.training.progress import EpochReport
from app.training.torch_trainer import train_torch
from app.training.training_table import TrainingTable

if TYPE_CHECKING:
    from app.features.training_set import TrainingSet


@dataclass(frozen=True)
class TrainedModel:
    """A sealed artefact folder and how it came to be."""

    folder: Path
    metrics: dict[str, float]
    config: dict[str, Any]
    run_record: dict[str, Any]


def train(
    project: Project,
    model: Model,
    rows: TrainingSet | TrainingTable,
    settings: Settings,
    run_id: str,
    listen: Callable[[EpochReport], None] | None = None,
) -> TrainedModel:
    """Trains `model` on `rows` and exports it; a run of the same id that was cut off goes on from its checkpoint.

    Args:
        project: whose label says what is learned.
        model: what to train.
        rows: in memory, or as a table that is streamed; an estimator needs them in memory and reads the table.
        settings: where runs and artefacts lie.
        run_id: names the run, in its folder, in MLflow and on the dashboard.
        listen: is told of each finished epoch of a torch model.

    Raises:
        TrainingError: the rows cannot be learned from, or the run failed; nothing is left behind as a model.
        UnknownNameError: a model whose score it reads is not registered.
        MissingColumnError: such a model needs a feature that the rows have not.
    """
    task = project.label.task
    columns = resolve_scores(model.scores, rows.feature_names, settings) if model.scores else []
    model = with_versions(model, columns)
    rows = add_scores(rows, columns, project.cases.prediction_timestamp)
    if isinstance(rows, TrainingTable):
        num_rows = rows.num_rows()
        if not isinstance(model, TorchModel):
            rows = rows.in_memory()
    else:
        num_rows = len(rows.frame)
    if not isinstance(rows, TrainingTable):
        check_trainable(rows.frame, task, f"model {model.name!r}")
    folder = settings.home / "trained" / run_id
    shutil.rmtree(folder, ignore_errors=True)
    started_s = time.monotonic()
    metrics: dict[str, float] = {}
    record: dict[str, Any] = {"run_id": run_id, "rows": num_rows}
    if isinstance(model, TorchModel):
        metrics, record["deepspeed"] = train_torch(model, task, rows, settings, run_id, folder, listen)
    else:
        assert not isinstance(rows, TrainingTable)  # read above
        train_estimator(model, task, rows, folder)
    if columns:
        embedded = [column.embedded for column in columns]
        sample = rows.sample(CHECKED_ROWS) if isinstance(rows, TrainingTable) else rows.frame.head(CHECKED_ROWS)
        embed_scores(folder, embedded, [column.folder for column in columns], sample)
        record["scores"] = [asdict(score) for score in embedded]
    metrics["train_s"] = time.monotonic() - started_s
    config = {k: v for k, v in asdict(model).items() if k != "service"}
    return TrainedModel(folder, metrics, config, record)
