"""When the loop acts: the stretches of 2013, the steps of a rollout, what counts as drift, when to retrain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from app.spec import (
    Analysis,
    AnalysisMetric,
    DriftPolicy,
    Pause,
    RetrainPolicy,
    RolloutPolicy,
    SetWeight,
    Timeline,
)

NEW_YORK = ZoneInfo("America/New_York")
DAY = timedelta(days=1)


def new_york_day(year: int, month: int, day: int) -> datetime:
    """Midnight in New York as UTC."""
    return datetime(year, month, day, tzinfo=NEW_YORK).astimezone(UTC)


TIMELINE = Timeline(
    train_start=new_york_day(2013, 1, 1),
    train_end=new_york_day(2013, 7, 1),
    validation_end=new_york_day(2013, 9, 1),
    replay_end=new_york_day(2014, 1, 1),
    bad_candidate_at=new_york_day(2013, 11, 12),
)

# About 920 flights a day: 10% is 90 a day, so 150 labelled ones take not quite two days. A rollout that goes well ends
# after about three days of event time.
ROLLOUT = RolloutPolicy(
    steps=(
        SetWeight(10), Pause(DAY), Analysis(),
        SetWeight(50), Pause(DAY), Analysis(),
    ),
    metrics=(
        # Estimates, not measured: on 150 rows two equally good models differ with a standard deviation of about 0.05,
        # so 0.12 should stop hardly any; a model that ranks backwards should lose by 0.5 or more.
        AnalysisMetric(
            "log_loss", "log_loss_difference", "result <= 0.12", "result > 0.18",
            min_rows=150, inconclusive_limit=72,
        ),
        AnalysisMetric(
            "errors", "error_rate", "result <= 0.02", "result > 0.10", min_rows=50, inconclusive_limit=72
        ),
        # A retrained model may well shift by 0.1: of the flights that land .32 are late in July, .14 in September and
        # .34 in December.
        AnalysisMetric(
            "score_shift", "score_mean_shift", "result <= 0.20", "result > 0.30",
            min_rows=50, inconclusive_limit=72,
        ),
    ),
    progress_deadline=7 * DAY,
)

# Thresholds were chosen on January to August alone (benchmarks/bench_thresholds.py): what fires from September on is
# found, not fitted. Weather and slow averages hang together over days, so a week holds few independent samples, and
# seasons move temperature whatever the model does: at PSI 0.2, the usual mark, a fifth to a half of the features move
# in nearly every week. At PSI 0.5, against the eight weeks before, 2 of 26 weeks reach 30% and never two in a row (at
# most 23%).
DRIFT = DriftPolicy(
    window=7 * DAY,
    min_psi=0.5,
    false_discovery_rate=0.01,
    min_rows=2_000,
    min_share=0.3,
    persistence=2,
    max_null_rate_increase=0.25,  # pressure goes from 11% to 28% null between ordinary weeks
)

RETRAIN = RetrainPolicy(
    holdout=14 * DAY,
    cooldown=28 * DAY,
    max_retrains=4,
    # Log loss moves with the share of late flights alone: in three backtests it rises by up to .09 two weeks in a row.
    max_log_loss_increase=0.10,
    train_window=None,  # all history: the share of late flights comes back, last winter is worth remembering
)
