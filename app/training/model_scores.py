"""Other models' scores as features of training rows: resolved once, checked for rows they learned from, computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from app.errors import MissingColumnError, TrainingError, UnknownNameError
from app.models.artefact import ServableModel
from app.models.embedded_score import EmbeddedScore
from app.models.registry import ModelRegistry, seal_of
from app.settings import Settings
from app.spec.models import Model, ModelScore
from app.training.training_table import TrainingTable

if TYPE_CHECKING:
    from app.features.training_set import TrainingSet

Stretch = tuple[datetime, datetime]


@dataclass(frozen=True)
class ScoreColumn:
    """A column of scores: of which concrete version, and where its sealed folder lies.

    `learned`: stretches of time `[start, end)` whose rows it learned from; `None` where its record tells of none.
    """

    score: ModelScore
    folder: Path
    seal: str
    learned: tuple[Stretch, ...] | None

    @property
    def embedded(self) -> EmbeddedScore:
        """As the artefact's manifest names it."""
        column, score = self.score.column, self.score
        return EmbeddedScore(column, score.model, score.version, self.seal, f"scores/{column}")


def resolve_scores(scores: Sequence[ModelScore], feature_names: Sequence[str], settings: Settings) -> list[ScoreColumn]:
    """The versions meant now, fetched from the registry.

    Raises:
        UnknownNameError: no such version or alias.
        MissingColumnError: a model needs a feature that the rows have not.
    """
    registry = ModelRegistry(settings)
    found = []
    for score in scores:
        version = score.version if score.version.isdigit() else registry.alias(score.model, score.version)
        if version is None:
            raise UnknownNameError(
                f"model {score.model!r} has no {score.version!r}, whose score is to be feature {score.column!r}. "
                "Register it first (its project makes a champion), or name a version.",
                model=score.model, version=score.version,
            )
        folder = registry.folder(score.model, version)
        lacking = [n for n in ServableModel.load(folder).feature_names if n not in feature_names]
        if lacking:
            raise MissingColumnError(
                f"version {version} of model {score.model!r} needs {', '.join(lacking)}, which these rows have not; "
                f"they have {', '.join(feature_names)}. Add the features to the service of the model that reads it.",
                column=lacking[0],
            )
        learned = _learned(registry, score.model, version)
        found.append(ScoreColumn(replace(score, version=version), folder, seal_of(folder), learned))
    return found


def with_versions(model: Model, columns: Sequence[ScoreColumn]) -> Model:
    """The model with the concrete versions, as the record of its run keeps it."""
    return replace(model, scores=tuple(column.score for column in columns))


def add_scores(
    rows: TrainingSet | TrainingTable, columns: Sequence[ScoreColumn], time_column: str
) -> TrainingSet | TrainingTable:
    """The rows with each score as a column; a table computes them block by block when it is read.

    Args:
        rows: in memory, in time order, or a table.
        columns: what is added.
        time_column: the rows' moment, by which those that a model learned from are told.

    Raises:
        TrainingError: the model learned from these rows, or that cannot be told.
    """
    if not columns:
        return rows
    kept = None
    for column in columns:
        kept = _without_learned(rows, column, time_column, kept)
    if isinstance(rows, TrainingTable):
        return replace(rows, computed=(*rows.computed, *(ScoreBlocks(c.score.column, c.folder) for c in columns)))
    frame = rows.frame if kept is None else rows.frame[kept].reset_index(drop=True)
    scores = {c.score.column: ServableModel.load(c.folder).predict(frame) for c in columns}
    return replace(rows, frame=frame.assign(**scores))


@dataclass(frozen=True)
class ScoreBlocks:
    """Adds a model's score to blocks of rows, wherever Ray Data runs it; the folder must be seen there."""

    column: str
    folder: Path

    def __call__(self, block: pd.DataFrame) -> pd.DataFrame:
        return block.assign(**{self.column: _loaded(self.folder).predict(block)})


@lru_cache(maxsize=4)
def _loaded(folder: Path) -> ServableModel:
    return ServableModel.load(folder)


def _learned(registry: ModelRegistry, model: str, version: str) -> tuple[Stretch, ...] | None:
    try:
        record = registry.record(model, version)
    except UnknownNameError:  # registered by hand: nothing is known of its rows
        return None
    return _stretches(record.get("train", {}))


def _stretches(manifest: Mapping[str, Any]) -> tuple[Stretch, ...] | None:
    parts = manifest.get("stretches", [manifest] if "start" in manifest else [])
    return tuple((datetime.fromisoformat(p["start"]), datetime.fromisoformat(p["end"])) for p in parts) or None


def _without_learned(
    rows: TrainingSet | TrainingTable, column: ScoreColumn, time_column: str, kept: pd.Series | None
) -> pd.Series | None:
    """Which rows are left once those are gone that the model learned from; `None`: all of them."""
    score = column.score
    if score.learned_rows == "allow":
        return kept
    what = f"version {score.version} of model {score.model!r}, whose score is feature {score.column!r},"
    hint = "Use ModelScore(learned_rows=…): 'drop' leaves such rows out, 'allow' takes them."
    if column.learned is None:
        raise TrainingError(f"{what} has no record of the rows it learned from, so leaks cannot be ruled out. {hint}")
    if isinstance(rows, TrainingTable):
        mine = _stretches(rows.manifest)
        if mine is None or any(a < last and first < b for a, b in mine for first, last in column.learned):
            raise TrainingError(
                f"{what} learned from rows of {_told(column.learned)}; table {rows.table!r} "
                f"{'does not say of when its rows are' if mine is None else f'has rows of {_told(mine)}'}. Write a "
                "table of later rows; from a table none can be dropped."
            )
        return kept
    if time_column not in rows.frame.columns:
        raise TrainingError(f"{what} learned from some rows, and these have no {time_column!r} to tell them by. {hint}")
    times = pd.to_datetime(rows.frame[time_column], utc=True)
    inside = pd.Series(False, index=rows.frame.index)
    for first, last in column.learned:
        inside |= (times >= first) & (times < last)
    if score.learned_rows == "refuse" and inside.any():
        raise TrainingError(
            f"{what} learned from {int(inside.sum()):,} of the {len(inside):,} rows (those of "
            f"{_told(column.learned)}): its scores there are better than they will be for new rows. {hint}"
        )
    return ~inside if kept is None else kept & ~inside


def _told(stretches: Sequence[Stretch]) -> str:
    return ", ".join(f"{a:%Y-%m-%d %H:%M} to {b:%Y-%m-%d %H:%M}" for a, b in stretches)
