"""A run is trained again from its record, on a real Ray, and the same model comes out to the bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.errors import NotReproducedError, TrainingError
from app.pipeline.candidates import Candidate, train_and_judge
from app.pipeline.fit import first_training_rows, first_validation_rows
from app.pipeline.prepare import backfill_features, ingest_sources
from app.pipeline.reproduce import reproduce
from app.pipeline.session import Session, open_session
from app.settings import load_settings
from app.spec.models import Model
from tests.projects.tiny import PROJECT

pytestmark = pytest.mark.usefixtures("ray_head")
MODELS = [PROJECT.model, PROJECT.baseline]


@pytest.fixture(scope="module")
def session(ray_head: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """The tiny project's rows, ingested and materialised."""
    home = tmp_path_factory.mktemp("home")
    settings = load_settings({"MILLRACE_HOME": str(home), "MILLRACE_ALLOW_DIRTY": "1"}, in_job=False)
    session = open_session("tests.projects.tiny:PROJECT", settings=settings)
    session.project = replace(PROJECT, gates=PROJECT.gates[:1])  # what is judged is not what is tested here
    ingest_sources(session)
    backfill_features(session)
    yield session


def trained(session: Session, model: Model, name: str) -> Candidate:
    return train_and_judge(
        session, model, first_training_rows(session), first_validation_rows(session), champion=None, name=name
    )


@pytest.mark.timeout(400)
@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_a_run_is_reproduced_to_the_bit_from_rows_that_are_joined_afresh(session: Session, model: Model) -> None:
    name = f"again-{type(model).__name__}"
    candidate = trained(session, model, name)
    shutil.rmtree(session.settings.home / "training_sets")
    shutil.rmtree(candidate.folder)
    found = reproduce(session, f"{session.run_id}-{name}")
    assert found.outcome == "equal", found.reason
    assert found.comparison.score_difference == 0.0 and found.comparison.num_arrays > 3
    assert not [d for d in found.differences if d.decides]
    assert found.num_rows == candidate.logged.record["train"]["rows"]


@pytest.fixture(scope="module")
def candidate(session: Session) -> Candidate:
    return trained(session, PROJECT.baseline, "other")


@pytest.mark.timeout(400)
def test_another_model_is_told_from_the_recorded_one(session: Session, candidate: Candidate) -> None:
    other = replace(PROJECT.baseline, hyperparameters={**PROJECT.baseline.hyperparameters, "max_iter": 5})
    wrong = trained(session, other, "wrong")
    logged = replace(wrong.logged, record={**candidate.logged.record, "training_run": "forged"},
                     tags={**wrong.logged.tags, "training_run": "forged", "run_id": "forged"})  # fmt: skip
    session.registry.log(PROJECT.name, wrong.folder, logged)
    with pytest.raises(NotReproducedError, match="other weights, though nothing in the record differs"):
        reproduce(session, "forged")


@pytest.mark.timeout(400)
def test_rows_that_are_no_longer_the_same_are_named_before_anything_is_trained(
    session: Session, candidate: Candidate
) -> None:
    record = json.loads(json.dumps(dict(candidate.logged.record), default=str))
    record["train"]["row_hash"] = "0" * 64
    record["training_run"] = "changed"
    tags = {**candidate.logged.tags, "training_run": "changed", "run_id": "changed"}
    session.registry.log(PROJECT.name, candidate.folder, replace(candidate.logged, record=record, tags=tags))
    before = set((session.settings.home / "trained").iterdir())
    with pytest.raises(TrainingError, match="rows with hash 0000000000000000"):
        reproduce(session, "changed")
    assert set((session.settings.home / "trained").iterdir()) == before
