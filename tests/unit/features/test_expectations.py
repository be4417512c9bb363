"""Which rows pass, and what is said of the others."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from app.features.expectations import check
from app.spec.features import Expectation

NUMBERS = st.lists(st.one_of(st.none(), st.floats(-10, 10), st.just(float("nan"))))


@given(NUMBERS, st.booleans(), st.floats(-10, 10), st.floats(-10, 10))
def test_numbers_against_reference(values, not_null, low, high) -> None:
    table = pa.table({"x": pa.array(values, pa.float64()), "i": pa.array(range(len(values)), pa.int64())})
    passed, failed = check(table, [Expectation("x", not_null=not_null, minimum=low, maximum=high)])
    missing = [v is None or v != v for v in values]
    good = [
        i for i, v in enumerate(values) if (not not_null if missing[i] else low <= v <= high)
    ]
    assert passed["i"].to_pylist() == good
    assert sorted([*good, *failed["i"].to_pylist()]) == list(range(len(values)))
    assert all(failed["reason"].to_pylist())


def test_each_broken_rule_is_named() -> None:
    table = pa.table({"code": ["AB", "abc", None, "EF"], "n": [1, 99, 2, 3]})
    passed, failed = check(
        table,
        [Expectation("code", not_null=True, matches="[A-Z]{2}", one_of=("AB", "CD")), Expectation("n", maximum=50)],
    )
    assert passed["code"].to_pylist() == ["AB"]
    reasons = failed["reason"].to_pylist()
    assert reasons[0] == "code is none of ('AB', 'CD'); code does not match '[A-Z]{2}'; n is above 50"
    assert reasons[1] == "code is null"
    assert reasons[2] == "code is none of ('AB', 'CD')"


def test_no_expectations_pass_everything() -> None:
    table = pa.table({"x": [1, 2]})
    passed, failed = check(table, [])
    assert passed.num_rows == 2
    assert failed.num_rows == 0
    assert failed.column_names == ["x", "reason"]
