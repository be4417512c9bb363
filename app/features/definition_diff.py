"""What two versions of a definition say differently, for a reader. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

CODE = ("transform", "function")


@dataclass(frozen=True)
class Difference:
    """One part that differs. `part`: e.g. `ttl`, `field price`, `source.reader`. Code differs as a unified diff.

    `before` is `None` where the part is new, `after` where it is gone.
    """

    part: str
    before: str | None
    after: str | None

    @property
    def is_code(self) -> bool:
        return self.part in CODE

    def __str__(self) -> str:
        if self.is_code:
            return f"{self.part}:\n{self.unified()}"
        if self.before is None:
            return f"{self.part}: added, {self.after}"
        if self.after is None:
            return f"{self.part}: removed, was {self.before}"
        return f"{self.part}: {self.before} → {self.after}"

    def unified(self) -> str:
        """The lines of code that differ, with three around them."""
        before, after = (self.before or "").splitlines(), (self.after or "").splitlines()
        return "\n".join(list(difflib.unified_diff(before, after, "before", "after", lineterm=""))[2:])


def diff_definitions(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """The differences between two definitions of one kind, empty when they mean the same.

    >>> [str(d) for d in diff_definitions({"ttl_us": None, "fields": []}, {"ttl_us": 60_000_000, "fields": []})]
    ['ttl: none → 1 minute']
    """
    old, new = _parts(before), _parts(after)
    return [
        Difference(part, old.get(part), new.get(part))
        for part in dict.fromkeys([*old, *new])
        if old.get(part) != new.get(part)
    ]


def _parts(definition: Mapping[str, Any]) -> dict[str, str | None]:
    """Every part of a definition as text, in the order it is declared."""
    parts: dict[str, str | None] = {}
    for name, value in definition.items():
        if name == "ttl_us":
            parts["ttl"] = "none" if value is None else span(value)
        elif name == "fields":
            parts.update({f"field {field}": dtype for field, dtype in value})
        elif name == "aggregations":
            parts.update(_windows(value))
        elif name == "source":
            parts.update({f"source.{part}": _text(of) for part, of in value.items() if part != "fields"})
            parts.update({f"source.field {field}": dtype for field, dtype in value.get("fields", ())})
        elif name == "features":
            parts.update({f"feature {feature}": f"place {i}" for i, feature in enumerate(value, start=1)})
        elif name in CODE:
            parts[name] = value
        else:
            parts[name] = _text(value)
    return parts


def _windows(aggregations: Iterable[Any]) -> dict[str, str]:
    """Windows as text by name; what comes after column, function, window and hop is told as it stands."""
    windows = {}
    for column, function, window_us, hop_us, *rest in aggregations:
        more = "".join(f", {item}" for item in rest if item is not None)
        windows[f"window {function}({column}) over {span(window_us)}"] = f"hop {span(hop_us)}{more}"
    return windows


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return "none" if value is None else str(value)


def span(us: int) -> str:
    """A length of time in its largest whole unit.

    >>> span(7_200_000_000), span(86_400_000_000), span(1)
    ('2 hours', '1 day', '0:00:00.000001')
    """
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        count, rest = divmod(us, size * 1_000_000)
        if count and not rest:
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return str(timedelta(microseconds=us))
