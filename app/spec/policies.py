"""What a user declares about running a model: rollout, drift, retraining, access, timeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

AccessAction = Literal["apply", "materialize", "read", "read_pii", "push", "delete"]
Strategy = Literal["canary", "blue-green", "shadow", "ab", "rollback"]
MetricMeasure = Literal[
    "error_rate", "missing_share", "latency_p95_ms", "latency_p95_ratio", "score_mean_shift", "score_distance",
    "log_loss_difference", "squared_error_difference", "kpi_difference", "mirror_error_rate",
    "mirror_score_difference", "mirror_latency_ratio", "mirror_log_loss_difference",
]


@dataclass(frozen=True)
class Kpi:
    """A number of each answered row that matters to the business.

    `value`: built in (`label`, `log_loss`, `squared_error`, `score`, `fallback`, `latency_ms`), or an import path
    `module:function` of the project: it gets the rows as a polars frame and gives one number a row, null where not
    known yet.
    """

    name: str
    value: str
    better: Literal["higher", "lower"] = "higher"


@dataclass(frozen=True)
class SetWeight:
    """Step: send `percent` of entity rows to the candidate."""

    percent: float


@dataclass(frozen=True)
class Pause:
    """Step: keep the weight for `duration` of event time."""

    duration: timedelta


@dataclass(frozen=True)
class Analysis:
    """Step: judge the metrics on what was answered since the last weight change."""


@dataclass(frozen=True)
class Experiment:
    """Step: an A/B test of the candidate against the champion at the weight in force.

    Looked at each `interval_s` of event time with an interval that is valid at all looks together (`alpha`). The
    candidate wins once the interval of its advantage lies above `-margin` (0: better; more: not much worse), loses once
    it lies below. `undecided`: what to do when neither has come by `max_duration`.
    """

    kpi: Kpi
    alpha: float = 0.05
    margin: float = 0.0
    min_units: int = 100  # of each side before the first interval
    tightest_at: int = 10_000  # units, both sides together, for which the interval is tuned
    min_duration: timedelta = timedelta(0)
    max_duration: timedelta = timedelta(days=14)
    undecided: Literal["abort", "promote", "pause"] = "abort"
    interval_s: float = 3_600.0
    unit: str = "key"


@dataclass(frozen=True)
class Mirror:
    """Step: the candidate is also shown `percent` of the champion's rows, until the next `Mirror` or the end.

    The caller never waits for it and never sees its answers: they are logged beside the champion's and compared by the
    measures that begin with `mirror_`.
    """

    percent: float


@dataclass(frozen=True)
class Hook:
    """Step: a function of the project says whether the rollout goes on; stands before or after any other step.

    `function`: import path `module:function`. It is given a `HookCall` and says True (go on), False (give the rollout
    up) or None (not yet: it is asked again at the driver's next look). One that raises is not ready to say, either.
    The driver waits `answer_within_s` wall seconds for it and then goes on with what else it has to do. A function that
    takes longer is asked nothing more meanwhile, and what it says in the end counts at the look after.
    No answer within `timeout` of event time gives the rollout up. It may be asked again what it has said already: after
    a crash, or when a paused step starts anew.
    """

    name: str
    function: str
    timeout: timedelta = timedelta(hours=1)
    answer_within_s: float = 10.0


@dataclass(frozen=True)
class HookCall:
    """Which step of which rollout a hook is asked about. `event_time`: of the look; `weight_percent`: in force now."""

    rollout_id: str
    model: str
    champion: str
    candidate: str
    step_index: int
    weight_percent: float
    event_time: datetime


Step = SetWeight | Pause | Analysis | Experiment | Mirror | Hook


@dataclass(frozen=True)
class AnalysisMetric:
    """One judged number, candidate against champion over the same time.

    `success_condition` and `failure_condition` are comparisons such as `"result <= 0.02"`.
    Neither true is inconclusive. Fewer than `min_rows` rows of the candidate is inconclusive,
    never success. Limits trip when exceeded (`>`). `kpi`: of the measure `kpi_difference`.
    """

    name: str
    measure: MetricMeasure
    success_condition: str
    failure_condition: str
    interval_s: float = 3_600.0  # event time between measurements
    initial_delay_s: float = 0.0
    count: int = 1
    failure_limit: int = 0
    inconclusive_limit: int = 24
    consecutive_error_limit: int = 4
    min_rows: int = 100
    kpi: Kpi | None = None


@dataclass(frozen=True)
class RolloutPolicy:
    """How a new version takes over.

    `canary`: by steps, judged by analysis. `blue-green`: the candidate (green) is brought up with as many replicas as
    the champion and takes all traffic in one step; it becomes the champion after the last step, until which the way
    back is one change of weight. `shadow`: by steps, all of which show it copies of the traffic before any is its own;
    it is promoted after the last. `ab`: by steps, of which one is an `Experiment`. `rollback` is how an operator's way
    back is recorded; it has no steps.
    """

    strategy: Strategy = "canary"
    steps: tuple[Step, ...] = (
        SetWeight(10),
        Pause(timedelta(hours=24)),
        Analysis(),
        SetWeight(50),
        Pause(timedelta(hours=24)),
        Analysis(),
    )
    metrics: tuple[AnalysisMetric, ...] = ()
    progress_deadline: timedelta = timedelta(days=14)  # event time; then the rollout is aborted


@dataclass(frozen=True)
class DriftPolicy:
    """When a feature and a window count as drifted.

    A feature drifts when its test is significant after Benjamini-Hochberg at `false_discovery_rate`
    *and* its effect size (PSI) reaches `min_psi` *and* it has `min_rows` rows. A window drifts when
    `min_share` of the features or the score do. A trigger needs `persistence` windows in a row.
    """

    window: timedelta = timedelta(days=7)
    min_psi: float = 0.2
    false_discovery_rate: float = 0.01
    min_rows: int = 500
    min_share: float = 0.2
    persistence: int = 2
    max_null_rate_increase: float = 0.2  # more than this is broken data, which blocks retraining


@dataclass(frozen=True)
class RetrainPolicy:
    """When and on what the loop retrains.

    `holdout`: the challenger learns from labels available by `T - holdout`; both are scored on the
    rows of `(T - holdout, T]`. `max_log_loss_increase`: performance trigger, against the score at
    validation.
    """

    holdout: timedelta = timedelta(days=14)
    cooldown: timedelta = timedelta(days=28)
    max_retrains: int = 4
    on_drift: bool = True
    on_performance: bool = True
    max_log_loss_increase: float = 0.05
    train_window: timedelta | None = None  # None: all history


@dataclass(frozen=True)
class Role:
    """What `principals` may do with the features of `views`; `"*"` among either means all.

    `apply`: register definitions, roll back. `materialize`: ingest, backfill, load the online store. `read`: historical
    and online features. `read_pii`: fields declared `pii`, beside `read`. `push`: rows from outside. `delete`: take a
    definition out of the registry. A role with `tags` covers only views that carry all of them.
    """

    name: str
    principals: tuple[str, ...]
    actions: tuple[AccessAction, ...]
    views: tuple[str, ...] = ("*",)
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class AccessPolicy:
    """Who may read and who may change features. Empty: everybody who reaches the store.

    With `roles`, only what some role of the principal allows is allowed. The two lists are short forms: `pii_readers`
    alone may read personal data, `writers` alone may apply, materialise, push and delete; whoever a list names needs no
    role for it. `log_personal`: whether the prediction log keeps the values of personal inputs; else it says only
    whether there was one.
    """

    pii_readers: tuple[str, ...] = ()
    writers: tuple[str, ...] = ()
    roles: tuple[Role, ...] = ()
    log_personal: bool = False


@dataclass(frozen=True)
class Timeline:
    """The stretches of history the loop walks through: train, validate, then replay live.

    Half-open in prediction time: train `[train_start, train_end)`, validate
    `[train_end, validation_end)`, replay `[validation_end, replay_end)`. `bad_candidate_at`: when the
    replay rolls out a deliberately bad version to prove the abort (`None`: never).
    """

    train_start: datetime
    train_end: datetime
    validation_end: datetime
    replay_end: datetime
    bad_candidate_at: datetime | None = None
