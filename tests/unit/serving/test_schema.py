"""What a request must have follows from everything that its answer is made of."""

from __future__ import annotations

from dataclasses import replace

from app.serving.schema import RequestSchema
from app.spec import FeatureService
from tests.unit.features import shop


def schema_of(*features: str) -> RequestSchema:
    service = FeatureService("buying", features)
    model = replace(shop.MODEL, service=service)
    return RequestSchema.of(replace(shop.PROJECT, model=model, baseline=model))


def test_keys_of_a_view_that_only_an_on_demand_view_reads_are_asked_for() -> None:
    """`purchase` takes the price, whose view is not in the service."""
    schema = schema_of("last_sale:sale_id", "purchase:*")
    assert set(schema.entity) == {"case_id", "quantity", "shop", "sku"}
    assert schema.entity["sku"] == "int64"


def test_keys_of_views_that_nothing_reads_are_not() -> None:
    assert set(schema_of("last_sale:sale_id").entity) == {"case_id", "quantity", "shop"}
