"""Feast's side of the online benchmark: the same values in its SQLite or Redis store, read by `get_online_features`.

Arguments: `views` (name → Parquet file with `customer_id`, `event_timestamp` and the features), `folder`, `store`
(its `online_store` section), `requests` (lists of keys), `num_warm_up`, `sample` (keys whose answer is given back).
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
import yaml
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64, String

TYPES = {"float64": Float64, "int64": Int64}


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(asked["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "project": "bench", "provider": "local", "registry": str(folder / "registry.db"),
        "online_store": asked["store"], "entity_key_serialization_version": 3,
    }
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(config))
    store = FeatureStore(repo_path=str(folder))
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.INT64)
    views, frames = [], {}
    for name, path in asked["views"].items():
        frames[name] = pd.read_parquet(path)
        features = [c for c in frames[name].columns if c not in ("customer_id", "event_timestamp")]
        schema = [Field(name=c, dtype=TYPES.get(str(frames[name][c].dtype), String)) for c in features]
        source = FileSource(name=f"{name}_file", path=path, timestamp_field="event_timestamp")
        views.append(FeatureView(name=name, entities=[customer], schema=schema, source=source, ttl=timedelta(days=365)))
    service = FeatureService(name="all", features=views)
    store.apply([customer, *views, service])
    for name, frame in frames.items():
        store.write_to_online_store(name, frame)
    service = store.get_feature_service("all")

    def read(keys: list[int]) -> dict:
        rows = [{"customer_id": key} for key in keys]
        return store.get_online_features(features=service, entity_rows=rows).to_dict()

    for keys in asked["requests"][: asked["num_warm_up"]]:
        read(keys)
    times = []
    for keys in asked["requests"][asked["num_warm_up"] :]:
        started = time.perf_counter()
        read(keys)
        times.append(time.perf_counter() - started)
    Path(sys.argv[2]).write_text(json.dumps({"times_s": times, "sample": read(asked["sample"])}))


main()
