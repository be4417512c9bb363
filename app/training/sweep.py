"""Sweeps a search space with Ray Tune over time-ordered folds: each score is a validation on the future."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, replace
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
from app.training.steps import train_in_process

if TYPE_CHECKING:
    from app.features.training_set import TrainingSet  # heavy; workers never need it

TUNABLE = ("learning_rate", "weight_decay", "batch_size", "epochs")
SCORED_BY = {"binary": "log_loss", "regression": "mse"}
REPORTED = ("mean", "low", "high", "spread")
NUM_RESAMPLES = 100


@dataclass(frozen=True)
class SweepResult:
    """`best`: the parameters with the lowest mean score.

    `trials`: all, best first: `parameters`, `mean` over folds with its 95% interval `low`, `high` (rows resampled
    within folds), `spread` (standard deviation over folds).
    """

    best: dict[str, Any]
    trials: list[dict[str, Any]]


def with_parameters(model: Model, best: dict[str, Any]) -> Model:
    """The declared model with these parameters: its own fields, else hyperparameters of its factory."""
    own = {k: v for k, v in best.items() if k in TUNABLE and isinstance(model, TorchModel)}
    hyper = {k: v for k, v in best.items() if k not in own}
    return replace(model, **own, hyperparameters={**model.hyperparameters, **hyper})


def candidates(search: SearchSpace, seed: int) -> list[dict[str, Any]]:
    """What the trials try, drawn with a seed so that a sweep can be repeated.

    >>> candidates(SearchSpace({"width": (8, 16)}, num_trials=2), seed=0)
    [{'width': 16}, {'width': 16}]
    """
    random = np.random.default_rng(seed)
    return [
        {name: _draw(values, random) for name, values in search.parameters.items()} for _ in range(search.num_trials)
    ]


def sweep(project: Project, rows: TrainingSet, settings: Settings, run_id: str) -> SweepResult:
    """Tries the project's search space on the most recent rows of a training set.

    Raises:
        TrainingError: the rows cannot be learned from, or every trial failed.
    """
    search = project.search
    assert search is not None, "the caller checks that the project declares a search space"
    check_trainable(rows.frame, project.label.task, f"sweep of {project.model.name!r}")
    frame = rows.frame.tail(search.max_rows).reset_index(drop=True)
    times = frame[project.cases.prediction_timestamp].astype("datetime64[us, UTC]").astype("int64").to_numpy()
    folds = time_ordered_folds(times, search.num_folds)
    tried = candidates(search, project.model.seed)
    trainable = tune.with_parameters(
        _trial,
        model=project.model,
        task=project.label.task,
        frame=frame,
        folds=folds,
        tried=tried,
        inputs=inputs_of(project.model, rows),
        epochs=search.epochs,
    )
    logging.getLogger("ray.tune").setLevel(logging.WARNING)
    results = tune.Tuner(
        tune.with_resources(trainable, {"CPU": 1}),
        param_space={"number": tune.grid_search(list(range(len(tried))))},
        tune_config=tune.TuneConfig(max_concurrent_trials=2, metric="mean", mode="min"),
        run_config=tune.RunConfig(name=f"sweep-{run_id}", storage_path=str(settings.runs), verbose=0),
    ).fit()
    trials = [
        {"parameters": tried[r.config["number"]], **{k: float(r.metrics[k]) for k in REPORTED}}
        for r in map(results.__getitem__, range(len(results)))
        if r.error is None and r.metrics and r.config
    ]
    if not trials:
        raise TrainingError(f"all {len(tried)} trials of the sweep failed; the first: {results.errors[:1]}")
    shutil.rmtree(settings.runs / f"sweep-{run_id}", ignore_errors=True)  # Tune's own state; the results are returned
    trials.sort(key=lambda trial: (trial["mean"], str(trial["parameters"])))
    return SweepResult(dict(trials[0]["parameters"]), trials)


def _trial(
    config: dict[str, Any],
    *,
    model: Model,
    task: Task,
    frame: pd.DataFrame,
    folds: list[Fold],
    tried: list[dict[str, Any]],
    inputs: Inputs,
    epochs: int,
) -> None:
    torch.set_num_threads(1)

    tuned = with_parameters(model, tried[config["number"]])
    tune.report(summarise([score_fold(tuned, task, frame, fold, inputs, epochs) for fold in folds]))


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


def _draw(values: tuple[Any, ...], random: np.random.Generator) -> Any:
    if len(values) == 3 and values[2] in ("uniform", "loguniform"):
        low, high, kind = values
        if kind == "uniform":
            return float(random.uniform(low, high))
        return float(np.exp(random.uniform(np.log(low), np.log(high))))
    return values[int(random.integers(len(values)))]
