"""Causes are told apart, and broken data voids the rest."""

from __future__ import annotations

import pytest

from app.monitoring.cause import Cause, LabelMeans, find_cause
from app.monitoring.verdict import DriftVerdict

MOVED, STAYED = LabelMeans(0.30, 0.13, 0.01), LabelMeans(0.30, 0.31, 0.01)


def drift(drifted: bool = False, broken: bool = False) -> DriftVerdict:
    return DriftVerdict(1_000, drifted, broken, 0.0, (), "what was seen")


@pytest.mark.parametrize(
    ("verdict", "labels", "loss", "cause"),
    [
        (drift(), STAYED, 0.0, Cause.NONE),
        (drift(), None, None, Cause.NONE),
        (drift(broken=True, drifted=True), MOVED, 0.5, Cause.BROKEN_DATA),
        (drift(), STAYED, 0.2, Cause.CONCEPT),
        (drift(drifted=True), MOVED, 0.2, Cause.COVARIATE),
        (drift(), MOVED, 0.0, Cause.LABEL),
        (drift(), LabelMeans(0.30, 0.20, 0.05), 0.0, Cause.NONE),
        (drift(), LabelMeans(0.30, 0.32, 0.001), 0.0, Cause.NONE),
    ],
)
def test_cause(verdict: DriftVerdict, labels: LabelMeans | None, loss: float | None, cause: Cause) -> None:
    found = find_cause(verdict, labels, loss, max_loss_increase=0.05)
    assert found.cause is cause and found.action


def test_everything_seen_is_named_beside_the_main_cause() -> None:
    found = find_cause(drift(drifted=True), MOVED, None, max_loss_increase=0.05)
    assert [sign.split(":")[0] for sign in found.signs] == ["covariate drift", "label drift"]
