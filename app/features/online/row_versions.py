"""Versions of the rows behind windows: which of them count, and until when. Pure.

Versions of one row have one row key, whatever entities they name. At a moment the version written last (at the source,
then by us) of those available by then is the row, as in `replaced_rows`. So of the versions in the order in which they
were written, those stay that are available before every later one, and each counts until the next is available.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.features.online.base import FOREVER_US, WindowBatch


@dataclass(frozen=True, slots=True)
class KnownVersion:
    """A version that a store keeps. `key`: the entity it names."""

    key: str
    available_us: int
    created_us: int
    source_created_us: int
    until_us: int

    @property
    def written(self) -> tuple[int, int, int]:
        """The order of versions; two of one order are one, sent twice."""
        return self.source_created_us, self.created_us, self.available_us


Known = Mapping[str, Sequence[KnownVersion]]  # by row key


@dataclass(frozen=True, slots=True)
class Place:
    """Where a kept version is."""

    row_key: str
    key: str
    available_us: int


@dataclass(frozen=True)
class Intake:
    """What a batch changes among the kept versions.

    `taken`: versions to keep, with the moments `until_us` [N] before which they count. `gone`: kept ones that no longer
    count at any moment. `ended`: kept ones that counted for ever, with the moment from which they no longer do.
    """

    taken: WindowBatch
    until_us: np.ndarray
    gone: tuple[Place, ...]
    ended: tuple[tuple[Place, int], ...]

    @property
    def keys(self) -> list[str]:
        """Touched entities, each once."""
        moved = [*(place.key for place in self.gone), *(place.key for place, _ in self.ended)]
        return list(dict.fromkeys([*self.taken.keys, *moved]))


def take_in(batch: WindowBatch, known: Known) -> Intake:
    """Puts versions beside those that a store knows of the same rows."""
    if not known and len(set(batch.row_keys)) == len(batch.row_keys):
        return Intake(batch, np.full(len(batch.row_keys), FOREVER_US), (), ())
    places: dict[str, list[int]] = {}
    for place, row_key in enumerate(batch.row_keys):
        places.setdefault(row_key, []).append(place)
    times = zip(batch.available_us.tolist(), batch.created_us.tolist(), batch.source_created_us.tolist(), strict=True)
    came = [KnownVersion(key, *of_row, FOREVER_US) for key, of_row in zip(batch.keys, times, strict=True)]
    until: dict[int, int] = {}  # by position in the batch
    gone: list[Place] = []
    ended: list[tuple[Place, int]] = []
    for row_key, of_batch in places.items():
        kept = known.get(row_key, ())
        arrived = [(came[place].written, place, came[place]) for place in of_batch]
        stays = _chain([*((v.written, -1, v) for v in kept), *arrived])
        until.update({place: until_us for place, _, until_us in stays if place >= 0})
        now = {(v.key, v.available_us): until_us for place, v, until_us in stays if place < 0}
        for version in kept:
            at = Place(row_key, version.key, version.available_us)
            until_us = now.get((version.key, version.available_us))
            if until_us is None:
                gone.append(at)
            elif until_us != version.until_us:
                ended.append((at, until_us))
    chosen = np.array(sorted(until), dtype=np.int64)
    taken = batch if len(chosen) == len(batch.row_keys) else batch.take(chosen)
    return Intake(taken, np.array([until[i] for i in chosen.tolist()], dtype=np.int64), tuple(gone), tuple(ended))


def _chain(
    versions: list[tuple[tuple[int, int, int], int, KnownVersion]]
) -> list[tuple[int, KnownVersion, int]]:
    """Of versions with their order and position those that count at some moment, each with the moment it ends.

    Of equal ones the last in the batch stays; what the store has comes before the batch.
    """
    stays, until_us = [], FOREVER_US
    for _, place, version in sorted(versions, key=lambda v: v[:2], reverse=True):
        if version.available_us < until_us:
            stays.append((place, version, until_us))
            until_us = version.available_us
    return stays
