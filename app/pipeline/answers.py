"""What a run's application answered, joined with the truth known by a moment."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from app.pipeline.session import Session
from app.predictionlog.reader import join_labels, read_labels, read_mirrored, read_predictions
from app.predictionlog.shipper import ship_all

COLUMNS = (
    "request_id",
    "key",
    "prediction_timestamp",
    "score",
    "latency_ms",
    "assigned",
    "answered_by",
    "version",
    "error",
    "overridden",
    "rollout_id",
)


def ship(session: Session) -> None:
    """Moves every complete line of this host's prediction log to the lake."""
    ship_all(session.lake, session.settings, session.project.name)


def answers(
    session: Session, start: datetime, end: datetime, known_by: datetime | None, *, with_features: bool = False
) -> pl.DataFrame:
    """This run's answers of `[start, end)` with `label`, null where it was not available by `known_by`
    (`None`: whatever is known).

    Other runs of the same project share the tables; requests carry their run's id.
    """
    columns = [*COLUMNS, "features"] if with_features else list(COLUMNS)
    predictions = read_predictions(session.lake, session.project.name, start, end, columns)
    labels = read_labels(session.lake, session.project.name, available_by=known_by)
    frame = pl.from_arrow(join_labels(predictions, labels))
    assert isinstance(frame, pl.DataFrame)
    return frame.filter(pl.col("request_id").str.starts_with(f"{session.run_id}:"))


def mirrored_answers(session: Session, start: datetime, end: datetime, known_by: datetime) -> pl.DataFrame:
    """What candidates of this run were shown in `[start, end)`, with the truth known by a moment."""
    shown = read_mirrored(session.lake, session.project.name, start, end)
    frame = pl.from_arrow(join_labels(shown, read_labels(session.lake, session.project.name, available_by=known_by)))
    assert isinstance(frame, pl.DataFrame)
    return frame.filter(pl.col("request_id").str.starts_with(f"{session.run_id}:"))
