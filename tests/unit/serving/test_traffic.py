"""The split is sticky, proportional and monotone in the weight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import RequestError
from app.serving.traffic import assign, read_override, split

keys = st.text(max_size=30)
weights = st.floats(0, 100)


@given(key=keys, salt=keys, weight=weights)
def test_same_key_same_side(key: str, salt: str, weight: float) -> None:
    assert assign(key, weight, salt) == assign(key, weight, salt)


@given(key=keys, salt=keys, low=weights, high=weights)
def test_raising_the_weight_never_moves_a_row_back(key: str, salt: str, low: float, high: float) -> None:
    low, high = sorted((low, high))
    if assign(key, low, salt) == "candidate":
        assert assign(key, high, salt) == "candidate"


@given(key=keys, salt=keys)
def test_nothing_and_everything(key: str, salt: str) -> None:
    assert assign(key, 0.0, salt) == "champion"
    assert assign(key, 100.0, salt) == "candidate"


@pytest.mark.parametrize("weight", [1.0, 10.0, 50.0, 90.0])
def test_share_is_the_weight(weight: float) -> None:
    num_rows = 40_000
    sides = split([f"flight-{i}" for i in range(num_rows)], weight, "rollout-1")
    share = 100 * sides.count("candidate") / num_rows
    deviation = 100 * (weight / 100 * (1 - weight / 100) / num_rows) ** 0.5
    assert abs(share - weight) < 4 * deviation


def test_rollouts_split_independently() -> None:
    names = [f"flight-{i}" for i in range(20_000)]
    first, second = split(names, 50, "rollout-1"), split(names, 50, "rollout-2")
    both = sum(a == b == "candidate" for a, b in zip(first, second, strict=True))
    assert abs(both / len(names) - 0.25) < 0.02


def test_salt_and_key_are_not_glued_together() -> None:
    pairs = [(assign(f"1{i}", 50, "a"), assign(str(i), 50, "a1")) for i in range(200)]
    assert any(left != right for left, right in pairs)


def test_override_takes_all_rows() -> None:
    assert split(["a", "b"], 0, "s", "candidate") == ["candidate", "candidate"]


@pytest.mark.parametrize(("value", "has_candidate"), [("green", True), ("candidate", False)])
def test_override_that_cannot_be_followed(value: str, has_candidate: bool) -> None:
    with pytest.raises(RequestError, match="x-millrace-variant"):
        read_override(value, has_candidate=has_candidate)
