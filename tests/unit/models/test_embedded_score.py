"""A model that reads another's score holds that model, asks it itself, and is checked whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from app.errors import MissingColumnError, ModelError
from app.models.artefact import Inputs, ServableModel, estimator_matrix
from app.models.compare import compare_models
from app.models.embedded_score import EmbeddedScore, embed_scores
from app.models.export import save_estimator
from app.models.registry import seal_of
from tests.unit.models.test_artefact import frame, torch_folder

OWN = Inputs(("z", "base_score"), ())


def rows() -> pd.DataFrame:
    return frame().assign(z=np.linspace(-1, 1, len(frame())))


def stack(folder: Path, base: Path, slope: float = 2.0) -> Path:
    """An estimator on `z` and the score of `base`, sealed with `base` inside."""
    scored = rows().assign(base_score=ServableModel.load(base).predict(rows()))
    matrix = estimator_matrix(scored, OWN, {})
    wanted = scored["z"] + slope * scored["base_score"]
    fitted = LogisticRegression().fit(matrix, wanted > wanted.median())
    save_estimator(folder, fitted, "binary", OWN, {}, {})
    embed_scores(folder, [EmbeddedScore("base_score", "base", "3", seal_of(base), "scores/base_score")], [base], rows())
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return torch_folder(tmp_path_factory.mktemp("base") / "m")[0]


@pytest.fixture(scope="module")
def stacked(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stack(tmp_path_factory.mktemp("stack") / "m", base)


def test_callers_give_what_both_models_read_and_never_the_score(stacked: Path) -> None:
    model = ServableModel.load(stacked)
    assert model.feature_names == ("z", "x", "kind", "y")
    for lacking in model.feature_names:
        with pytest.raises(MissingColumnError, match=lacking):
            model.predict(rows().drop(columns=lacking))


def test_a_frame_a_few_rows_and_many_rows_are_answered_alike(stacked: Path) -> None:
    model = ServableModel.load(stacked)
    whole = model.predict(rows())
    assert whole.std() > 0.01
    records = rows().to_dict("records")
    np.testing.assert_allclose(model.predict(records[:5]), whole[:5], atol=1e-6)
    np.testing.assert_allclose(model.predict(records), whole, atol=1e-6)


def test_a_score_that_a_caller_sends_is_not_believed(stacked: Path) -> None:
    model = ServableModel.load(stacked)
    np.testing.assert_array_equal(model.predict(rows().assign(base_score=1e6)), model.predict(rows()))


def test_a_changed_file_of_the_model_inside_is_refused(stacked: Path, base: Path, tmp_path: Path) -> None:
    folder = stack(tmp_path / "m", base)
    (folder / "scores" / "base_score" / "transform.json").write_text("{}")
    with pytest.raises(ModelError, match=r"scores/base_score/transform\.json"):
        ServableModel.load(folder)


def test_stacks_stand_on_stacks(stacked: Path, tmp_path: Path) -> None:
    higher = ServableModel.load(stack(tmp_path / "m", stacked, slope=-2.0))
    assert higher.feature_names == ("z", "x", "kind", "y")
    assert np.isfinite(higher.predict(rows())).all()


def test_a_comparison_sees_the_weights_of_the_model_inside(stacked: Path, base: Path, tmp_path: Path) -> None:
    same = compare_models(stacked, stack(tmp_path / "same", base), rows())
    assert same.equal and same.num_arrays > 5, same.differing
    folder = stack(tmp_path / "other", base)
    manifest = json.loads((folder / "model.json").read_text())
    manifest["scores"][0]["version"] = "4"
    (folder / "model.json").write_text(json.dumps(manifest))
    assert compare_models(stacked, folder, rows()).differing == ("model.json/scores",)
