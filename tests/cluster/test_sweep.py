"""Sweeps on a real Ray: trials that fall behind stop early, and a sweep that was killed goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from app.settings import Settings
from app.spec import Project, SearchSpace
from app.training.sweep import sweep
from tests.cluster.counting_trees import LEDGER
from tests.unit.evaluation.small_project import TREES, small_project, small_rows

RATES = (1e-4, 2e-4, 0.1, 0.2)  # the first two hardly learn


def project(folder: Path, search: SearchSpace, pause_s: float = 0.0) -> Project:
    hyperparameters = {"folder": str(folder), "pause_s": pause_s, "max_iter": 10}
    model = replace(TREES, factory="tests.cluster.counting_trees:counting_trees", hyperparameters=hyperparameters)
    return replace(small_project(), model=model, search=search)


def fits(folder: Path) -> Counter[str]:
    """How often each learning rate was tried on a fold."""
    path = folder / LEDGER
    return Counter(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else Counter()


def test_optuna_and_asha_find_a_rate_that_learns_and_stop_those_that_do_not(
    ray_head: None, settings: Settings, tmp_path: Path
) -> None:
    search = SearchSpace({"learning_rate": RATES}, 10, num_folds=3, algorithm="optuna", scheduler="asha")
    found = sweep(project(tmp_path, search), small_rows(600), settings, "o")
    assert found.best["learning_rate"] in (0.1, 0.2)
    assert len(found.trials) == 10 and found.trials[0]["folds"] == 3
    stopped = [trial for trial in found.trials if trial["folds"] < 3]
    assert stopped and found.trials[-len(stopped) :] == stopped
    assert sum(fits(tmp_path).values()) == sum(trial["folds"] for trial in found.trials)
    best = found.trials[0]
    assert best["low"] < best["mean"] < best["high"]


@pytest.mark.full
def test_a_sweep_killed_midway_keeps_the_trials_that_were_done(
    ray_head: None, settings: Settings, tmp_path: Path
) -> None:
    script = tmp_path / "killed.py"
    script.write_text(
        "import sys, ray\n"
        "from pathlib import Path\n"
        "from app.settings import load_settings\n"
        "from tests.cluster.test_sweep import SEARCH, project, small_rows, sweep\n"
        "ray.init(address='local', num_cpus=1, include_dashboard=False, log_to_driver=False)\n"
        "sweep(project(Path(sys.argv[1]), SEARCH, 6.0), small_rows(600), load_settings(), 'k')\n"
    )
    environment = {**os.environ, "MILLRACE_HOME": str(settings.home), "PYTHONPATH": os.getcwd()}
    environment.pop("RAY_ADDRESS", None)
    running = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env=environment, start_new_session=True)
    state = settings.runs / "sweep-k"
    wait_until(lambda: sum(fits(tmp_path).values()) >= 3 and bool(list(state.glob("experiment_state*"))))
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    before = fits(tmp_path)
    found = sweep(project(tmp_path, SEARCH), small_rows(600), settings, "k")
    assert len(found.trials) == len(RATES)
    again = sum((fits(tmp_path) - before).values())
    assert 0 < again < len(RATES), "the trials that had finished were not tried again"


SEARCH = SearchSpace({"learning_rate": RATES}, len(RATES), num_folds=1)


def wait_until(done: object, within_s: float = 120.0) -> None:
    deadline = time.monotonic() + within_s
    while not done():  # type: ignore[operator]
        assert time.monotonic() < deadline, "the sweep did not get going"
        time.sleep(0.1)
