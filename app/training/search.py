"""What a sweep tries next, when it gives up on a trial, and which parameter mattered."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ray
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from app.spec.models import SearchSpace

SCALES = ("uniform", "loguniform")
SCORE, PROGRESS = "mean", "folds"  # what trials report: lower is better, and after how many folds
MIN_TRIALS_FOR_IMPORTANCE = 4


def candidates(search: SearchSpace, seed: int) -> list[dict[str, Any]]:
    """What the trials of a random search try, drawn with a seed so that a sweep can be repeated.

    >>> candidates(SearchSpace({"width": (8, 16)}, num_trials=2), seed=0)
    [{'width': 16}, {'width': 16}]
    """
    random = np.random.default_rng(seed)
    return [
        {name: _draw(values, random) for name, values in search.parameters.items()} for _ in range(search.num_trials)
    ]


def optuna_search(search: SearchSpace, seed: int) -> OptunaSearch:
    """Tree-structured Parzen estimators. What it asks next depends on what has finished, so on timing too.

    Source: Bergstra et al., "Algorithms for Hyper-Parameter Optimization" (2011).
    """
    return OptunaSearch(space=distributions(search), metric=SCORE, mode="min", seed=seed)


def distributions(search: SearchSpace) -> dict[str, Any]:
    """The space in Optuna's terms."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    found: dict[str, Any] = {}
    for name, values in search.parameters.items():
        if is_range(values):
            found[name] = FloatDistribution(float(values[0]), float(values[1]), log=values[2] == "loguniform")
        else:
            found[name] = CategoricalDistribution(values)
    return found


def scheduler(search: SearchSpace) -> TrialScheduler:
    """After each fold ASHA stops those trials that are not among the best `1 / reduction_factor` at that fold so far.

    A trial that is stopped gives its CPU back at once.
    Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning" (2020).
    """
    if search.scheduler == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    return ASHAScheduler(
        time_attr=PROGRESS, max_t=search.num_folds, grace_period=1, reduction_factor=search.reduction_factor
    )


def num_concurrent_trials(num_trials: int) -> int:
    """As many as the cluster has CPUs free for, and cores: a laptop may offer Ray more CPUs than it has cores."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    cores = (os.cpu_count() or 1) * len(nodes)  # nodes are taken to be like this one
    return max(1, min(num_trials, int(resources.get("CPU", 1)), cores))


def importance(search: SearchSpace, trials: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Share of the variance of the score that each parameter explains, largest first; sums to 1.

    Read from a forest over the finished trials; empty where there are too few to tell, or all scored the same.

    Source: Hutter, Hoos, Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance" (2014), fANOVA.
    """
    scores = [trial[SCORE] for trial in trials]
    if len(trials) < MIN_TRIALS_FOR_IMPORTANCE or math.isclose(min(scores), max(scores)):
        return {}
    import optuna  # seconds that only a finished sweep pays
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    space = distributions(search)
    for trial in trials:
        study.add_trial(
            optuna.trial.create_trial(params=dict(trial["parameters"]), distributions=space, value=trial[SCORE])
        )
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {name: float(share) for name, share in found.items()}


def is_range(values: tuple[Any, ...]) -> bool:
    """Whether these are `(low, high, scale)`, not choices."""
    return len(values) == 3 and values[2] in SCALES


def _draw(values: tuple[Any, ...], random: np.random.Generator) -> Any:
    if not is_range(values):
        return values[int(random.integers(len(values)))]
    low, high, scale = values
    if scale == "uniform":
        return float(random.uniform(low, high))
    return float(np.exp(random.uniform(np.log(low), np.log(high))))
