"""One key, two ways to compute it."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from app.features.content_hash import content_hash
from app.features.keys import entity_key, entity_keys

PART = st.one_of(st.none(), st.text(max_size=4))


@given(st.lists(st.tuples(PART, st.one_of(st.none(), st.integers(-99, 99))), min_size=1))
def test_vectorised_and_single_keys_agree_and_never_collide(rows) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.String, "b": pl.Int64}, orient="row")
    keys = entity_keys(frame, ["a", "b"]).to_list()
    assert keys == [entity_key(list(row)) for row in rows]
    whole = {row: key for row, key in zip(rows, keys, strict=True) if key is not None}
    assert len(set(whole.values())) == len(whole)


@given(st.lists(st.tuples(st.integers(0, 3), PART), max_size=20), st.randoms(), st.integers(0, 20))
def test_content_hash_ignores_order_and_blocks_and_counts_repeats(rows, random, cut) -> None:
    def table(of) -> pa.Table:
        schema = pa.schema([("i", pa.int64()), ("s", pa.string())])
        return pa.Table.from_pylist([{"i": i, "s": s} for i, s in of], schema=schema)

    shuffled = list(rows)
    random.shuffle(shuffled)
    digest = content_hash([table(rows)])
    assert content_hash([table(shuffled[:cut]), table(shuffled[cut:])]) == digest
    assert content_hash([table([*rows, (1, "a"), (1, "a")])]) != digest
