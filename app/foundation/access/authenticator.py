"""Who sends a request: bearer tokens checked from memory, in microseconds.

The tokens in force are read whole, every `STALENESS_S` at the latest, and again before an unknown one is refused;
whoever presents one waits for the next look, which comes each `LOOK_AGAIN_S` at most, so that guessing costs the
database nothing. So a new token works at once and a revoked one for at most a second more. While the database is away
those last read stay in force, also for a replica that starts then: it finds their hashes in a file of its host.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from app.clock import Clock, WallClock
from app.errors import ScopeMissingError, UnauthenticatedError
from app.foundation.access.scopes import decide_scope
from app.foundation.access.tokens import Grant, TokenRegistry, digest_of
from app.foundation.lineage import record_decision
from app.foundation.state import StateDatabase

logger = logging.getLogger(__name__)

STALENESS_S = 1.0
LOOK_AGAIN_S = 0.2
AUDIT_EACH_S = 5.0
MAX_TOKEN = 512
MAX_KINDS_OF_DENIAL = 1_000
ANYBODY = "nobody known"

Denial = tuple[str, str, str]  # who, what, code


class Authenticator:
    """Turns an `Authorization` header into a grant and keeps count of who was turned away.

    Args:
        registry: where tokens are.
        database: where denials are kept.
        remembered: file of this host with the hashes last read.
    """

    def __init__(
        self, registry: TokenRegistry, database: StateDatabase, remembered: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._registry = registry
        self._database = database
        self._remembered = remembered
        self._clock = clock or WallClock()
        self._grants: dict[str, Grant] = {}
        self._looked_at = float("-inf")
        self._audited_at = time.monotonic()
        self._denials: Counter[Denial] = Counter()
        self._look_lock = threading.Lock()
        self._denials_lock = threading.Lock()  # of its own: a look may hang as long as the database does
        self.refresh()

    def authenticate(self, header: str | None) -> Grant:
        """The grant of the bearer, from memory.

        Raises:
            UnauthenticatedError: no token, one that is not known, or one that has expired.
        """
        if header is None:
            raise UnauthenticatedError(
                "this address needs a token: send the header 'Authorization: Bearer <token>'. `millrace tokens create` "
                "makes one.", code="token_missing",
            )
        kind, _, text = header.partition(" ")
        if kind.lower() != "bearer" or not 0 < len(text) <= MAX_TOKEN:
            raise UnauthenticatedError(
                "the Authorization header is not 'Bearer <token>'.", code="token_malformed"
            )
        grant = self._grants.get(digest_of(text))
        if grant is None:
            raise UnauthenticatedError(
                "this token is not known here: it was revoked, has expired, or belongs to another installation.",
                code="token_unknown",
            )
        if self._clock.now() >= grant.expires_at:
            raise UnauthenticatedError(
                f"token {grant.token_id} expired at {grant.expires_at.isoformat()}. Ask for a new one.",
                code="token_expired", token_id=grant.token_id,
            )
        return grant

    @property
    def looked_at_s(self) -> float:
        """When the registry was read last, on the monotonic clock."""
        return self._looked_at

    def refresh(self, since_s: float = float("inf")) -> None:
        """Reads the tokens in force unless they were read after `since_s`; those known stay when it cannot be done."""
        with self._look_lock:
            if self._looked_at > since_s:
                return
            try:
                grants = self._registry.active()
            except SQLAlchemyError as error:
                logger.warning("tokens cannot be read (%s); those known stay in force", error)
                if not self._grants:
                    self._grants = self._recall()
            else:
                if grants != self._grants:
                    self._grants = grants
                    self._remember()
            self._looked_at = time.monotonic()

    def poll(self) -> None:
        """Keeps the staleness bound and writes what was denied; called a few times each second."""
        if time.monotonic() - self._looked_at >= STALENESS_S / 2:
            self.refresh()
        if time.monotonic() - self._audited_at >= AUDIT_EACH_S:
            self.audit()

    def deny(self, grant: Grant | None, what: str, code: str) -> None:
        """Counts a denial; equal ones become one row of the audit trail each few seconds."""
        denial = (ANYBODY if grant is None else f"{grant.principal} (token {grant.token_id})", what, code)
        with self._denials_lock:
            if denial in self._denials or len(self._denials) < MAX_KINDS_OF_DENIAL:
                self._denials[denial] += 1

    def audit(self) -> None:
        """Writes the denials counted since; those that cannot be written are kept for the next time."""
        self._audited_at = time.monotonic()
        with self._denials_lock:
            denials, self._denials = self._denials, Counter()
        while denials:
            (who, what, code), times = denials.popitem()
            try:
                record_decision(
                    self._database, actor=who, subject=what, decision="denied", reason=code, detail={"times": times}
                )
            except SQLAlchemyError as error:
                logger.warning("denials cannot be audited yet (%s), last %s %s %s", error, who, what, code)
                denials[who, what, code] = times
                break
        with self._denials_lock:
            self._denials.update(denials)

    def _remember(self) -> None:
        if self._remembered is None:
            return
        kept = {
            digest: {**vars(g), "scopes": sorted(g.scopes), "expires_at": g.expires_at.isoformat()}
            for digest, g in self._grants.items()
        }
        self._remembered.parent.mkdir(parents=True, exist_ok=True)
        draft = self._remembered.with_suffix(f".{id(self)}-{time.monotonic_ns()}")
        draft.touch(0o600)
        draft.write_text(json.dumps(kept))
        draft.replace(self._remembered)

    def _recall(self) -> dict[str, Grant]:
        if self._remembered is None or not self._remembered.exists():
            return {}
        kept = json.loads(self._remembered.read_text())
        return {
            digest: Grant(
                **{**g, "scopes": frozenset(g["scopes"]), "expires_at": datetime.fromisoformat(g["expires_at"])}
            )
            for digest, g in kept.items()
        }


def require_scope(grant: Grant, wanted: str) -> None:
    """Raises: ScopeMissingError: the token does not carry the scope."""
    if not decide_scope(grant.scopes, wanted):
        raise ScopeMissingError(
            f"token {grant.token_id} lacks the scope {wanted!r}; it has {', '.join(sorted(grant.scopes))}.",
            token_id=grant.token_id, scope=wanted,
        )
