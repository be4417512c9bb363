"""What a rollout does next: a table of phase and observation. Pure.

| phase | meaning |
|---|---|
| Pending | the candidate is being loaded; it gets no traffic |
| Progressing | the candidate gets the weight of its step |
| Paused | the weight stands still until a person resumes or aborts |
| Promoting | the candidate becomes the champion, first prepared, then switched to |
| Healthy | every live replica answers with the new champion; final |
| Degraded | given up; the traffic is on its way back to the champion |
| Aborted | every live replica is back at the champion; final |

There is no way from Degraded but to Aborted, and none out of Healthy and Aborted: an abort is final.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    PENDING = "Pending"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    PROMOTING = "Promoting"
    HEALTHY = "Healthy"
    DEGRADED = "Degraded"
    ABORTED = "Aborted"


class Observation(StrEnum):
    """What the controller sees, one at a time, or what a person asks."""

    WAITING = "nothing new"  # replicas, a pause or an analysis are not done
    REPLICAS_READY = "replicas follow"  # every live replica is where the phase wants it
    STEP_DONE = "step done"
    LAST_STEP_DONE = "last step done"
    ANALYSIS_FAILED = "analysis failed"
    ANALYSIS_ERROR = "analysis cannot be measured"
    ANALYSIS_INCONCLUSIVE = "analysis inconclusive"
    DEADLINE_PASSED = "progress deadline passed"
    ABORT_ASKED = "abort asked for"
    PAUSE_ASKED = "pause asked for"
    RESUME_ASKED = "resume asked for"
    PROMOTE_ASKED = "promotion asked for"  # a person skips the steps that are left


class Action(StrEnum):
    """What changes. Acts on traffic follow from phase and step and are repeated until they hold."""

    WAIT = "wait"
    BEGIN = "begin"  # first step
    ADVANCE = "advance"  # next step
    PAUSE = "pause"
    RESUME = "resume"  # the step starts again
    PREPARE = "prepare"  # load the candidate in every champion replica
    FINISH = "finish"
    ABORT = "abort"  # all traffic to the champion
    CLOSE = "close"  # the abort has arrived everywhere


@dataclass(frozen=True)
class Decision:
    """The next phase and what is done to get there."""

    phase: Phase
    action: Action


FINAL = frozenset({Phase.HEALTHY, Phase.ABORTED})

_ABORT = Decision(Phase.DEGRADED, Action.ABORT)
_STOPPERS = (
    Observation.ANALYSIS_FAILED, Observation.ANALYSIS_ERROR, Observation.DEADLINE_PASSED, Observation.ABORT_ASKED,
)

TABLE: dict[tuple[Phase, Observation], Decision] = {
    **{(phase, stopper): _ABORT for phase in (Phase.PENDING, Phase.PROGRESSING, Phase.PAUSED) for stopper in _STOPPERS},
    (Phase.PENDING, Observation.REPLICAS_READY): Decision(Phase.PROGRESSING, Action.BEGIN),
    (Phase.PENDING, Observation.PAUSE_ASKED): Decision(Phase.PAUSED, Action.PAUSE),
    (Phase.PROGRESSING, Observation.STEP_DONE): Decision(Phase.PROGRESSING, Action.ADVANCE),
    (Phase.PROGRESSING, Observation.LAST_STEP_DONE): Decision(Phase.PROMOTING, Action.PREPARE),
    (Phase.PROGRESSING, Observation.ANALYSIS_INCONCLUSIVE): Decision(Phase.PAUSED, Action.PAUSE),
    (Phase.PROGRESSING, Observation.PAUSE_ASKED): Decision(Phase.PAUSED, Action.PAUSE),
    (Phase.PAUSED, Observation.RESUME_ASKED): Decision(Phase.PROGRESSING, Action.RESUME),
    (Phase.PROGRESSING, Observation.PROMOTE_ASKED): Decision(Phase.PROMOTING, Action.PREPARE),
    (Phase.PAUSED, Observation.PROMOTE_ASKED): Decision(Phase.PROMOTING, Action.PREPARE),
    (Phase.PROMOTING, Observation.STEP_DONE): Decision(Phase.PROMOTING, Action.ADVANCE),  # prepared: switch
    (Phase.PROMOTING, Observation.REPLICAS_READY): Decision(Phase.HEALTHY, Action.FINISH),
    (Phase.PROMOTING, Observation.DEADLINE_PASSED): _ABORT,
    (Phase.PROMOTING, Observation.ABORT_ASKED): _ABORT,
    (Phase.DEGRADED, Observation.REPLICAS_READY): Decision(Phase.ABORTED, Action.CLOSE),
}


def decide(phase: Phase, observation: Observation) -> Decision:
    """The row of the table; what is not in it changes nothing.

    >>> decide(Phase.PROGRESSING, Observation.ANALYSIS_FAILED).phase.value
    'Degraded'
    >>> decide(Phase.ABORTED, Observation.RESUME_ASKED).action.value
    'wait'
    """
    return TABLE.get((phase, observation), Decision(phase, Action.WAIT))
