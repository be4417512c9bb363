"""What is accepted, and that a refusal names the field that must change."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import RequestError
from app.serving.request import MAX_BODY_BYTES, parse_body, parse_predict
from app.serving.schema import RequestSchema
from app.spec.features import FeatureService
from tests.unit.features import shop

SCHEMA = RequestSchema(
    key="id",
    entity={"id": "string", "shop": "int64", "price": "float64", "open": "bool", "since": "timestamp"},
    features={"price": "float64", "sales_7d": "float64"},
)
ROW: dict[str, Any] = {"id": "a", "shop": 1, "price": 2, "open": True, "since": "2026-01-01T00:00:00Z"}


def test_a_service_may_join_a_view_under_other_keys() -> None:
    gift = shop.PRICE.with_join_key_map({"sku": "gift"})
    service = FeatureService("buying", ("last_sale:sale_id", *gift.with_name("present")["price",], "purchase:*"))
    model = dataclasses.replace(shop.MODEL, service=service)
    project = dataclasses.replace(shop.PROJECT, model=model, baseline=model)
    schema = RequestSchema.of(project)
    assert schema.entity == {"case_id": "string", "shop": "string", "gift": "int64", "quantity": "int64"}
    assert schema.features["present__price"] == "int64"


def parse(body: dict[str, Any]) -> Any:
    return parse_predict(parse_body(json.dumps(body).encode()), SCHEMA, ["price", "sales_7d"])


def test_entities() -> None:
    request = parse({"entities": [ROW], "at": "2026-01-02T01:00:00+01:00", "request_id": "r"})
    assert (request.request_id, request.keys, request.has_features) == ("r", ("a",), False)
    assert request.at.isoformat() == "2026-01-02T00:00:00+00:00"
    assert request.rows[0]["price"] == 2.0
    assert request.rows[0]["since"].utcoffset().total_seconds() == 0


def test_full_feature_rows_may_go_without_key() -> None:
    request = parse({"rows": [{"price": 1.0, "sales_7d": None}, {"price": 1.0, "sales_7d": 2}]})
    assert (request.keys, request.has_features) == (("0", "1"), True)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"shop": "1"}, "shop"),
        ({"shop": 1.5}, "shop"),
        ({"shop": True}, "shop"),
        ({"shop": 2**63}, "shop"),
        ({"open": 1}, "open"),
        ({"price": "2"}, "price"),
        ({"since": "yesterday"}, "since"),
        ({"id": None}, "id"),
    ],
)
def test_wrong_fields_are_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(RequestError, match=named):
        parse({"entities": [{**ROW, **change}]})


@pytest.mark.parametrize("missing", list(ROW))
def test_missing_fields_are_named(missing: str) -> None:
    row = {name: value for name, value in ROW.items() if name != missing}
    with pytest.raises(RequestError, match=missing):
        parse({"entities": [row]})


@pytest.mark.parametrize(
    "body",
    [
        {}, {"entities": []}, {"entities": {}}, {"entities": [1]}, {"entities": [ROW], "rows": []},
        {"entities": [ROW, ROW]}, {"entities": [ROW], "extra": 1}, {"entities": [ROW], "at": 5},
        {"entities": [ROW], "request_id": 7}, {"rows": [{"price": 1.0}]},
    ],
)
def test_wrong_bodies(body: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        parse(body)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"entities": [{"price": NaN}]}', b"[" * 100_000])
def test_not_json(body: bytes) -> None:
    with pytest.raises(RequestError) as raised:
        parse_body(body)
    assert raised.value.http_status == 400


def test_too_large() -> None:
    with pytest.raises(RequestError) as raised:
        parse_body(b" " * (MAX_BODY_BYTES + 1))
    assert raised.value.http_status == 413


def test_infinity_in_disguise() -> None:
    with pytest.raises(RequestError, match="price"):
        parse_predict(parse_body(json.dumps({"entities": [ROW]}).replace("2,", "1e999,").encode()), SCHEMA, [])


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)


@given(entities=json_values, row=st.dictionaries(st.sampled_from(list(ROW)), json_values))
def test_any_body_is_answered_or_refused(entities: Any, row: dict[str, Any]) -> None:
    for body in ({"entities": entities}, {"entities": [{**ROW, **row}]}, {"rows": [row]}):
        try:
            parse_predict(body, SCHEMA, ["price"])
        except RequestError as error:
            assert error.message
