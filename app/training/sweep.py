"""Sweeps a search space with Ray Tune over time-ordered folds: each score is a validation on the future."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from ray import tune

from app.errors import TrainingError
from app.evaluation.bootstrap import Interval, with_intervals
from app.foundation.import_path import resolve
from app.models.artefact import Inputs, estimator_matrix, to_scores
from app.models.signature import Signature
from app.models.transform import Transform
from app.settings import Settings
from app.spec import Project
from app.spec.models import Model, SearchSpace, Task, TorchModel
from app.training.arrays import check_trainable, inputs_of, target_of, to_arrays
from app.training.estimator import fit_estimator, vocabularies
from app.training.folds import Fold, time_ordered_folds
from app.training.model_scores import add_scores, resolve_scores
from app.training.search import (
    PROGRESS,
    SCORE,
    candidates,
    importance,
    num_concurrent_trials,
    optuna_search,
    scheduler,
)
from app.training.steps import train_in_process
from app.training.training_table import TrainingTable

if TYPE_CHECKING:
    from app.features.training_set import TrainingSet  # heavy; workers never need it

TUNABLE = ("learning_rate", "weight_decay", "batch_size", "epochs")
SCORED_BY = {"binary": "log_loss", "regression": "mse"}
REPORTED = (SCORE, "low", "high", "spread")
NUM_RESAMPLES = 100


@dataclass(frozen=True)
class SweepResult:
    """`best`: the parameters with the lowest mean score.

    `trials`: all, best first: `parameters`, `mean` over folds with its 95% interval `low`, `high` (rows resampled
    within folds), `spread` (standard deviation over folds), `folds` it was tried on; those stopped early come last.
    `importance`: share of the score's variance that each parameter explains, empty where too few trials tell.
    """

    best: dict[str, Any]
    trials: list[dict[str, Any]]
    importance: dict[str, float]


def with_parameters(model: Model, best: dict[str, Any]) -> Model:
    """The declared model with these parameters: its own fields, else hyperparameters of its factory."""
    own = {k: v for k, v in best.items() if k in TUNABLE and isinstance(model, TorchModel)}
    hyper = {k: v for k, v in best.items() if k not in own}
    return replace(model, **own, hyperparameters={**model.hyperparameters, **hyper})


def sweep(project: Project, rows: TrainingSet, settings: Settings, run_id: str) -> SweepResult:
    """Tries the project's search space on the most recent rows of a training set.

    A sweep that was cut off goes on: finished trials keep their scores, the others begin again.

    Raises:
        TrainingError: the rows cannot be learned from, or every trial failed.
    """
    search = project.search
    assert search is not None, "the caller checks that the project declares a search space"
    columns = resolve_scores(project.model.scores, rows.feature_names, settings)
    with_scores = add_scores(rows, columns, project.cases.prediction_timestamp)
    assert not isinstance(with_scores, TrainingTable)  # as it came
    rows = with_scores
    check_trainable(rows.frame, project.label.task, f"sweep of {project.model.name!r}")
    frame = rows.frame.tail(search.max_rows).reset_index(drop=True)
    times = frame[project.cases.prediction_timestamp].astype("datetime64[us, UTC]").astype("int64").to_numpy()
    tried = candidates(search, project.model.seed)
    trainable = tune.with_parameters(
        _trial,
        model=project.model,
        task=project.label.task,
        frame=frame,
        folds=time_ordered_folds(times, search.num_folds),
        tried=tried if search.algorithm == "random" else None,
        inputs=inputs_of(project.model, rows),
        epochs=search.epochs,
    )
    logging.getLogger("ray.tune").setLevel(logging.WARNING)
    folder = settings.runs / f"sweep-{run_id}"
    results = _tuner(tune.with_resources(trainable, {"CPU": 1}), search, project.model.seed, folder).fit()
    trials = [
        _told(result, tried[result.config["number"]] if search.algorithm == "random" else result.config)
        for result in map(results.__getitem__, range(len(results)))
        if result.error is None and result.metrics and SCORE in result.metrics and result.config is not None
    ]
    finished = [trial for trial in trials if trial[PROGRESS] == search.num_folds]
    if not finished:
        raise TrainingError(
            f"none of the {search.num_trials} trials of the sweep was finished. Errors: {results.errors[:1]}"
        )
    shutil.rmtree(folder, ignore_errors=True)  # Tune's own state; the results are returned
    # A mean over fewer folds is of other stretches: only whole ones compete.
    trials.sort(key=lambda trial: (-trial[PROGRESS], trial[SCORE], str(trial["parameters"])))
    return SweepResult(dict(trials[0]["parameters"]), trials, importance(search, finished))


def _tuner(trainable: Any, search: SearchSpace, seed: int, folder: Path) -> tune.Tuner:
    """A tuner at its beginning, or where an earlier process left it."""
    if tune.Tuner.can_restore(str(folder)):
        return tune.Tuner.restore(str(folder), trainable, restart_errored=True)
    random = search.algorithm == "random"
    return tune.Tuner(
        trainable,
        param_space={"number": tune.grid_search(list(range(search.num_trials)))} if random else {},
        tune_config=tune.TuneConfig(
            metric=SCORE,
            mode="min",
            num_samples=1 if random else search.num_trials,
            search_alg=None if random else optuna_search(search, seed),
            scheduler=scheduler(search),
            max_concurrent_trials=num_concurrent_trials(search.num_trials),
        ),
        run_config=tune.RunConfig(name=folder.name, storage_path=str(folder.parent), verbose=0),
    )


def _told(result: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "parameters": dict(parameters),
        **{k: float(result.metrics[k]) for k in REPORTED},
        PROGRESS: int(result.metrics[PROGRESS]),
    }


def _trial(
    config: dict[str, Any],
    *,
    model: Model,
    task: Task,
    frame: pd.DataFrame,
    folds: list[Fold],
    tried: list[dict[str, Any]] | None,
    inputs: Inputs,
    epochs: int,
) -> None:
    torch.set_num_threads(1)
    tuned = with_parameters(model, config if tried is None else tried[config["number"]])
    scores: list[Interval] = []
    for fold in folds:
        scores.append(score_fold(tuned, task, frame, fold, inputs, epochs))
        tune.report({**summarise(scores), PROGRESS: len(scores)})


def summarise(scores: list[Interval]) -> dict[str, float]:
    """Mean over folds; folds are independent, so the half widths of their intervals add as squares."""
    values, low, high = np.array(scores).T
    mean = float(values.mean())
    below, above = (float(np.sqrt(np.square(gap).sum())) / len(scores) for gap in (values - low, high - values))
    return {"mean": mean, "low": mean - below, "high": mean + above, "spread": float(values.std())}


def score_fold(model: Model, task: Task, rows: pd.DataFrame, fold: Fold, inputs: Inputs, epochs: int) -> Interval:
    """Score on the fold's future of a model that learned from its past, with its interval; lower is better."""
    past, future = rows.iloc[fold.train], rows.iloc[fold.validate]
    if isinstance(model, TorchModel):
        predicted = _torch_scores(model, task, past, future, inputs, epochs)
    else:
        words = vocabularies(past, inputs)
        fitted = fit_estimator(model, past, inputs, words)
        matrix = estimator_matrix(future, inputs, words)
        predicted = fitted.predict_proba(matrix)[:, 1] if task == "binary" else fitted.predict(matrix)
    label, score = future["label"].to_numpy(dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    metric = SCORED_BY[task]
    return with_intervals(label, score, [metric], NUM_RESAMPLES)[metric]


def _torch_scores(
    model: TorchModel, task: Task, past: pd.DataFrame, future: pd.DataFrame, inputs: Inputs, epochs: int
) -> np.ndarray:
    transform = Transform.fit(past, inputs.numeric, inputs.categorical)
    torch.manual_seed(model.seed)
    signature = Signature.of(transform, task)
    module = resolve(model.factory)(signature, **model.hyperparameters)
    target = target_of(past, task)
    train_in_process(module, to_arrays(transform, past, target), model, task, epochs, model.seed)
    module.eval()
    numeric, codes = transform.apply(future)
    with torch.no_grad():
        return to_scores(module(torch.from_numpy(numeric), torch.from_numpy(codes)).numpy(), task, target)
