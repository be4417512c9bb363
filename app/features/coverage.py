"""Which stretches of available time a view's table holds, and what a backfill still has to do. Pure.

Every backfill commit carries the whole coverage its writer knew, as JSON: stretches `(start, end]` with the sequence
number of the raw table's commit they were computed from. The coverage of a table is that of all its commits together:
for each moment the newest raw commit counts. Being part of the table, it cannot differ from what is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

COVERAGE = "coverage"


@dataclass(frozen=True, order=True)
class Covered:
    """The stretch `(start, end]` holds what the raw table held at its commit `sequence`."""

    start: datetime
    end: datetime
    sequence: int


@dataclass(frozen=True, order=True)
class Stretch:
    """Work: the rows available in `(start, end]`; with `seen`, only those of raw commits after that one."""

    start: datetime
    end: datetime
    seen: int | None


def merged_coverage(covered: Iterable[Covered]) -> list[Covered]:
    """Disjoint stretches in order; where some overlap the newest counts, and neighbours of one commit are joined."""
    known = sorted(covered)
    bounds = sorted({c.start for c in known} | {c.end for c in known})
    result: list[Covered] = []
    for start, end in pairwise(bounds):
        sequence = _newest(known, start, end)
        if sequence is None:
            continue
        if result and result[-1].end == start and result[-1].sequence == sequence:
            result[-1] = Covered(result[-1].start, end, sequence)
        else:
            result.append(Covered(start, end, sequence))
    return result


def decide_backfill(covered: Iterable[Covered], start: datetime, end: datetime, newest: int) -> list[Stretch]:
    """What is missing of `(start, end]` when the raw table is at commit `newest`.

    A stretch never computed is computed whole; one computed from an earlier raw commit gets the rows that came since;
    one computed from `newest` or a later one needs nothing.
    """
    known = merged_coverage(covered)
    bounds = {start, end} | {m for c in known for m in (c.start, c.end) if start < m < end}
    work: list[Stretch] = []
    for low, high in pairwise(sorted(bounds)):
        seen = _newest(known, low, high)
        if seen is not None and seen >= newest:
            continue
        if work and work[-1].end == low and work[-1].seen == seen:
            work[-1] = Stretch(work[-1].start, high, seen)
        else:
            work.append(Stretch(low, high, seen))
    return work


def coverage_of(properties: Iterable[Mapping[str, str]]) -> list[Covered]:
    """Coverage of a table out of the properties of its commits."""
    found = [
        Covered(datetime.fromisoformat(start), datetime.fromisoformat(end), sequence)
        for recorded in properties
        if COVERAGE in recorded
        for start, end, sequence in json.loads(recorded[COVERAGE])
    ]
    return merged_coverage(found)


def coverage_json(covered: Iterable[Covered]) -> str:
    """Coverage as a commit records it."""
    return json.dumps([[c.start.isoformat(), c.end.isoformat(), c.sequence] for c in merged_coverage(covered)])


def within(covered: Iterable[Covered], stretch: Stretch) -> list[Covered]:
    """The part of a coverage that lies in a stretch."""
    inside = (Covered(max(c.start, stretch.start), min(c.end, stretch.end), c.sequence) for c in covered)
    return merged_coverage(c for c in inside if c.start < c.end)


def cut(stretch: Stretch, rows_until: Mapping[datetime, int], max_rows: int) -> list[Stretch]:
    """Cuts a stretch into chunks of at most `max_rows`, as far as the counts tell moments apart.

    Args:
        stretch: what is cut.
        rows_until: number of rows by the moment they lie before (bins `(previous, moment]`).
        max_rows: of one chunk; a single bin with more stays whole.
    """
    cuts, rows = [], 0
    before = stretch.start
    for moment, count in sorted(rows_until.items()):
        if rows and rows + count > max_rows and stretch.start < before < stretch.end:
            cuts.append(before)
            rows = 0
        rows += count
        before = moment
    bounds = [stretch.start, *cuts, stretch.end]
    return [Stretch(low, high, stretch.seen) for low, high in pairwise(bounds)]


def _newest(covered: Iterable[Covered], start: datetime, end: datetime) -> int | None:
    return max((c.sequence for c in covered if c.start <= start and end <= c.end), default=None)
