"""Spaces become draws and distributions; importance names what moved the score."""

from __future__ import annotations

import numpy as np
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from app.spec import SearchSpace
from app.training.search import candidates, distributions, importance, scheduler

SPACE = SearchSpace({"rate": (0.01, 1.0, "loguniform"), "depth": (1, 2, 3)}, num_trials=40)


def test_a_random_search_is_the_same_each_time_and_stays_inside_the_space() -> None:
    tried = candidates(SPACE, seed=3)
    assert tried == candidates(SPACE, seed=3) != candidates(SPACE, seed=4)
    assert len(tried) == 40 and {t["depth"] for t in tried} == {1, 2, 3}
    rates = np.array([t["rate"] for t in tried])
    assert ((rates >= 0.01) & (rates <= 1.0)).all() and 0.2 < (rates < 0.1).mean() < 0.8, "even on a log scale"


def test_optuna_gets_the_same_space() -> None:
    found = distributions(SPACE)
    assert (found["rate"].low, found["rate"].high, found["rate"].log) == (0.01, 1.0, True)
    assert found["depth"].choices == (1, 2, 3)


def test_importance_is_that_of_the_parameter_that_moves_the_score() -> None:
    trials = [{"parameters": t, "mean": float(np.log(t["rate"]))} for t in candidates(SPACE, seed=0)]
    found = importance(SPACE, trials)
    assert next(iter(found)) == "rate" and found["rate"] > 0.8 and abs(sum(found.values()) - 1) < 1e-9


def test_too_few_trials_or_equal_scores_tell_nothing() -> None:
    trials = [{"parameters": t, "mean": 1.0} for t in candidates(SPACE, seed=0)]
    assert importance(SPACE, trials) == {} == importance(SPACE, trials[:2])


def test_trials_are_stopped_early_only_where_the_project_says_so() -> None:
    assert isinstance(scheduler(SPACE), FIFOScheduler)
    assert isinstance(scheduler(SearchSpace({"a": (1, 2)}, num_folds=3, scheduler="asha")), ASHAScheduler)
