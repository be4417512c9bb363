"""Bearer tokens in the state database: made, listed, revoked; kept as hashes only.

A token is 32 random bytes as text. Nobody can guess those, so one SHA-256 is hash enough: a slow one, as
passwords need, would cost each request milliseconds and protect nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select

from app.clock import Clock, WallClock
from app.errors import SettingsError, UnknownNameError
from app.foundation.access.scopes import check_scopes
from app.foundation.lineage import record_decision
from app.foundation.state import StateDatabase
from app.foundation.state import models as m
from app.settings import Settings

PREFIX = "mr_"
DEFAULT_LIFETIME = timedelta(days=90)
MAX_LIFETIME = timedelta(days=3_660)
JOB_LIFETIME = timedelta(days=7)


@dataclass(frozen=True)
class Grant:
    """What a token lets its bearer do.

    `principal`: whose requests these are, for access policies and the audit trail. `rate_per_s`: requests a second
    that each replica takes from this token, `None` for no limit.
    """

    token_id: str
    principal: str
    scopes: frozenset[str]
    expires_at: datetime
    rate_per_s: float | None = None


@dataclass(frozen=True)
class TokenRecord:
    """What is kept of a token; the token itself is not among it."""

    grant: Grant
    created_at: datetime
    created_by: str
    revoked_at: datetime | None

    def state(self, now: datetime) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if now < self.grant.expires_at else "expired"


def digest_of(token: str) -> str:
    """Under which a token is kept and found."""
    return hashlib.sha256(token.encode()).hexdigest()


class TokenRegistry:
    """The tokens of one control state. Picklable."""

    def __init__(self, database: StateDatabase, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or WallClock()

    def create(
        self, principal: str, scopes: Iterable[str], created_by: str,
        lifetime: timedelta = DEFAULT_LIFETIME, rate_per_s: float | None = None,
    ) -> tuple[str, TokenRecord]:
        """Makes a token; its text is given here and never again.

        Raises:
            SettingsError: no such scope, an empty principal, a lifetime or rate that makes no sense.
        """
        wanted = check_scopes(scopes)
        if not principal.strip():
            raise SettingsError("a token needs the name of who will use it.")
        if not timedelta(0) < lifetime <= MAX_LIFETIME:
            raise SettingsError(f"a token lives more than 0 and at most {MAX_LIFETIME.days} days, not {lifetime}.")
        if rate_per_s is not None and not 0 < rate_per_s < float("inf"):
            raise SettingsError(f"a rate limit is a number of requests a second above 0, not {rate_per_s}.")
        text, now = PREFIX + secrets.token_urlsafe(32), self._clock.now()
        row = m.AccessToken(
            token_id=secrets.token_hex(4), digest=digest_of(text), principal=principal, scopes=list(wanted),
            rate_per_s=rate_per_s, created_at=now, created_by=created_by, expires_at=now + lifetime, revoked_at=None,
        )
        with self._database.session() as session:
            session.add(row)
        record_decision(
            self._database, actor=created_by, subject=f"token {row.token_id}", decision="token created",
            reason=f"for {principal}", detail={"scopes": list(wanted), "expires_at": row.expires_at.isoformat()},
        )
        return text, _record(row)

    def list(self) -> tuple[TokenRecord, ...]:
        """Every token there was, newest first."""
        with self._database.session() as session:
            return tuple(map(_record, session.scalars(select(m.AccessToken).order_by(m.AccessToken.created_at.desc()))))

    def revoke(self, token_id: str, revoked_by: str) -> TokenRecord:
        """Ends a token; again changes nothing.

        Raises:
            UnknownNameError: there is no such token.
        """
        with self._database.session() as session:
            row = session.get(m.AccessToken, token_id)
            if row is None:
                raise UnknownNameError(
                    f"there is no token {token_id!r}. `millrace tokens list` shows those there are.", token_id=token_id
                )
            fresh = row.revoked_at is None
            row.revoked_at = row.revoked_at or self._clock.now()
            record = _record(row)
        if fresh:
            record_decision(
                self._database, actor=revoked_by, subject=f"token {token_id}", decision="token revoked",
                reason=f"was for {record.grant.principal}",
            )
        return record

    def active(self) -> dict[str, Grant]:
        """Grants by digest of the tokens that are neither revoked nor expired."""
        table = m.AccessToken
        wanted = select(table).where(table.revoked_at.is_(None), table.expires_at > self._clock.now())
        with self._database.session() as session:
            return {row.digest: _record(row).grant for row in session.scalars(wanted)}

    @contextmanager
    def for_a_while(self, principal: str, scopes: Iterable[str], created_by: str) -> Iterator[str]:
        """A token for what one process does, revoked at its end."""
        text, record = self.create(principal, scopes, created_by, JOB_LIFETIME)
        try:
            yield text
        finally:
            self.revoke(record.grant.token_id, created_by)


@contextmanager
def headers_for_a_while(
    settings: Settings, database: StateDatabase, scopes: Iterable[str], purpose: str
) -> Iterator[dict[str, str]]:
    """Headers for a process of ours that asks over HTTP, in the name of the settings' principal.

    Nothing where HTTP is open. The token behind them is revoked at the end.
    """
    if settings.open_access:
        yield {}
        return
    with TokenRegistry(database).for_a_while(settings.principal, scopes, purpose) as token:
        yield {"Authorization": f"Bearer {token}"}


def _record(row: m.AccessToken) -> TokenRecord:
    grant = Grant(row.token_id, row.principal, frozenset(row.scopes), row.expires_at, row.rate_per_s)
    return TokenRecord(grant, row.created_at, row.created_by, row.revoked_at)
