"""Profiles are whylogs' own, and say the same whether made at once or merged."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from app.profiles import merge_profiles, profile_table, read_profile, shared_bins, summary


def table(num_rows: int = 5_000, shift: float = 0.0, seed: int = 0) -> pa.Table:
    random = np.random.default_rng(seed)
    x = random.normal(shift, 1, num_rows)
    return pa.table(
        {
            "x": pa.array(x, mask=np.arange(num_rows) % 10 == 0),
            "n": random.integers(0, 5, num_rows),
            "kind": random.choice(["a", "b", "c"], num_rows, p=[0.7, 0.2, 0.1]),
            "flag": random.uniform(size=num_rows) < 0.3,
        }
    )


def test_whylogs_itself_reads_the_profile() -> None:
    frame = read_profile(profile_table(table())).to_pandas()
    assert frame.loc["x", "counts/n"] == 5_000 and frame.loc["x", "counts/null"] == 500
    assert frame.loc["x", "distribution/mean"] == pytest.approx(0.0, abs=0.05)
    assert frame.loc["x", "distribution/stddev"] == pytest.approx(1.0, abs=0.05)
    assert frame.loc["flag", "types/boolean"] == 5_000


def test_merged_parts_say_what_the_whole_says() -> None:
    whole = table()
    parts = [profile_table(whole.slice(i, 1_000)) for i in range(0, 5_000, 1_000)]
    merged, once = summary(merge_profiles(parts)), summary(profile_table(whole))
    for name in whole.column_names:
        assert (merged[name].count, merged[name].nulls) == (once[name].count, once[name].nulls)
    assert merged["kind"].categories() == once["kind"].categories()
    ranks = np.array([0.1, 0.5, 0.9])
    np.testing.assert_array_equal(merged["x"].quantiles(ranks), once["x"].quantiles(ranks))


def test_bins_do_not_depend_on_the_order_or_grouping_of_rows() -> None:
    whole = table(20_000)
    shuffled = whole.take(np.random.default_rng(1).permutation(20_000))
    parts = [profile_table(shuffled.slice(i, 3_000)) for i in range(0, 20_000, 3_000)]
    reference, once = summary(profile_table(table(40_000, seed=2))), summary(profile_table(whole))
    again = summary(merge_profiles(parts))
    for name in whole.column_names:
        np.testing.assert_array_equal(
            shared_bins(reference[name], once[name]).current, shared_bins(reference[name], again[name]).current
        )


def test_bins_hold_every_row_and_nulls_are_a_bin_of_their_own() -> None:
    reference, current = summary(profile_table(table())), summary(profile_table(table(2_000, seed=1)))
    for name in reference:
        bins = shared_bins(reference[name], current[name])
        assert bins.reference.sum() == pytest.approx(5_000)
        assert bins.current.sum() == pytest.approx(2_000)
    assert shared_bins(reference["x"], current["x"]).current[-1] == 200


def test_a_column_of_nulls_or_one_value_is_no_problem() -> None:
    odd = pa.table({"nulls": pa.array([None, None], pa.float64()), "same": [1.0, 1.0], "text": pa.array([None, "a"])})
    found = summary(profile_table(odd))
    assert found["nulls"].null_rate == 1.0
    assert shared_bins(found["same"], found["same"]).reference.sum() == 2
    assert found["text"].categories() == {"a": 1.0}
