"""A model as a folder without pickle: what it takes, its transform, its weights, and a hash of every file.

model.json       kind, task, inputs, hashes, metadata
transform.json   the fitted transform (torch models)
model.onnx       a torch model, served    model.safetensors   its weights as trained, to go on from
model.skops      a scikit-learn estimator
scores/<column>/ a whole folder of another model, whose score is an input of this one
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pandas as pd

from app.errors import MissingColumnError, ModelError
from app.models.row_transform import MAX_ROWS, RowTransform
from app.models.transform import Transform, category_text, numeric_matrix
from app.spec.models import Task

SCORES = "scores"  # in the manifest and as a folder
MANIFEST, ONNX, SKOPS, WEIGHTS = "model.json", "model.onnx", "model.skops", "model.safetensors"
# What scikit-learn's estimators hold beyond what skops itself trusts; each was read and does nothing but compute.
TRUSTED_TYPES = frozenset(
    {
        "functools.partial",  # skops asks for the function inside by its own name
        "numpy.dtype",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.tree._tree.Tree",
        "sklearn.utils.validation.check_array",
    }
)
EXPORT_TOLERANCE = 1e-5
EXPORT_DIFFERENCE = "export_difference"  # metadata: largest difference of what was written from what was trained
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Inputs:
    """Columns a model reads, in order; `categorical` is a part of `feature_names`."""

    feature_names: tuple[str, ...]
    categorical: tuple[str, ...]

    @property
    def numeric(self) -> tuple[str, ...]:
        """The columns that are not categorical."""
        return tuple(n for n in self.feature_names if n not in self.categorical)


@dataclass(frozen=True)
class Target:
    """The scale a network learned the label on: `(label - mean) / scale`. Binary labels are as they are."""

    mean: float = 0.0
    scale: float = 1.0


def seal(folder: Path, kind: str, task: Task, inputs: Inputs, metadata: Mapping[str, Any]) -> None:
    """Writes `model.json` last: a folder without it is not a model."""
    manifest = {
        "kind": kind,
        "task": task,
        "feature_names": list(inputs.feature_names),
        "categorical": list(inputs.categorical),
        "sha256": file_hashes(folder),
        "metadata": dict(metadata),
    }
    write_manifest(folder, manifest)


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a folder but its own manifest, by its path within."""
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f != folder / MANIFEST)
    return {f.relative_to(folder).as_posix(): _sha256(f) for f in files}


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes `model.json` whole."""
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, default=str))


def estimator_matrix(frame: pd.DataFrame, inputs: Inputs, vocabularies: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Rows for an estimator: numbers as they are, categories as codes with NaN for unknown and null [B, F + C]."""
    numbers = numeric_matrix(frame, inputs.numeric)
    codes = [
        category_text(frame[name])
        .map({text: i for i, text in enumerate(vocabularies[name])})
        .to_numpy(dtype=np.float64)
        for name in inputs.categorical
    ]
    return np.column_stack([numbers, *codes]) if codes else numbers


class ServableModel:
    """A loaded model folder: rows in, one score per row out."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.kind: str = manifest["kind"]
        self.task: Task = manifest["task"]
        self.metadata: dict[str, Any] = manifest["metadata"]
        self.inputs = Inputs(tuple(manifest["feature_names"]), tuple(manifest["categorical"]))
        self.scored_by = {
            score["column"]: ServableModel.load(folder / score["folder"]) for score in manifest.get(SCORES, ())
        }
        own = [name for name in self.inputs.feature_names if name not in self.scored_by]
        theirs = [name for model in self.scored_by.values() for name in model.feature_names]
        self._feature_names = tuple(dict.fromkeys((*own, *theirs)))
        if self.kind == "torch":
            self._transform = Transform.load(folder)
            self._row_transform = RowTransform(self._transform)
            self._session = onnx_session(folder / ONNX)
            self._wanted = frozenset(i.name for i in self._session.get_inputs())
            self._target = Target(**self.metadata["target"])
        else:
            self._estimator = load_estimator(folder / SKOPS)

    @classmethod
    def load(cls, folder: Path) -> ServableModel:
        """Loads a folder after checking the hash of every file.

        Raises:
            ModelError: no model there, a file is missing or was changed, or it holds types that are not trusted.
        """
        folder = Path(folder)
        if not (folder / MANIFEST).exists():
            raise ModelError(f"{folder} holds no model: {MANIFEST} is missing.", folder=str(folder))
        manifest = json.loads((folder / MANIFEST).read_text())
        for name, expected in manifest["sha256"].items():
            if not (folder / name).exists() or _sha256(folder / name) != expected:
                raise ModelError(
                    f"{folder / name} is missing or not the file that was sealed (its SHA-256 differs). Fetch the "
                    "version again from the registry.",
                    file=name,
                )
        return cls(folder, manifest)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Columns a caller must give: those the model reads and those of the models whose scores it reads."""
        return self._feature_names

    def predict(self, rows: pd.DataFrame | list[dict[str, Any]]) -> Scores:
        """Scores [B]: the probability of 1 (binary) or the value (regression).

        Raises:
            MissingColumnError: the rows lack an input of the model.
        """
        if self.scored_by:
            rows = self._with_scores(rows)
        if isinstance(rows, list) and self.kind == "torch" and 0 < len(rows) <= MAX_ROWS:
            scores = self._predict_few(rows)
            if scores is not None:
                return scores
        frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
        lacking = [n for n in self.inputs.feature_names if n not in frame.columns]
        if lacking:
            raise MissingColumnError(f"the model needs {', '.join(lacking)}, which the rows lack.", column=lacking[0])
        if len(frame) == 0:
            return np.zeros(0)
        if self.kind == "torch":
            numeric, codes = self._transform.apply(frame)
            return to_scores(run_onnx(self._session, numeric, codes), self.task, self._target)
        matrix = estimator_matrix(frame, self.inputs, self.metadata["vocabularies"])
        if self.task == "binary":
            return np.asarray(self._estimator.predict_proba(matrix)[:, 1], dtype=np.float64)
        return np.asarray(self._estimator.predict(matrix), dtype=np.float64)

    def _with_scores(self, rows: pd.DataFrame | list[dict[str, Any]]) -> pd.DataFrame | list[dict[str, Any]]:
        """The rows with the other models' scores, whatever a caller may have sent under their names."""
        scores = {column: model.predict(rows) for column, model in self.scored_by.items()}
        if isinstance(rows, pd.DataFrame):
            return rows.assign(**scores)
        by_row = zip(*(values.tolist() for values in scores.values()), strict=True)
        return [{**row, **dict(zip(scores, values, strict=True))} for row, values in zip(rows, by_row, strict=True)]

    def _predict_few(self, rows: list[dict[str, Any]]) -> Scores | None:
        """Scores of a few rows without a frame; `None` where only a frame will do."""
        names = self.inputs.feature_names
        if not all(name in row for row in rows for name in names):
            return None
        arrays = self._row_transform.apply(rows)
        if arrays is None:
            return None
        given = {name: array for name, array in zip(("numeric", "codes"), arrays, strict=True) if name in self._wanted}
        return to_scores(np.asarray(self._session.run(None, given)[0]), self.task, self._target)


def to_scores(outputs: npt.NDArray[Any], task: Task, target: Target) -> Scores:
    """Network outputs [B] as scores: a sigmoid for binary tasks, else in the label's unit."""
    values = outputs.astype(np.float64)
    return 1.0 / (1.0 + np.exp(-values)) if task == "binary" else values * target.scale + target.mean


def run_onnx(session: onnxruntime.InferenceSession, numeric: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Raw outputs [B] of an exported network; inputs a network does not use are not asked for."""
    wanted = {i.name for i in session.get_inputs()}
    given = {"numeric": numeric, "codes": codes}
    return np.asarray(session.run(None, {k: v for k, v in given.items() if k in wanted})[0])


def onnx_session(path: Path) -> onnxruntime.InferenceSession:
    """An exported network on one thread of the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # replicas scale, not threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def load_estimator(path: Path) -> Any:
    """A scikit-learn estimator from its skops file.

    Raises:
        ModelError: it holds types that are not trusted.
    """
    import skops.io  # brings all of scikit-learn and torch: seconds that a replica of an ONNX model need not pay

    types = skops.io.get_untrusted_types(file=path)
    foreign = [t for t in types if t not in TRUSTED_TYPES]
    if foreign:
        raise ModelError(
            f"{path} holds types that are not trusted: {', '.join(foreign)}. Use another estimator, or read what "
            "they do and add them to TRUSTED_TYPES in app/models/artefact.py.",
            types=foreign,
        )
    return skops.io.load(path, trusted=types)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
