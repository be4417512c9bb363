"""The verdict on a run that was trained again, and what is told of its surroundings."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import cast

import pytest

from app.models.compare import Comparison
from app.pipeline.reproduce import (
    MAX_MEAN_SCORE_DIFFERENCE,
    Difference,
    decide_outcome,
    environment_differences,
    recorded_model,
)
from app.pipeline.session import Session
from app.spec import ModelScore
from tests.projects.tiny import PROJECT

EQUAL = Comparison(True, 12, (), 0.0, 0.0, 0.0)
NEAR = Comparison(False, 12, ("model.onnx/w",), 1e-4, 1e-2, MAX_MEAN_SCORE_DIFFERENCE / 2)
FAR = Comparison(False, 12, ("model.onnx/w",), 0.5, 0.4, MAX_MEAN_SCORE_DIFFERENCE * 2)
LOCK = Difference("lock", "a", "b")
CPU = Difference("cpu", "a", "b", decides=False)
RECORD = {
    "code_commit": "c1", "code_diff_sha256": None, "lock_sha256": "l1", "python": "3.11.7",
    "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
    "hardware": {"machine": "x86_64", "instruction_set": ["avx2"], "allowed_cpus": 2, "cpu_model": "one"},
}


@pytest.mark.parametrize(
    ("comparison", "differences", "outcome", "told"),
    [
        (EQUAL, (), "equal", "12 arrays are the same to the bit"),
        (EQUAL, (LOCK,), "equal", "same to the bit"),
        (NEAR, (), "different", "though nothing in the record differs"),
        (NEAR, (CPU,), "different", "though nothing in the record differs"),
        (NEAR, (LOCK, CPU), "close", "within tolerance, lock being otherwise"),
        (FAR, (LOCK,), "different", "another model, lock being otherwise"),
    ],
)
def test_the_verdict(
    comparison: Comparison, differences: tuple[Difference, ...], outcome: str, told: str
) -> None:
    found, reason = decide_outcome(comparison, differences)
    assert found == outcome and told in reason


def test_an_unchanged_world_has_no_differences() -> None:
    assert environment_differences(RECORD, RECORD) == ()


@pytest.mark.parametrize(
    ("change", "part", "decides"),
    [
        ({"code_commit": "c2"}, "code commit", True),
        ({"code_diff_sha256": "d"}, "uncommitted difference", True),
        ({"lock_sha256": "l2"}, "lock", True),
        ({"versions": {**RECORD["versions"], "torch": "2.14.0"}}, "library torch", True),  # type: ignore[dict-item]
        ({"hardware": {**RECORD["hardware"], "instruction_set": ["avx512f"]}}, "hardware instruction_set", True),  # type: ignore[dict-item]
        ({"hardware": {**RECORD["hardware"], "cpu_model": "two"}}, "cpu", False),  # type: ignore[dict-item]
    ],
)
def test_each_part_of_the_record_is_compared(change: dict[str, object], part: str, decides: bool) -> None:
    (found,) = environment_differences(RECORD, {**RECORD, **change})
    assert (found.part, found.decides) == (part, decides) and found.recorded != found.now


def test_the_scores_of_other_models_are_those_of_the_recorded_versions() -> None:
    declared = replace(PROJECT.baseline, scores=(ModelScore("base"),))
    session = cast(Session, SimpleNamespace(project=replace(PROJECT, baseline=declared)))
    then = replace(declared, scores=(ModelScore("base", "4"),), inputs=("base_score",))
    config = {k: v for k, v in asdict(then).items() if k != "service"}
    record = {"model": {"name": declared.name, "class": "SklearnModel"}, "config": json.loads(json.dumps(config))}
    assert recorded_model(session, record) == then
