"""The work of a backfill on some raw rows: every view that reads them, computed and staged. Runs in any process."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import polars as pl
import pyarrow as pa
import ray.data

from app.features.arrow_types import TIMESTAMP, arrow_schema
from app.features.expectations import check
from app.features.gone_rows import SOURCE_KEY, WITH
from app.features.key_parts import PIECE_ROWS
from app.features.known_rows import settled_order
from app.features.quarantine import quarantine_rows, quarantine_table
from app.features.raw_snapshot import RefusedBefore
from app.features.raw_tables import CREATED
from app.features.view_rows import source_frame, stored_fields, view_rows
from app.features.view_tables import view_table
from app.features.window_rows import all_distinct
from app.foundation.lake import BucketScan, Lake
from app.foundation.lake.staging import StagedRows
from app.spec.features import FeatureView


@dataclass(frozen=True)
class StageViews:
    """Turns raw rows of one source into data files of the views' tables and of the quarantine.

    `views` with their versions all read that source. Every version of a corrected raw row is used, since each counts
    from the moment it was available; so it makes no difference in which block, chunk or backfill a version is.
    `refused_before`: by view, what need not go to the quarantine again. `gone`: by view, the
    tombstones of rows that corrections take away (`gone_rows`). `pushed`: by view, when rows were created that
    a push has brought to its table itself.
    """

    lake: Lake
    project: str
    views: tuple[tuple[FeatureView, int], ...]
    created: datetime
    refused_before: Mapping[str, Sequence[RefusedBefore]] = field(default_factory=dict)
    gone: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    pushed: Mapping[str, frozenset[datetime]] = field(default_factory=dict)

    def __call__(self, raw: pa.Table, num_threads: int = 1) -> list[tuple[str, StagedRows]]:
        """Staged files, each with the name of the view whose rows they are.

        Every transform has run before the first file is written. `num_threads`: views that are written at once.

        Raises:
            DataError: a transform's result is not as declared.
            FeatureStoreError: a transform raised, or its rows cannot be told apart.
        """
        computed = [pair for rows in by_version(raw) for pair in self._computed(rows)]
        tables: dict[tuple[str, str], list[pa.Table]] = {}
        for place, rows in computed:
            tables.setdefault(place, []).append(rows)
        whole = {place: pa.concat_tables(rows) for place, rows in tables.items()}
        places = [place for place, rows in whole.items() if rows.num_rows]
        with ThreadPoolExecutor(num_threads) as threads:
            staged = threads.map(lambda place: self.lake.stage(place[1], whole[place]), places)
            return [(view, rows) for (view, _), rows in zip(places, staged, strict=True)]

    def _computed(self, raw: pa.Table) -> list[tuple[tuple[str, str], pa.Table]]:
        """Rows with the view whose they are and the table they go to; `raw` has no identity twice."""
        source = self.views[0][0].source
        frame = source_frame(source, raw)
        results = []
        for view, version in self.views:
            computed = view_rows(view, raw, frame, distinct=True)
            pushed = self.pushed.get(view.name, frozenset())
            passed, failed = check(_not_created_at(computed, pushed), view.expectations)
            passed = pa.concat_tables([passed, self._gone_with(raw, view)])
            rows = passed.append_column(CREATED, pa.repeat(pa.scalar(self.created, TIMESTAMP), passed.num_rows))
            results.append(((view.name, view_table(self.project, view.name, version)), rows))
            failed = _not_before(failed, self.refused_before.get(view.name, ()))
            if failed.num_rows:
                refused = quarantine_rows(failed, source.name, self.created, view.name)
                results.append(((view.name, quarantine_table(self.project)), refused))
        return results

    def _gone_with(self, raw: pa.Table, view: FeatureView) -> pa.Table:
        """Tombstones that are written with these raw rows, also where a push brought the rows: it looked nothing up."""
        schema = arrow_schema(stored_fields(view))
        gone = self.gone.get(view.name)
        if gone is None or gone.is_empty():
            return schema.empty_table()
        here = pl.DataFrame(raw.select(["row_key", CREATED]))
        found = gone.join(here, left_on=[SOURCE_KEY, WITH], right_on=["row_key", CREATED], how="semi")
        return found.select(schema.names).to_arrow().cast(schema)

    def in_workers(self, raw: BucketScan, columns: list[str]) -> list[tuple[str, StagedRows]]:
        """The same in Ray's workers, each of which reads a piece of the files; only what it wrote comes back."""
        pieces = [{"piece": pickle.dumps(piece)} for piece in raw.in_pieces(PIECE_ROWS)]
        if not pieces:
            return []
        staged = ray.data.from_items(pieces, override_num_blocks=len(pieces)).map(partial(self._staged, columns))
        return [pair for done in staged.take_all() for pair in pickle.loads(done["staged"])]

    def _staged(self, columns: list[str], item: dict[str, bytes]) -> dict[str, bytes]:
        return {"staged": pickle.dumps(self(pickle.loads(item["piece"]).read(columns)))}


def _not_before(failed: pa.Table, before: Sequence[RefusedBefore]) -> pa.Table:
    """Refused rows without those the quarantine has."""
    rows = pl.DataFrame(failed)
    for b in before:
        inside = (pl.col("available_timestamp") > b.start) & (pl.col("available_timestamp") <= b.end)
        rows = rows.filter(~(inside & pl.col("source_created_timestamp").is_in(list(b.created))))
    return failed if rows.height == failed.num_rows else rows.to_arrow().cast(failed.schema)


def _not_created_at(rows: pa.Table, moments: frozenset[datetime]) -> pa.Table:
    """Rows without those of raw rows that were created at some moments."""
    if not moments:
        return rows
    created = pl.Series(rows["source_created_timestamp"])
    return rows.filter((~created.is_in(list(moments))).to_arrow())


def staged_of(staged: Iterable[tuple[str, StagedRows]], view: str, table: str) -> Sequence[StagedRows]:
    """Files of one view in one table."""
    return [part for name, part in staged if name == view and part.identifier == table]


def by_version(raw: pa.Table) -> list[pa.Table]:
    """Raw rows apart by version: the first of each identity, the second… Of those written at once one counts."""
    if all_distinct(pl.Series(raw["row_key"])):
        return [raw]
    rows = settled_order(pl.DataFrame(raw)).unique(["row_key", CREATED], keep="last", maintain_order=True)
    number = rows.select(pl.col(CREATED).rank("ordinal").over("row_key")).to_series()
    return [rows.filter(number == n).to_arrow().cast(raw.schema) for n in number.unique().sort()]
