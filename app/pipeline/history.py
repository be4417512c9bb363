"""Labelled rows of past stretches, joined once and kept as files beside their manifest.

A stretch is joined with every label ingested by then and cut by label availability when it is read, so the loop
never joins the same rows twice and a training set for `T` still sees only what was known by `T`. Labels ingested
after a stretch was joined are not in it: a new run joins afresh.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import pandas as pd

from app.features.training_set import LABEL_AVAILABLE, TrainingSet, training_set
from app.pipeline.session import Session


def labelled_rows(session: Session, boundaries: Sequence[datetime], available_by: datetime) -> TrainingSet:
    """Cases of `[boundaries[0], boundaries[-1])` whose label was available by `available_by`.

    Args:
        session: the open session.
        boundaries: increasing moments; each stretch between two is joined and kept on its own.
        available_by: labels that became available later do not exist yet.

    Returns:
        The rows in time order with a manifest that lists each stretch and the hash of the rows left.
    """
    return _cut([_stretch(session, a, b) for a, b in pairwise(boundaries)], available_by)


def rows_again(session: Session, manifest: Mapping[str, Any]) -> TrainingSet:
    """The rows an earlier manifest tells of, joined afresh from the snapshots it names.

    Raises:
        UnknownNameError: a snapshot is gone.
    """
    parts = [
        training_set(
            session.project, session.store, session.lake, datetime.fromisoformat(stretch["start"]),
            datetime.fromisoformat(stretch["end"]), available_by=None, pinned=stretch,
        )
        for stretch in manifest["stretches"]
    ]
    return _cut(parts, datetime.fromisoformat(manifest["available_by"]))


def _cut(parts: Sequence[TrainingSet], available_by: datetime) -> TrainingSet:
    """Stretches put together, without labels that became available after `available_by`."""
    frame = pd.concat([part.frame for part in parts], ignore_index=True)
    frame = frame[frame[LABEL_AVAILABLE] <= pd.Timestamp(available_by)].reset_index(drop=True)
    manifest = {
        "stretches": [part.manifest for part in parts],
        "available_by": available_by.isoformat(),
        "rows": len(frame),
        "row_hash": _row_hash(frame),
    }
    return TrainingSet(frame, parts[0].feature_names, parts[0].categorical, manifest)


def _stretch(session: Session, start: datetime, end: datetime) -> TrainingSet:
    folder = session.settings.home / "training_sets" / session.run_id
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{start:%Y%m%dT%H%M}-{end:%Y%m%dT%H%M}"
    rows, record = path.with_suffix(".parquet"), path.with_suffix(".json")
    if record.exists():  # written last: it vouches for the rows
        kept = json.loads(record.read_text())
        return TrainingSet(
            pd.read_parquet(rows), tuple(kept["feature_names"]), tuple(kept["categorical"]), kept["manifest"]
        )
    joined = training_set(session.project, session.store, session.lake, start, end, available_by=None)
    joined.frame.to_parquet(rows)
    kept = {
        "feature_names": list(joined.feature_names),
        "categorical": list(joined.categorical),
        "manifest": joined.manifest,
    }
    record.write_text(json.dumps(kept, default=str))
    return joined


def _row_hash(frame: pd.DataFrame) -> str:
    """SHA-256 over the hashes of the rows, in order."""
    hashes = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    return hashlib.sha256(hashes.tobytes()).hexdigest()
