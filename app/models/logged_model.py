"""What MLflow shows of a model version: its signature as an `MLmodel` file, and its lineage as tags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from app.models.artefact import ServableModel

SIGNATURE_FILE = "MLmodel"


def write_signature(path: Path, model: ServableModel, sample: pd.DataFrame, run_id: str) -> None:
    """Writes the inputs with the types they have in `sample`, and the score, in MLflow's own form.

    Every input may be null, so none is required. Only the schema is written: the folder is loaded by Millrace, from
    files that hold no pickle.
    """
    from mlflow.models import Model, ModelSignature  # two seconds that only a registration pays
    from mlflow.types import ColSpec, DataType, Schema

    inputs: list[Any] = [ColSpec(_type(sample[name].dtype), name, required=False) for name in model.feature_names]
    signature = ModelSignature(Schema(inputs), Schema([ColSpec(DataType.double, "score")]))
    Model(artifact_path=path.parent.name, run_id=run_id, signature=signature).save(str(path))


def lineage_tags(record: Mapping[str, Any]) -> dict[str, str]:
    """Short facts of a run's record to find a version by: code, lock, rows, snapshots, versions of views.

    Where several stretches were put together that read different snapshots, all are named, oldest first.
    """
    tags = {
        "code_commit": str(record.get("code_commit", "unknown")),
        "code_dirty": str(record.get("code_dirty")),
        "lock_sha256": str(record.get("lock_sha256", "unknown")),
    }
    if record.get("code_diff_sha256"):
        tags["code_diff_sha256"] = str(record["code_diff_sha256"])
    for part in ("train", "frozen"):
        if part in record:
            tags[f"{part}_row_hash"] = str(record[part]["row_hash"])
    for score in record.get("training", {}).get("scores", ()):
        tags[f"score.{score['column']}"] = f"{score['model']} version {score['version']}"
    found: dict[str, list[str]] = {}
    for name, value in _facts(record.get("train", {})):
        if value not in found.setdefault(name, []):
            found[name].append(value)
    return {**tags, **{name: ", ".join(values) for name, values in found.items()}}


def _facts(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for stretch in manifest.get("stretches", [manifest] if "views" in manifest else []):
        for part in ("cases", "labels"):
            yield f"snapshot.{part}", str(stretch[part]["snapshot_id"])
        for label, view in stretch["views"].items():
            yield f"snapshot.{label}", str(view["snapshot_id"])
            yield f"view.{label}", f"v{view['version']}"


def _type(dtype: Any) -> Any:
    from mlflow.types import DataType

    if pd.api.types.is_bool_dtype(dtype):
        return DataType.boolean
    if pd.api.types.is_integer_dtype(dtype):
        return DataType.long
    if pd.api.types.is_float_dtype(dtype):
        return DataType.double
    return DataType.datetime if pd.api.types.is_datetime64_any_dtype(dtype) else DataType.string
