"""The interval holds at all looks at once, which one of fixed size does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rollout.confidence_sequence import difference

ALPHA, NUM_RUNS, LOOKS = 0.1, 200, tuple(range(200, 6_001, 100))


def peeked(generator: np.random.Generator, share: float) -> tuple[bool, bool]:
    """Whether any look of one run without any effect misses zero: the sequence, and an interval for one look."""
    dealt = generator.random(LOOKS[-1]) < share
    values = generator.exponential(size=LOOKS[-1])  # skewed, as revenue is
    sequence_missed = fixed_missed = False
    for looked_at in LOOKS:
        to_candidate, seen = dealt[:looked_at], values[:looked_at]
        candidate, champion = seen[to_candidate], seen[~to_candidate]
        effect = difference(candidate, champion, ALPHA, tightest_at=2_000)
        assert effect is not None
        sequence_missed = sequence_missed or not effect.low <= 0.0 <= effect.high
        half_width = 1.645 * np.sqrt(candidate.var() / len(candidate) + champion.var() / len(champion))
        fixed_missed = fixed_missed or abs(effect.value) > half_width
    return sequence_missed, fixed_missed


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_no_effect_is_rarely_mistaken_at_any_look(share: float) -> None:
    generator = np.random.default_rng(3)
    missed = np.array([peeked(generator, share) for _ in range(NUM_RUNS)])
    sequence, fixed = missed.mean(axis=0)
    assert sequence <= ALPHA
    assert fixed > 2 * ALPHA, "an interval for one look would do: the simulation shows nothing"


def test_a_real_effect_is_found_and_covered() -> None:
    generator = np.random.default_rng(5)
    effect = difference(generator.normal(0.3, 1, 3_000), generator.normal(0.0, 1, 3_000), 0.05, 5_000)
    assert effect is not None
    assert 0.0 < effect.low < 0.3 < effect.high


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30)
)
def test_swapping_the_sides_mirrors_the_interval(first: list[float], second: list[float]) -> None:
    a, b = (difference(np.array(x), np.array(y), 0.05, 100) for x, y in ((first, second), (second, first)))
    assert a is not None and b is not None
    assert (a.value, a.low, a.high) == pytest.approx((-b.value, -b.high, -b.low), rel=1e-9, abs=1e-6)
    assert a.low <= a.value <= a.high


def test_one_unit_is_not_enough() -> None:
    assert difference(np.array([1.0]), np.array([1.0, 2.0]), 0.05, 100) is None
