"""Synthetic checks of machines in a workshop, the same rows each time.

Each check asks: will this machine stop within the next three hours? On `DRIFT_AT` a new product comes: loads jump,
and a high load, which used to stop machines, now keeps them running. A model of the old days ranks the new ones
backwards.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl

SEED = 11
START = datetime(2024, 3, 4, tzinfo=UTC)
NUM_DAYS = 22
DRIFT_AT = START + timedelta(days=14)
NUM_MACHINES = 25
CHECK_EVERY = timedelta(hours=2)
KNOWN_AFTER = timedelta(hours=3)


@cache
def checks() -> pl.DataFrame:
    """One row per machine and check, with its reading and its outcome: 6,600 rows."""
    random = np.random.default_rng(SEED)
    moments = [START + i * CHECK_EVERY for i in range(NUM_DAYS * 12)]
    num_rows = len(moments) * NUM_MACHINES
    machine = np.tile(np.arange(NUM_MACHINES), len(moments))
    moment = np.repeat(np.array([m.replace(tzinfo=None) for m in moments], dtype="datetime64[us]"), NUM_MACHINES)
    new = moment >= np.datetime64(DRIFT_AT.replace(tzinfo=None), "us")
    weakness = random.normal(0.0, 0.5, NUM_MACHINES)[machine]
    temperature = np.round(random.normal(60.0, 6.0, num_rows), 1)
    load = np.round(random.normal(50.0, 10.0, num_rows) + np.where(new, 20.0, 0.0)).astype(np.int64)
    shift = random.choice(np.array(["day", "late", "night"]), num_rows)
    strain = np.where(new, -0.22 * (load - 70.0), 0.22 * (load - 50.0))
    logit = strain + 0.15 * (temperature - 60.0) + weakness + 0.8 * (shift == "night") - 0.6
    stopped = (random.random(num_rows) < 1.0 / (1.0 + np.exp(-logit))).astype(np.int64)
    rows = pl.DataFrame(
        {"machine": machine, "checked_timestamp": moment, "temperature": temperature, "load": load,
         "shift": shift, "stopped": stopped}
    )
    return rows.select(
        pl.format("{}-m{}", pl.col("checked_timestamp").dt.strftime("%Y%m%dT%H"), "machine").alias("check_id"),
        pl.format("m{}", "machine").alias("machine"),
        "load", "shift", "temperature", "stopped",
        pl.col("checked_timestamp").dt.replace_time_zone("UTC"),
        (pl.col("checked_timestamp").dt.replace_time_zone("UTC") + KNOWN_AFTER).alias("known_timestamp"),
    )
