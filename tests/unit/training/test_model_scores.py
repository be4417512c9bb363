"""Other models' scores as features: versions are resolved once, rows they learned from are not used unseen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import MissingColumnError, ProjectError, TrainingError, UnknownNameError
from app.models.artefact import ServableModel
from app.models.registry import LoggedRun, ModelRegistry
from app.settings import Settings
from app.spec import ModelScore, SklearnModel
from app.training.arrays import inputs_of
from app.training.model_scores import ScoreColumn, add_scores, resolve_scores, with_versions
from tests.cluster.training_rows import TREES, project, rows
from tests.unit.models.test_artefact import torch_folder
from tests.unit.models.test_embedded_score import rows as model_rows
from tests.unit.models.test_embedded_score import stack

FEATURES = ("x", "kind", "y")
LEARNED = {"train": {"stretches": [{"start": "2020-01-01T00:00:00+00:00", "end": "2020-01-01T10:00:00+00:00"}]}}


def register(settings: Settings, folder: Path, record: dict[str, Any]) -> str:
    return ModelRegistry(settings).register("base", folder, LoggedRun(tags={"run_id": str(record)}, record=record))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return torch_folder(tmp_path_factory.mktemp("base") / "m")[0]


def column(settings: Settings, base: Path, learned_rows: Any, record: dict[str, Any] = LEARNED) -> list[ScoreColumn]:
    score = ModelScore("base", register(settings, base, record), learned_rows=learned_rows)
    return resolve_scores([score], FEATURES, settings)


def training_rows() -> Any:
    made = rows(1_000)
    return replace(made, frame=made.frame.assign(y=1), feature_names=FEATURES)


def test_an_alias_becomes_the_version_it_means_now(settings: Settings, base: Path) -> None:
    first = register(settings, base, LEARNED)
    ModelRegistry(settings).set_alias("base", "champion", first)
    model = replace(TREES, scores=(ModelScore("base"),))
    columns = resolve_scores(model.scores, FEATURES, settings)
    ModelRegistry(settings).set_alias("base", "champion", register(settings, base, {}))
    assert with_versions(model, columns).scores == (ModelScore("base", first),)
    assert columns[0].embedded.column == "base_score" and columns[0].embedded.version == first


@pytest.mark.parametrize("version", ["champion", "7"])
def test_a_model_that_is_not_registered_is_named(settings: Settings, version: str) -> None:
    with pytest.raises(UnknownNameError, match="'nobody' has no"):
        resolve_scores([ModelScore("nobody", version)], FEATURES, settings)


def test_a_feature_that_the_other_model_needs_must_be_there(settings: Settings, base: Path) -> None:
    version = register(settings, base, LEARNED)
    with pytest.raises(MissingColumnError, match="needs kind, y, which these rows have not"):
        resolve_scores([ModelScore("base", version)], ("x",), settings)


def test_rows_it_learned_from_are_refused_dropped_or_allowed(settings: Settings, base: Path) -> None:
    made = training_rows()
    with pytest.raises(TrainingError, match=r"learned from 600 of the 1,000 rows .*2020-01-01 00:00 to 2020-01-01 10"):
        add_scores(made, column(settings, base, "refuse"), "at")
    dropped = add_scores(made, column(settings, base, "drop"), "at").frame
    assert len(dropped) == 400 and dropped["at"].min() == made.frame["at"][600]
    assert dropped.index.tolist() == list(range(400))
    expected = ServableModel.load(base).predict(made.frame.tail(400))
    np.testing.assert_array_equal(dropped["base_score"], expected)
    assert len(add_scores(made, column(settings, base, "allow"), "at").frame) == 1_000


def test_without_a_record_a_leak_cannot_be_ruled_out(settings: Settings, base: Path) -> None:
    with pytest.raises(TrainingError, match="has no record of the rows it learned from"):
        add_scores(training_rows(), column(settings, base, "drop", record={}), "at")
    assert len(add_scores(training_rows(), column(settings, base, "allow", record={}), "at").frame) == 1_000


def test_a_model_of_scores_is_a_models_score_too(settings: Settings, base: Path, tmp_path: Path) -> None:
    stacked = stack(tmp_path / "m", base)
    version = register(settings, stacked, LEARNED)
    columns = resolve_scores([ModelScore("base", version, "high", "allow")], ("z", "x", "kind", "y"), settings)
    made = replace(training_rows(), frame=model_rows().assign(label=1), feature_names=("z", "x", "kind", "y"))
    np.testing.assert_array_equal(add_scores(made, columns, "at").frame["high"], ServableModel.load(stacked).predict(
        model_rows()))  # fmt: skip


def test_a_model_reads_the_inputs_it_names() -> None:
    model = replace(TREES, scores=(ModelScore("base"),))
    assert inputs_of(model, rows(10)).feature_names == ("x", "kind", "base_score")
    only = inputs_of(replace(model, inputs=("base_score",)), rows(10))
    assert (only.feature_names, only.categorical) == (("base_score",), ())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scores": (ModelScore("toy"),)}, "this project's own model"),
        ({"scores": (ModelScore("base"), ModelScore("base", "2"))}, "two inputs named 'base_score'"),
        ({"scores": (ModelScore("base"),), "categorical": ("base_score",)}, "scores are numbers"),
        ({"inputs": ("elsewhere",)}, "reads 'elsewhere'"),
        ({"scores": (ModelScore("base"), ModelScore("other")), "inputs": ("base_score",)}, "leaves out other_score"),
        ({"inputs": ()}, "leaves out everything"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(changed: dict[str, Any], message: str) -> None:
    model: SklearnModel = replace(TREES, **changed)
    with pytest.raises(ProjectError, match=message):
        replace(project(), baseline=model)
