"""Every row gets exactly one answer, and a candidate's failure is the champion's answer."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ModelError
from app.serving.answer import NOT_FINITE, CandidateAnswer, combine, rows_for_champion
from app.serving.routing import Route
from app.serving.traffic import Variant

ROUTE = Route("m", 3, "1", "2", 50.0)
sides = st.lists(st.sampled_from(["champion", "candidate"]), max_size=12)
scores = st.one_of(st.floats(0, 1), st.sampled_from([math.nan, math.inf]))


@given(assigned=sides, data=st.data())
def test_one_answer_for_each_row(assigned: list[Variant], data: st.DataObject) -> None:
    num_rows = assigned.count("candidate")
    answer = data.draw(
        st.one_of(
            st.builds(CandidateAnswer, st.just(()), st.just("TimeoutError")),
            st.builds(CandidateAnswer, st.lists(scores, min_size=num_rows, max_size=num_rows).map(tuple)),
            st.builds(CandidateAnswer, st.lists(scores, max_size=20).map(tuple)),
        )
    )
    wanted = rows_for_champion(assigned, answer)
    keys = [str(row) for row in range(len(assigned))]
    predictions = combine(keys, assigned, ROUTE, dict.fromkeys(wanted, 0.25), answer)
    assert [p.key for p in predictions] == keys
    assert all(math.isfinite(p.score) for p in predictions)
    for row, (side, p) in enumerate(zip(assigned, predictions, strict=True)):
        assert p.variant == side
        assert (p.answered_by == "champion") == (row in wanted)
        assert p.version == {"champion": "1", "candidate": "2"}[p.answered_by]
        assert (p.error is not None) == (p.variant != p.answered_by)


def test_one_bad_number_costs_one_row() -> None:
    assigned: list[Variant] = ["candidate", "champion", "candidate"]
    answer = CandidateAnswer((math.nan, 0.9))
    assert rows_for_champion(assigned, answer) == [0, 1]
    predictions = combine(["a", "b", "c"], assigned, ROUTE, {0: 0.1, 1: 0.2}, answer)
    assert [(p.score, p.answered_by, p.error) for p in predictions] == [
        (0.1, "champion", NOT_FINITE), (0.2, "champion", None), (0.9, "candidate", None),
    ]


def test_champion_without_a_number_is_an_error() -> None:
    with pytest.raises(ModelError, match="no finite score for 'a'"):
        combine(["a"], ["champion"], ROUTE, {0: math.nan}, CandidateAnswer())
