"""Scores challenger, champion and baseline on the same frozen rows, tries the challenger, and judges."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.errors import ModelError
from app.evaluation.behaviour import try_behaviour
from app.evaluation.bootstrap import Draws
from app.evaluation.gates import Evaluation, Verdict, judge
from app.evaluation.metrics import Floats, metrics_of
from app.evaluation.serving_probe import measure_serving
from app.features.training_set import TrainingSet
from app.models.artefact import ServableModel
from app.spec.gates import ServingGate
from app.spec.project import Project


@dataclass(frozen=True)
class Validation:
    """What was measured and what the gates made of it."""

    evaluation: Evaluation
    verdict: Verdict

    @property
    def metrics(self) -> dict[str, dict[str, dict[str, float]]]:
        """By model and metric `{"value", "low", "high"}` (95% bootstrap)."""
        drawn, task = self.evaluation.drawn, self.evaluation.task
        return {model: intervals(drawn, model, metrics_of(task)) for model in self.evaluation.models}


def validate(
    project: Project,
    folder: Path,
    frozen: TrainingSet,
    *,
    champion: ServableModel | None = None,
    baseline: ServableModel | None = None,
) -> Validation:
    """Judges the sealed `folder` by the project's gates on the frozen rows.

    Raises:
        ModelError: a model gave a score that is not a number, or the folder cannot be loaded.
    """
    task = project.label.task
    challenger = ServableModel.load(folder)
    models = {"challenger": challenger, "champion": champion, "baseline": baseline}
    scores = {name: _scores(name, model, frozen) for name, model in models.items() if model is not None}
    wants_serving = any(isinstance(gate, ServingGate) for gate in project.gates)
    with ThreadPoolExecutor(1) as beside:  # the probe is a process of its own: it waits on another core
        inputs = tuple(frozen.feature_names)
        asked = (folder, frozen.frame, scores["challenger"], inputs)
        probing = beside.submit(measure_serving, *asked) if wants_serving else None
        behaviour = try_behaviour(project.gates, challenger.predict, frozen.frame)
        evaluation = Evaluation(
            rows=frozen.frame,
            label=frozen.frame["label"].to_numpy(dtype=np.float64),
            challenger=scores["challenger"],
            champion=scores.get("champion"),
            baseline=scores.get("baseline"),
            behaviour=behaviour,
            serving=None if probing is None else probing.result(),
            task=task,
        )
    return Validation(evaluation, judge(project.gates, evaluation))


def intervals(drawn: Draws, model: str, metrics: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Each metric as `{"value", "low", "high"}` (95% bootstrap)."""
    keys = ("value", "low", "high")
    return {name: dict(zip(keys, drawn.interval(model, name), strict=True)) for name in metrics}


def _scores(name: str, model: ServableModel, frozen: TrainingSet) -> Floats:
    scores = model.predict(frozen.frame)
    wrong = int((~np.isfinite(scores)).sum())
    if wrong:
        raise ModelError(
            f"the {name} gave {wrong:,} of {len(scores):,} frozen rows a score that is not a number. Look at the "
            "inputs it was trained on and at its last loss.",
            model=name, rows=wrong,
        )
    return scores
