"""Puts the models whose scores a model reads into its own folder, so that it needs no other to be served."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from app.errors import ModelError
from app.models.artefact import MANIFEST, SCORES, ServableModel, file_hashes, write_manifest


@dataclass(frozen=True)
class EmbeddedScore:
    """Which version of which model gives a column. `seal`: the hash of its manifest, which holds those of its files."""

    column: str
    model: str
    version: str
    seal: str
    folder: str


def embed_scores(
    folder: Path, scores: Sequence[EmbeddedScore], sources: Sequence[Path], sample: pd.DataFrame
) -> None:
    """Copies `sources`, a sealed folder for each score, into the sealed `folder`, and seals it again.

    `sample`: rows on which the folder must then answer as it does now when the scores are given.

    Raises:
        ModelError: it answers otherwise. The folder is then no model.
    """
    given = {s.column: ServableModel.load(source).predict(sample) for s, source in zip(scores, sources, strict=True)}
    expected = ServableModel.load(folder).predict(sample.assign(**given))
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).unlink()
    for score, source in zip(scores, sources, strict=True):
        shutil.copytree(source, folder / score.folder)
    manifest[SCORES] = [asdict(score) for score in scores]
    manifest["sha256"] = file_hashes(folder)
    write_manifest(folder, manifest)
    found = ServableModel.load(folder).predict(sample.drop(columns=list(given), errors="ignore"))
    if not np.array_equal(found, expected):
        (folder / MANIFEST).unlink()
        raise ModelError(
            f"with the models of its scores inside, the model differs from the trained one by "
            f"{np.abs(found - expected).max():g} on {len(sample)} rows. Nothing was written that can be served.",
            folder=str(folder),
        )
