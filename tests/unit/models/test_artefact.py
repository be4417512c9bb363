"""A model folder answers as what was trained, and refuses to be tampered with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.preprocessing import FunctionTransformer

from app.errors import MissingColumnError, ModelError, SchemaMismatchError, UnknownNameError
from app.models.artefact import Inputs, ServableModel, Target, estimator_matrix
from app.models.export import save_estimator, save_torch
from app.models.registry import LoggedRun, ModelRegistry
from app.models.signature import Signature
from app.models.tabular import residual_mlp
from app.models.transform import Transform
from app.settings import Settings

INPUTS = Inputs(("x", "kind", "y"), ("kind",))


def frame(num_rows: int = 400) -> pd.DataFrame:
    random = np.random.default_rng(3)
    x = random.normal(5, 2, num_rows)
    x[::7] = np.nan
    kind = pd.Series(random.choice(["a", "b", None], num_rows), dtype="str")
    return pd.DataFrame({"x": x, "kind": kind, "y": random.integers(0, 9, num_rows)})


def torch_folder(folder: Path) -> tuple[Path, torch.nn.Module, Transform]:
    transform = Transform.fit(frame(), INPUTS.numeric, INPUTS.categorical)
    torch.manual_seed(0)
    module = residual_mlp(Signature(transform.num_numeric, transform.cardinalities, "binary"), width=16, depth=1)
    return save_torch(folder, module, transform, "binary", INPUTS, frame(), {}), module, transform


def test_a_served_torch_model_equals_the_trained_one(tmp_path: Path) -> None:
    folder, module, transform = torch_folder(tmp_path / "m")
    numeric, codes = transform.apply(frame())
    with torch.no_grad():
        expected = torch.sigmoid(module(torch.from_numpy(numeric), torch.from_numpy(codes))).numpy()
    served = ServableModel.load(folder)
    np.testing.assert_allclose(served.predict(frame()), expected, atol=1e-5)
    np.testing.assert_allclose(served.predict(frame().head(1).to_dict("records")), expected[:1], atol=1e-5)
    assert not any(f.suffix in (".pkl", ".pt") for f in folder.iterdir())


def test_the_transform_of_serving_is_bit_for_bit_that_of_training(tmp_path: Path) -> None:
    transform = Transform.fit(frame(), INPUTS.numeric, INPUTS.categorical)
    transform.save(tmp_path)
    for mine, kept in zip(transform.apply(frame()), Transform.load(tmp_path).apply(frame()), strict=True):
        np.testing.assert_array_equal(mine, kept)


def test_unknown_and_null_categories_share_a_code_and_nulls_are_flagged() -> None:
    transform = Transform.fit(frame(), INPUTS.numeric, INPUTS.categorical)
    numeric, codes = transform.apply(pd.DataFrame({"x": [np.nan, 5.0], "kind": ["new", None], "y": [1, 1]}))
    assert codes.tolist() == [[0], [0]]
    assert transform.flagged == ("x",) and numeric[:, -1].tolist() == [1.0, 0.0] and numeric[0, 0] == 0.0


def test_an_estimator_survives_the_round_trip(tmp_path: Path) -> None:
    words = {"kind": ["a", "b"]}
    matrix = estimator_matrix(frame(), INPUTS, words)
    label = (frame()["y"] > 4).to_numpy(dtype=float)
    fitted = HistGradientBoostingClassifier(max_iter=5, random_state=0, categorical_features=[2]).fit(matrix, label)
    served = ServableModel.load(save_estimator(tmp_path / "m", fitted, "binary", INPUTS, words, {}))
    np.testing.assert_array_equal(served.predict(frame()), fitted.predict_proba(matrix)[:, 1])


def shout(values: np.ndarray) -> np.ndarray:
    return values


def test_an_estimator_with_foreign_code_is_refused(tmp_path: Path) -> None:
    foreign = FunctionTransformer(shout).fit(np.zeros((2, 1)))
    with pytest.raises(ModelError, match="shout"):
        save_estimator(tmp_path / "m", foreign, "regression", INPUTS, {}, {})


def test_a_regression_answers_in_the_unit_of_its_label(tmp_path: Path) -> None:
    transform = Transform.fit(frame(), INPUTS.numeric, INPUTS.categorical)
    module = residual_mlp(Signature(transform.num_numeric, transform.cardinalities, "regression"), width=8, depth=1)
    save_torch(tmp_path / "m", module, transform, "regression", INPUTS, frame(), {}, Target(mean=1_000.0, scale=2.0))
    numeric, codes = transform.apply(frame())
    with torch.no_grad():
        outputs = module(torch.from_numpy(numeric), torch.from_numpy(codes)).numpy()
    np.testing.assert_allclose(ServableModel.load(tmp_path / "m").predict(frame()), 1_000 + 2 * outputs, atol=1e-4)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    folder, *_ = torch_folder(tmp_path / "m")
    (folder / "transform.json").write_text(json.dumps({"numeric": []}))
    with pytest.raises(ModelError, match=r"transform\.json"):
        ServableModel.load(folder)


def test_an_estimator_that_is_written_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = estimator_matrix(frame(), INPUTS, {"kind": ["a", "b"]})
    label = (frame()["y"] > 4).to_numpy(dtype=float)
    fitted, other = (HistGradientBoostingClassifier(max_iter=n).fit(matrix, label) for n in (5, 50))
    words = {"kind": ["a", "b"]}
    same = save_estimator(tmp_path / "same", fitted, "binary", INPUTS, words, {}, matrix)
    assert ServableModel.load(same).metadata["export_difference"] == 0.0
    monkeypatch.setattr("app.models.export.load_estimator", lambda path: other)
    with pytest.raises(ModelError, match="the written model differs"):
        save_estimator(tmp_path / "m", fitted, "binary", INPUTS, words, {}, matrix)
    assert not (tmp_path / "m" / "model.json").exists()


def test_a_missing_or_wrong_column_is_named(tmp_path: Path) -> None:
    served = ServableModel.load(torch_folder(tmp_path / "m")[0])
    with pytest.raises(MissingColumnError, match="kind"):
        served.predict(frame().drop(columns="kind"))
    with pytest.raises(SchemaMismatchError, match="'y'"):
        served.predict(frame().assign(y="much"))


def test_a_registered_version_is_found_by_number_and_alias(settings: Settings, tmp_path: Path) -> None:
    folder, *_ = torch_folder(tmp_path / "m")
    registry = ModelRegistry(settings)
    assert registry.alias("late", "champion") is None

    def register(run_id: str) -> str:
        tags = {"purpose": "t", "run_id": run_id}
        return registry.register("late", folder, LoggedRun({"width": 16}, {"roc_auc": 0.7}, tags, {"seed": 1}))

    version = register("run")
    assert register("run") == version, "a registration that is repeated makes no second version"
    assert register("another run") == "2"
    registry.set_alias("late", "champion", version)
    assert registry.alias("late", "champion") == version == "1"
    with pytest.raises(UnknownNameError, match="'99'"):
        registry.set_alias("late", "champion", "99")
    for no_version in ("", ".", "..", "1/..", "99"):
        with pytest.raises(UnknownNameError):
            registry.folder("late", no_version)
    assert registry.tags("late", version)["purpose"] == "t"
    assert ServableModel.load(registry.folder("late", version)).kind == "torch"
