"""DuckDB's side of the join benchmark: an ASOF join of Parquet files, to an Arrow table.

Arguments: `features` (list of Parquet files), `spine` (Parquet file), `threads`, `repeats`, `answer` (file to write, or
null).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import duckdb
import pyarrow.parquet as pq


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text())
    connection = duckdb.connect(config={"threads": asked["threads"]})
    query = """
        SELECT s.*, f.v FROM read_parquet($spine) s ASOF LEFT JOIN read_parquet($features, hive_partitioning=false) f
        ON s.k = f.k AND s.event_timestamp >= f.event_timestamp
    """
    times = []
    for _ in range(asked["repeats"]):
        started = time.perf_counter()
        found = connection.execute(query, {"spine": asked["spine"], "features": asked["features"]}).to_arrow_table()
        times.append(time.perf_counter() - started)
    if asked["answer"]:
        pq.write_table(found, asked["answer"])
    Path(sys.argv[2]).write_text(json.dumps({"times_s": times, "rows": found.num_rows}))


main()
