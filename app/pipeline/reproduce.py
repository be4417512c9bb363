"""Trains a recorded run again from its record, and says whether the same model came out, and if not, why."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from app.errors import NotReproducedError, TrainingError
from app.foundation.lineage import hardware
from app.foundation.lineage.hardware import arithmetic_differences
from app.models.compare import Comparison, compare_models
from app.pipeline.history import rows_again
from app.pipeline.session import Session
from app.spec.models import Model, ModelScore
from app.training.train import train

MAX_MEAN_SCORE_DIFFERENCE = 0.02  # where hardware, code or libraries differ: sums that round otherwise drift apart
Outcome = Literal["equal", "close", "different"]


@dataclass(frozen=True)
class Difference:
    """A part of the record that is otherwise now. `decides`: whether other bits are to be expected of it."""

    part: str
    recorded: str
    now: str
    decides: bool = True


@dataclass(frozen=True)
class Reproduction:
    """What came of a run that was trained again."""

    run: str
    outcome: Outcome
    reason: str
    differences: tuple[Difference, ...]
    comparison: Comparison
    num_rows: int


def reproduce(session: Session, reference: str) -> Reproduction:
    """Trains run `reference` again on the rows and with the settings of its record and compares the models.

    Args:
        session: of the project the run belongs to.
        reference: a model version, or the id of a training run or of its MLflow run.

    Raises:
        UnknownNameError: there is no such run, or a snapshot it read is gone.
        TrainingError: the rows are no longer those of the record.
        NotReproducedError: another model came out.
    """
    record = session.registry.record(session.project.name, reference)
    model = recorded_model(session, record)
    differences = environment_differences(record, {**session.provenance, "hardware": hardware()})
    for difference in differences:
        session.progress.line(f"{difference.part}: recorded {difference.recorded}, now {difference.now}")
    with session.progress.step(f"Reproduce {record['training_run']}", total=3) as step:
        rows = rows_again(session, record["train"])
        if rows.manifest["row_hash"] != record["train"]["row_hash"]:
            raise TrainingError(
                f"run {record['training_run']} learned from {record['train']['rows']:,} rows with hash "
                f"{record['train']['row_hash'][:16]}; its snapshots now give {rows.manifest['rows']:,} rows with hash "
                f"{rows.manifest['row_hash'][:16]}. The code that joins them has changed: check out commit "
                f"{record['code_commit']}.",
                run=reference,
            )
        step.advance(1, f"{len(rows.frame):,} rows, the same to the bit")
        run_id = f"reproduce-{record['training_run']}-{uuid.uuid4().hex[:6]}"
        again = train(session.project, model, rows, session.settings, run_id)
        step.advance(1, "trained")
        comparison = compare_models(Path(record["folder"]), again.folder, rows.frame)
        outcome, reason = decide_outcome(comparison, differences)
        step.advance(1, reason)
    found = Reproduction(str(record["training_run"]), outcome, reason, differences, comparison, len(rows.frame))
    if outcome == "different":
        raise NotReproducedError(f"run {found.run}: {reason}", run=reference)
    return found


def reproduce_run(session: Session, reference: str) -> None:
    """`reproduce` for the command line: prints what came of it."""
    found = reproduce(session, reference)
    session.progress.line(f"{found.run}: {found.reason}")


def decide_outcome(comparison: Comparison, differences: tuple[Difference, ...]) -> tuple[Outcome, str]:
    """The verdict and its reason. Pure.

    Equal weights are equal, whatever differs. Other weights are excused by a difference that can cause them, and then
    only within a tolerance of the scores.
    """
    if comparison.equal:
        return "equal", f"equal weights: {comparison.num_arrays} arrays are the same to the bit"
    told = (
        f"scores differ by {comparison.mean_score_difference:.2e} in the mean and {comparison.score_difference:.2e} at "
        f"most (first: {', '.join(comparison.differing[:3])})"
    )
    causes = [difference.part for difference in differences if difference.decides]
    if not causes:
        return "different", f"other weights, though nothing in the record differs: {told}"
    if comparison.mean_score_difference <= MAX_MEAN_SCORE_DIFFERENCE:
        limit = f"{MAX_MEAN_SCORE_DIFFERENCE:g} is allowed"
        return "close", f"within tolerance, {', '.join(causes)} being otherwise: {told}; in the mean {limit}"
    return "different", f"another model, {', '.join(causes)} being otherwise: {told}"


def environment_differences(record: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[Difference, ...]:
    """What of code, lock, libraries and hardware is not as recorded. Pure."""
    found = [
        Difference(name, str(record.get(key)), str(now.get(key)))
        for name, key in (
            ("code commit", "code_commit"), ("uncommitted difference", "code_diff_sha256"), ("lock", "lock_sha256"),
            ("python", "python"),
        )
        if record.get(key) != now.get(key)
    ]
    before, after = record.get("versions", {}), now.get("versions", {})
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            found.append(Difference(f"library {name}", str(before.get(name)), str(after.get(name))))
    old, new = record.get("hardware", {}), now.get("hardware", {})
    found += [Difference(f"hardware {name}", str(a), str(b)) for name, a, b in arithmetic_differences(old, new)]
    if old.get("cpu_model") != new.get("cpu_model"):
        found.append(Difference("cpu", str(old.get("cpu_model")), str(new.get("cpu_model")), decides=False))
    return tuple(found)


def recorded_model(session: Session, record: Mapping[str, Any]) -> Model:
    """The model as it was configured then: the recorded fields on the project's declaration of that name.

    Raises:
        TrainingError: the project no longer declares a model of that name, or of that class.
    """
    said = record["model"]
    for declared in (session.project.model, session.project.baseline):
        if declared.name == said["name"] and type(declared).__name__ == said["class"]:
            known = {f.name for f in dataclasses.fields(declared)} - {"service"}
            fields = {k: _as_declared(v) for k, v in record["config"].items() if k in known}
            fields["scores"] = tuple(ModelScore(**score) for score in fields.get("scores", ()))
            return replace(declared, **fields)
    raise TrainingError(
        f"project {session.project.name!r} declares no {said['class']} named {said['name']!r}, which run "
        f"{record['training_run']} trained. Check out commit {record['code_commit']}.",
        run=record["training_run"],
    )


def _as_declared(value: Any) -> Any:
    """JSON has no tuples; specs have no lists."""
    return tuple(value) if isinstance(value, list) else value
