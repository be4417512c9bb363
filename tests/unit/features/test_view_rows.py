"""Transforms: rows keep their identity however they are filtered, repeated or renamed."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pytest

from app.errors import FeatureStoreError, MissingColumnError, SchemaMismatchError
from app.features.arrow_types import conform
from app.features.raw_tables import raw_rows
from app.features.view_rows import view_rows
from app.spec import FeatureView, Field
from tests.unit.features import shop

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def raw() -> pa.Table:
    frame = shop.sales_frame().head(6)
    frame.loc[frame.index[5], "known_at"] = pd.NaT
    return raw_rows(conform(pa.Table.from_pandas(frame), shop.SALES.fields, "x"), shop.SALES, CREATED)


def with_transform(function) -> FeatureView:
    return dataclasses.replace(shop.LAST_SALE, transform=function)


def test_rows_that_never_became_available_are_left_out() -> None:
    rows = view_rows(shop.LAST_SALE, raw())
    assert rows["sale_id"].to_pylist() == [0, 1, 2, 3, 4]
    assert set(rows["source_created_timestamp"].to_pylist()) == {CREATED}


@pytest.mark.parametrize(
    "function",
    [
        lambda f: f[f["sale_id"] > 1],
        lambda f: f[f["sale_id"] > 1].reset_index(drop=True),
        lambda f: f.iloc[::-1][f.iloc[::-1]["sale_id"] > 1],
        lambda f: f.loc[f["sale_id"] > 1, ["shop", "sale_id", "sold_at"]],
    ],
)
def test_identity_survives_filters(function) -> None:
    whole = {r["row_key"]: r for r in view_rows(shop.LAST_SALE, raw()).to_pylist()}
    rows = view_rows(with_transform(function), raw()).to_pylist()
    assert len(rows) == 3
    assert all(whole[r["row_key"]] == r for r in rows)


def test_repeated_rows_get_identities_of_their_own() -> None:
    rows = view_rows(with_transform(lambda f: pd.concat([f, f.assign(shop="all")])), raw())
    keys = rows["row_key"].to_pylist()
    assert len(set(keys)) == len(keys) == 10
    assert rows.filter(pa.compute.equal(rows["shop"], "all"))["row_key"].to_pylist() == [f"1:{i}#1" for i in range(5)]


def test_a_transform_cannot_lose_track_of_rows() -> None:
    with pytest.raises(FeatureStoreError, match="keep the frame's index"):
        lost = dataclasses.replace(shop.LAST_SALE, fields=(), transform=lambda f: f[["shop"]].reset_index(drop=True))
        view_rows(lost, raw())


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (lambda f: f.drop(columns="shop"), MissingColumnError),
        (lambda f: f.assign(sale_id="x"), SchemaMismatchError),
        (lambda f: f.assign(sale_id=[1, "x", 1, 1, 1, 1]), SchemaMismatchError),
    ],
)
def test_results_that_are_not_as_declared(function, error) -> None:
    with pytest.raises(error, match="transform of feature view 'last_sale'"):
        view_rows(with_transform(function), raw())


@pytest.mark.parametrize(
    "function",
    [lambda f: f.set_axis([f"lost-{i}" for i in f["sale_id"]])[["shop", "sold_at"]], lambda f: f["lost-1"].no_such],
)
def test_what_a_transform_did_wrong_names_no_personal_value(function) -> None:
    """Neither the key of a row nor the text of the transform's own error, when the source's key is personal."""
    fields = tuple(dataclasses.replace(f, pii=f.name == "sale_id") for f in shop.SALES.fields)
    source = dataclasses.replace(shop.SALES, fields=fields)
    for view, told in ((shop.LAST_SALE, True), (dataclasses.replace(shop.LAST_SALE, source=source), False)):
        changed = dataclasses.replace(view, transform=function, fields=(Field("shop", "string"),))
        with pytest.raises(FeatureStoreError) as failed:
            view_rows(changed, raw())
        assert ("lost-" in str(failed.value)) == told
        assert told or failed.value.__suppress_context__ or failed.value.__context__ is None
