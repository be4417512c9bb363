"""Project of the serving benchmark: 20 features of a customer in one view, and the network that the flights use."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from app.features.store import FeatureStore
from app.models.artefact import Inputs
from app.models.export import save_torch
from app.models.signature import Signature
from app.models.tabular import residual_mlp
from app.models.transform import Transform
from app.settings import Settings
from app.spec import (
    Cases,
    DatasetFunction,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    Label,
    Project,
    Source,
    Timeline,
    TorchModel,
)
from app.spec.models import SklearnModel

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
NUMBERS = tuple(f"number_{i}" for i in range(16))
TEXTS = tuple(f"text_{i}" for i in range(4))
CHOICES = tuple(f"choice-{i}" for i in range(20))
NUM_CUSTOMERS = 1_000


def _never() -> None:
    raise AssertionError("the benchmark pushes its rows; it reads no source")


FIELDS = (*(Field(n, "float64") for n in NUMBERS), *(Field(n, "string") for n in TEXTS))
CUSTOMER = Entity("customer", ("customer_id",))
PROFILE = Source(
    "profile", DatasetFunction(_never), (Field("customer_id", "int64"), *FIELDS, Field("at", "timestamp")),
    key=("customer_id", "at"), event_timestamp="at",
)
ORDERS = Source(
    "orders", DatasetFunction(_never),
    (
        Field("order_id", "string"), Field("customer_id", "int64"), Field("paid", "int64"), Field("at", "timestamp"),
    ),
    key=("order_id",), event_timestamp="at",
)
SERVICE = FeatureService("payment", ("profile_now:*",))

PROJECT = Project(
    name="bench",
    sources=(PROFILE, ORDERS),
    views=(FeatureView("profile_now", (CUSTOMER,), PROFILE, FIELDS),),
    cases=Cases(ORDERS, key="order_id", prediction_timestamp="at"),
    label=Label(ORDERS, "paid"),
    model=TorchModel("payment", SERVICE, "app.models.tabular:residual_mlp", categorical=TEXTS),
    baseline=SklearnModel("trees", SERVICE, "sklearn.ensemble:HistGradientBoostingClassifier", categorical=TEXTS),
    timeline=Timeline(START, START + DAY, START + 2 * DAY, START + 3 * DAY),
)
CACHED = replace(PROJECT, serving=replace(PROJECT.serving, cache_entries=10_000))


def rows(num_rows: int, seed: int = 0) -> list[dict[str, Any]]:
    """Full feature rows."""
    generator = np.random.default_rng(seed)
    numbers = generator.normal(size=(num_rows, len(NUMBERS))).round(4)
    texts = generator.integers(0, len(CHOICES), size=(num_rows, len(TEXTS)))
    return [
        {
            **dict(zip(NUMBERS, n.tolist(), strict=True)),
            **{name: CHOICES[i] for name, i in zip(TEXTS, t.tolist(), strict=True)},
        }
        for n, t in zip(numbers, texts, strict=True)
    ]


def save_model(folder: Path) -> Path:
    """The flights' network with these inputs; what it says does not matter here, how long it takes does."""
    torch.manual_seed(7)
    frame = pd.DataFrame(rows(2_000))
    transform = Transform.fit(frame, NUMBERS, TEXTS)
    module = residual_mlp(Signature(transform.num_numeric, transform.cardinalities, "binary"))
    return save_torch(folder, module.eval(), transform, "binary", Inputs((*NUMBERS, *TEXTS), TEXTS), frame, {})


def fill(settings: Settings, versions: tuple[str, ...] = ("1", "2")) -> None:
    """Versions and features in the stores of `settings`."""
    for version in versions:
        save_model(settings.artefacts / PROJECT.name / version)
    store = FeatureStore(PROJECT, settings)
    store.apply()
    known = [{"customer_id": i, **row, "at": START} for i, row in enumerate(rows(NUM_CUSTOMERS))]
    store.push("profile_now", known, to="online")
