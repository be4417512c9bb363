"""Feature requests over HTTP: several views at once, refusals that name the field, answers that are JSON."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from typing import Any

import pytest

from app.errors import MillraceError, RequestError, UnknownNameError
from app.features.push import PushResult
from app.features.store import FeatureStore
from app.serving.feature_requests import online_answer, parse_online, parse_push, push_answer
from app.settings import Settings
from tests.unit.features import shop

PRICE_ROW = {"sku": 1, "price": 5, "since": "2013-01-05T01:00:00+01:00"}
ASKED: dict[str, Any] = {"entities": [{"sku": 1, "shop": "a"}], "features": ["price:price", "last_sale:*"]}


def test_several_views_for_several_entities_at_a_moment() -> None:
    request = parse_online(
        {**ASKED, "entities": [{"sku": 1, "shop": "a"}, {"sku": None, "shop": "b"}], "at": "2013-01-05T00:00:00Z"},
        shop.PROJECT,
    )
    assert request.features == ("price:price", "last_sale:*")
    assert request.rows == ({"sku": 1, "shop": "a"}, {"sku": None, "shop": "b"})
    assert (request.at, request.full_feature_names) == (datetime(2013, 1, 5, tzinfo=UTC), False)


def test_without_features_those_of_the_model_are_meant() -> None:
    assert parse_online({"entities": [{"sku": 1, "quantity": 2}]}, shop.PROJECT).features is shop.PROJECT.service


def test_keys_may_have_the_names_a_reference_gives_them() -> None:
    asked = {"entities": [{"article": 7}], "features": ["price[sku=article]:price"]}
    assert parse_online(asked, shop.PROJECT).rows == ({"article": 7},)


@pytest.mark.parametrize(
    ("change", "error", "where"),
    [
        ({"entities": []}, RequestError, "entities"),
        ({"entities": {"sku": 1}}, RequestError, "entities"),
        ({"entities": [1]}, RequestError, "entities[0]"),
        ({"entities": [{"sku": "1"}]}, RequestError, "entities[0].sku"),
        ({"entities": [{"sku": 1}, {"colour": "red"}]}, RequestError, "entities[1]"),
        ({"features": []}, RequestError, "features"),
        ({"features": "price:price"}, RequestError, "features"),
        ({"features": ["price:price", 3]}, RequestError, "features[1]"),
        ({"features": ["price"]}, RequestError, "features[0]"),
        ({"features": ["prize:price"]}, UnknownNameError, "features[0]"),
        ({"features": ["prize[sku=article]:price"]}, UnknownNameError, "features[0]"),
        ({"at": "soon"}, RequestError, "at"),
        ({"full_feature_names": 1}, RequestError, "full_feature_names"),
        ({"colour": "red"}, RequestError, "colour"),
    ],
)
def test_online_refusals_name_the_field(change: dict[str, Any], error: type[MillraceError], where: str) -> None:
    with pytest.raises(error) as refused:
        parse_online({**ASKED, **change}, shop.PROJECT)
    assert where in refused.value.message
    assert 400 <= refused.value.http_status < 500


@pytest.mark.parametrize(
    ("change", "error", "where"),
    [
        ({"source": "stock"}, UnknownNameError, "stock"),
        ({"view": "price"}, RequestError, "either"),
        ({"to": "nowhere"}, RequestError, "to is"),
        ({"rows": []}, RequestError, "rows"),
        ({"rows": [{**PRICE_ROW, "price": "5"}]}, RequestError, "rows[0].price"),
        ({"rows": [PRICE_ROW, {"sku": 1}]}, RequestError, "rows[1]"),
        ({"rows": [{**PRICE_ROW, "since": None}]}, RequestError, "rows[0].since"),
        ({"rows": [{**PRICE_ROW, "sku": None}]}, RequestError, "rows[0].sku"),
    ],
)
def test_push_refusals_name_the_field(change: dict[str, Any], error: type[MillraceError], where: str) -> None:
    with pytest.raises(error) as refused:
        parse_push({"source": "prices", "rows": [PRICE_ROW], **change}, shop.PROJECT)
    assert where in refused.value.message
    assert 400 <= refused.value.http_status < 500


def test_one_view_is_pushed_to_with_rows_of_its_source() -> None:
    request = parse_push({"view": "price", "rows": [PRICE_ROW], "to": "online_and_offline"}, shop.PROJECT)
    assert (request.source, request.view, request.to) == ("prices", "price", "online_and_offline")
    assert request.rows[0]["since"] == datetime(2013, 1, 5, tzinfo=UTC)
    with pytest.raises(UnknownNameError, match="purchase"):
        parse_push({"view": "purchase", "rows": [PRICE_ROW]}, shop.PROJECT)


def test_what_was_pushed_is_answered(settings: Settings) -> None:
    store = FeatureStore(shop.PROJECT, settings)
    store.apply()
    pushed = parse_push({"source": "prices", "rows": [PRICE_ROW]}, shop.PROJECT)
    assert push_answer(store.push_source(pushed.source, pushed.rows, pushed.to)) == {
        "accepted": 1, "refused": 0, "reasons": []
    }
    asked = parse_online(
        {"entities": [{"sku": 1}, {"sku": 2}], "features": ["price:price"], "at": "2013-01-06T00:00:00Z"}, shop.PROJECT
    )
    found = store.get_online_features(asked.features, asked.rows, asked.at, asked.full_feature_names)
    assert json.loads(online_answer(found)) == {"features": [{"sku": 1, "price": 5}, {"sku": 2, "price": None}]}


def test_answers_are_json() -> None:
    row = {"at": datetime(2013, 1, 1, tzinfo=UTC), "on": date(2013, 1, 1), "x": math.inf, "y": 0.1, "z": [1, None]}
    assert json.loads(online_answer([row])) == {
        "features": [{"at": "2013-01-01T00:00:00+00:00", "on": "2013-01-01", "x": None, "y": 0.1, "z": [1, None]}]
    }
    assert push_answer(PushResult(1, ("late", "late", "early"))) == {
        "accepted": 1, "refused": 3, "reasons": ["early", "late"]
    }
