"""The table answers every case, and an abort is final."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rollout.decide import FINAL, TABLE, Action, Observation, Phase, decide

observations = st.lists(st.sampled_from(list(Observation)), max_size=40)


@pytest.mark.parametrize(("phase", "observation"), list(product(Phase, Observation)))
def test_total(phase: Phase, observation: Observation) -> None:
    decision = decide(phase, observation)
    if (phase, observation) not in TABLE:
        assert (decision.phase, decision.action) == (phase, Action.WAIT)


@given(observations=observations)
def test_given_up_never_comes_back(observations: list[Observation]) -> None:
    phase, given_up = Phase.PENDING, False
    for observation in observations:
        phase = decide(phase, observation).phase
        given_up = given_up or phase is Phase.DEGRADED
        if given_up:
            assert phase in (Phase.DEGRADED, Phase.ABORTED)


@pytest.mark.parametrize(("phase", "observation"), list(product(FINAL, Observation)))
def test_final_is_final(phase: Phase, observation: Observation) -> None:
    assert decide(phase, observation).phase is phase


@pytest.mark.parametrize("observation", list(Observation))
def test_only_good_news_or_a_person_advances(observation: Observation) -> None:
    decision = decide(Phase.PROGRESSING, observation)
    if decision.action in (Action.ADVANCE, Action.PREPARE):
        assert observation in (Observation.STEP_DONE, Observation.LAST_STEP_DONE, Observation.PROMOTE_ASKED)


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING])
def test_a_person_can_always_abort(phase: Phase) -> None:
    assert decide(phase, Observation.ABORT_ASKED).phase is Phase.DEGRADED


@given(observations=observations)
def test_healthy_only_through_promoting(observations: list[Observation]) -> None:
    phases = [Phase.PENDING]
    for observation in observations:
        phases.append(decide(phases[-1], observation).phase)
    if Phase.HEALTHY in phases:
        assert phases[phases.index(Phase.HEALTHY) - 1] is Phase.PROMOTING
