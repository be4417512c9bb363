"""Feast's side of the join benchmark: `get_historical_features` from one Parquet file.

Arguments: `features` and `spine` (Parquet files), `folder`, `store` (`file` or `duckdb`), `repeats`, `answer` (file to
write).
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
import yaml
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Float64


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(asked["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "project": "bench", "provider": "local", "registry": str(folder / "registry.db"),
        "offline_store": {"type": asked["store"]}, "entity_key_serialization_version": 3,
    }
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(config))
    store = FeatureStore(repo_path=str(folder))
    thing = Entity(name="thing", join_keys=["k"], value_type=ValueType.INT64)
    source = FileSource(
        name="readings_file", path=asked["features"], timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )
    view = FeatureView(
        name="readings", entities=[thing], schema=[Field(name="v", dtype=Float64)], source=source,
        ttl=timedelta(days=400),
    )
    store.apply([thing, view])
    spine = pd.read_parquet(asked["spine"])
    times = []
    for _ in range(asked["repeats"]):
        started = time.perf_counter()
        found = store.get_historical_features(entity_df=spine, features=["readings:v"]).to_df()
        times.append(time.perf_counter() - started)
    found[["row", "v"]].to_parquet(asked["answer"])
    Path(sys.argv[2]).write_text(json.dumps({"times_s": times, "rows": len(found)}))


main()
