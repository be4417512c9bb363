"""Who sent a request, as the rest of the replica sees it."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from app.foundation.access import Grant
from app.serving.trace_context import TraceContext

REQUEST_ID = re.compile(r"[\x21-\x7e]{1,200}")
NO_END = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Caller:
    """`trace`: of the request, with a span of ours, if its caller sent one."""

    grant: Grant
    request_id: str
    trace: TraceContext | None = None

    @property
    def trace_id(self) -> str | None:
        """As logged."""
        return None if self.trace is None else self.trace.trace_id


def open_grant(principal: str) -> Grant:
    """What everybody may do where nobody is asked for a token."""
    return Grant("open", principal, frozenset({"admin"}), NO_END)


def request_id_of(header: str | None) -> str:
    """The id a caller sent if it can be one (1 to 200 printable characters), else a new one."""
    return header if header is not None and REQUEST_ID.fullmatch(header) else str(uuid.uuid4())
