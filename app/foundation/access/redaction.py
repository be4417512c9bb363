"""Keeps personal data out of logs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

HIDDEN = "[redacted]"


def redact(values: Mapping[str, Any], pii_fields: Collection[str]) -> dict[str, Any]:
    """The values with those of personal fields replaced; nulls stay nulls.

    >>> redact({"name": "Ann", "age": 3, "mail": None}, {"name", "mail"})
    {'name': '[redacted]', 'age': 3, 'mail': None}
    """
    return {k: HIDDEN if k in pii_fields and v is not None else v for k, v in values.items()}
