"""The shop later on: its prices live longer, and only some may read them."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

from app.spec import AccessPolicy, Role
from tests.unit.features import shop

PRICE = dataclasses.replace(shop.PRICE, ttl=timedelta(days=3))
PROJECT = dataclasses.replace(shop.PROJECT, views=(shop.TURNOVER, PRICE, shop.LAST_SALE))
GUARDED = dataclasses.replace(shop.PROJECT, access=AccessPolicy(roles=(Role("pricing", ("ann",), ("read",)),)))
