"""A run's recorded outputs (JSON) read into what the report and the terminal show. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.evaluation.metrics import METRICS

Json = Mapping[str, Any]
SHOWN_METRICS = {"binary": ("roc_auc", "log_loss", "ece"), "regression": ("mae", "mse", "r2")}
METRIC_NAMES = {name: metric.title for name, metric in METRICS.items()}


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """False for what could not be computed, such as an AUC over one class."""
        return self.value == self.value


@dataclass(frozen=True)
class Rollout:
    """One attempt to roll a version out, in event time."""

    candidate: str
    phase: str
    reason: str
    start: datetime
    end: datetime

    @property
    def promoted(self) -> bool:
        """Whether the candidate became champion."""
        return self.phase == "Healthy"


@dataclass(frozen=True)
class Retraining:
    """One retraining. `version` is `None` when the champion stayed."""

    at: datetime
    trigger: str
    version: str | None
    reason: str


@dataclass(frozen=True)
class WindowRow:
    """One monitoring window. `psi` by feature; `versions`: rows answered by version; metrics by name."""

    start: datetime
    end: datetime
    num_rows: int
    coverage: float
    drifted: bool
    broken: bool
    drift_reason: str
    psi: dict[str, float]
    broken_features: frozenset[str]
    versions: dict[str, int]
    loop: dict[str, Estimate]
    frozen: dict[str, Estimate]
    rollouts: tuple[Rollout, ...]
    retraining: Retraining | None
    decision: str

    @property
    def middle(self) -> datetime:
        """Where the window is drawn on a time axis."""
        return self.start + (self.end - self.start) / 2

    @property
    def verdict(self) -> str:
        """One word: broken, drift or calm."""
        return "broken" if self.broken else "drift" if self.drifted else "calm"

    @property
    def top_features(self) -> tuple[tuple[str, float], ...]:
        """The three features that moved most."""
        inputs = [(name, value) for name, value in self.psi.items() if name != "score"]
        return tuple(sorted(inputs, key=lambda item: -item[1])[:3])

    @property
    def events(self) -> tuple[str, ...]:
        """What happened in the window, a few words each."""
        told = [f"v{r.candidate} {'promoted' if r.promoted else r.phase.lower()}" for r in self.rollouts]
        if self.retraining is not None:
            version = self.retraining.version
            told.append(f"retrained: {f'v{version}' if version else 'champion kept'}")
        return tuple(told)


def window_rows(windows: Sequence[Json], assessment: Json) -> list[WindowRow]:
    """The closed windows in order, each with the assessment of the same window."""
    assessed: Sequence[Json] = assessment.get("windows", ())
    if len(assessed) != len(windows):  # assessed before the last windows closed
        assessed = [{}] * len(windows)
    return [_window(output, entry) for output, entry in zip(windows, assessed, strict=True)]


def estimates(metrics: Json) -> dict[str, Estimate]:
    """`{"value", "low", "high"}` by metric as estimates; what is null becomes NaN."""
    return {name: Estimate(*(_number(value[k]) for k in ("value", "low", "high"))) for name, value in metrics.items()}


def request_totals(windows: Sequence[Json]) -> dict[str, int]:
    """Requests sent, failed and answered by the champion in place of the candidate.

    Each window records a count since the client started; a resumed run starts again at zero.
    """
    totals = {"sent": 0, "failed": 0, "fallbacks": 0}
    for name in totals:
        before = 0
        for output in windows:
            now = int(output.get("requests", {}).get(name, before))
            totals[name] += now - before if now >= before else now
            before = now
    return totals


def gain_sentence(whole: Json) -> str:
    """Whether the loop paid, in one sentence with its interval."""
    gain = whole.get("gain")
    if gain is None:
        return "Too few labels came in to say whether the loop paid."
    metric = METRIC_NAMES.get(gain["metric"], gain["metric"])
    value, low, high = (_number(gain[k]) for k in ("value", "low", "high"))
    numbers = f"{value:+.4f} (95% interval {low:+.4f} to {high:+.4f}) over {whole['rows']:,} labelled answers"
    if low > 0:
        return f"The loop paid: {metric} better than the frozen first model by {numbers}."
    if high < 0:
        return f"The loop did not pay: {metric} against the frozen first model {numbers}."
    return f"No clear difference between the loop and the frozen first model: {metric} {numbers}."


def _window(output: Json, assessed: Json) -> WindowRow:
    drift, performance = output["drift"], output["performance"]
    retrain = output.get("retrain")
    return WindowRow(
        start=datetime.fromisoformat(output["start"]),
        end=datetime.fromisoformat(output["end"]),
        num_rows=performance["num_answers"],
        coverage=performance["coverage"],
        drifted=drift["drifted"],
        broken=drift["broken"],
        drift_reason=drift["reason"],
        psi={f["feature"]: _number(f["psi"]) for f in drift["features"]},
        broken_features=frozenset(f["feature"] for f in drift["features"] if f["broken"]),
        versions={str(k): int(v) for k, v in performance["rows_by_version"].items()},
        loop=estimates(assessed.get("loop", performance["metrics"])),
        frozen=estimates(assessed.get("frozen", {})),
        rollouts=tuple(_rollout(r) for r in output.get("rollouts", ())),
        retraining=None if not retrain else _retraining(retrain),
        decision=output.get("decision", ""),
    )


def _rollout(output: Json) -> Rollout:
    start, end = datetime.fromisoformat(output["from"]), datetime.fromisoformat(output["to"])
    return Rollout(str(output["candidate"]), output["phase"], output["reason"], start, end)


def _retraining(output: Json) -> Retraining:
    version = output["version"]
    return Retraining(
        datetime.fromisoformat(output["at"]),
        output["trigger"],
        None if version is None else str(version),
        output["reason"],
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
