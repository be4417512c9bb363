"""Who answers a row: a sticky, proportional split between champion and candidate. Pure.

A row's key and the rollout's salt give one number in [0, 100); rows below the weight go to the candidate. So
the same key stays with the same side, and raising the weight only ever moves rows towards the candidate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from app.errors import RequestError

Variant = Literal["champion", "candidate"]

OVERRIDE_HEADER = "x-millrace-variant"


def position(key: str, salt: str) -> float:
    """Where `key` lies in [0, 100), uniform over keys and independent between salts.

    >>> position("AA-1", "r1") == position("AA-1", "r1")
    True
    """
    digest = hashlib.blake2b(f"{len(salt)}:{salt}{key}".encode(), digest_size=6).digest()
    return int.from_bytes(digest) / 2**48 * 100.0


def assign(key: str, weight_percent: float, salt: str) -> Variant:
    """The side that `key` belongs to when the candidate gets `weight_percent` of the rows.

    >>> assign("AA-1", 0.0, "r1"), assign("AA-1", 100.0, "r1")
    ('champion', 'candidate')
    """
    return "candidate" if position(key, salt) < weight_percent else "champion"


def split(
    keys: Sequence[str], weight_percent: float, salt: str, override: Variant | None = None
) -> list[Variant]:
    """The side of each key; `override` sends all rows of a request to one side."""
    if override is not None:
        return [override] * len(keys)
    if weight_percent <= 0.0:
        return ["champion"] * len(keys)
    return [assign(key, weight_percent, salt) for key in keys]


def read_override(value: str | None, *, has_candidate: bool) -> Variant | None:
    """What the header `x-millrace-variant` asks for.

    Raises:
        RequestError: neither `champion` nor `candidate`, or a candidate where there is none.
    """
    if value is None:
        return None
    if value == "champion":
        return "champion"
    if value != "candidate":
        raise RequestError(
            f"header {OVERRIDE_HEADER} is {value!r}; expected 'champion' or 'candidate'.", header=OVERRIDE_HEADER
        )
    if not has_candidate:
        raise RequestError(
            f"header {OVERRIDE_HEADER} asks for the candidate, but none is deployed. Leave the header out.",
            header=OVERRIDE_HEADER,
        )
    return "candidate"
