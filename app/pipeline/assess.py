"""Did the loop pay? The frozen first model beside what was answered, on the same rows, per window and per month."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from app.evaluation.bootstrap import draw
from app.evaluation.validate import intervals
from app.features.access import hidden_in_log
from app.pipeline.answers import answers
from app.pipeline.candidates import champion_model
from app.pipeline.live import window_outputs
from app.pipeline.run import Output
from app.pipeline.session import Session

MIN_ROWS = 30
REPORTED = {"binary": ("roc_auc", "pr_auc", "log_loss", "brier", "ece"), "regression": ("mse", "mae", "r2")}
RANKED_BY = {"binary": "roc_auc", "regression": "mae"}
NUM_RESAMPLES = 500  # for each window, each month and the whole


def assess_loop(session: Session) -> None:
    """Scores the first model on the features that were really served and compares, with intervals."""

    def action() -> Output:
        closed = window_outputs(session)
        with session.progress.step("Assess", total=2) as step:
            rows = _scored(session)
            step.advance(1, f"{len(rows):,} labelled answers")
            starts = [(o["start"], o["end"]) for o in closed]
            moments = rows["prediction_timestamp"]
            output = {
                "windows": [_compare(session, rows[(moments >= a) & (moments < b)], f"{a[:10]}") for a, b in starts],
                "months": [
                    _compare(session, part, str(month)) for month, part in rows.groupby(moments.dt.strftime("%Y-%m"))
                ],
                "whole": _compare(session, rows, "whole"),
            }
            step.advance(1)
        return output

    session.run.perform("assess", action)


def _scored(session: Session) -> pd.DataFrame:
    """Labelled answers with `frozen`, the first model's score on the features that were logged with each.

    None where the log hides personal inputs, without which the first model cannot be asked again.
    """
    timeline = session.project.timeline
    logged = answers(session, timeline.validation_end, timeline.replay_end, None, with_features=True).to_pandas()
    logged = logged[logged["label"].notna()].reset_index(drop=True)
    hidden = sorted(hidden_in_log(session.project))
    if hidden:
        session.progress.line(
            f"The first model is not compared: the prediction log hides its inputs {', '.join(hidden)} "
            "(AccessPolicy.log_personal)."
        )
        return logged[:0].assign(frozen=0.0)
    features = pd.DataFrame([json.loads(text) for text in logged.pop("features")])
    first = champion_model(session, session.run.require("train", "train")["version"])
    return logged.assign(frozen=first.predict(features))


def _compare(session: Session, rows: pd.DataFrame, name: str) -> Output:
    if len(rows) < MIN_ROWS:
        return {"name": name, "rows": len(rows)}
    task = session.project.label.task
    label, loop, frozen = (rows[c].to_numpy(dtype=np.float64) for c in ("label", "score", "frozen"))
    drawn = draw(label, {"loop": loop, "frozen": frozen}, REPORTED[task], NUM_RESAMPLES)
    value, low, high = drawn.difference("loop", "frozen", RANKED_BY[task])
    return {
        "name": name,
        "rows": len(rows),
        "label_mean": float(label.mean()),
        "loop": intervals(drawn, "loop", REPORTED[task]),
        "frozen": intervals(drawn, "frozen", REPORTED[task]),
        "gain": {"metric": RANKED_BY[task], "value": value, "low": low, "high": high},
        "versions": {str(k): int(v) for k, v in rows["version"].value_counts().sort_index().items()},
    }
