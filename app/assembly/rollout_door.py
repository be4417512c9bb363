"""The door of the rollouts' own application: nobody without the scope gets behind it, and no body beyond the limit."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable

from app.errors import MillraceError
from app.foundation.access import Authenticator, Grant, require_scope
from app.foundation.access.authenticator import AUDIT_EACH_S
from app.foundation.access.scopes import ROLLOUT
from app.serving.caller import open_grant
from app.serving.gate import (
    ClientGoneError,
    Headers,
    Message,
    Receive,
    Scope,
    Send,
    error_headers,
    read_body,
    send_error,
)
from app.serving.limits import RateLimits
from app.settings import Settings

logger = logging.getLogger(__name__)

GRANT = "millrace.grant"  # key in the ASGI scope
AUTHORIZATION = b"authorization"


class RolloutDoor:
    """An ASGI application in front of another, which finds who asks in the scope.

    Each request is authenticated against the state database, so revoking a token acts at once.

    Args:
        prefix: where the application is mounted, for the audit trail.
        inner: gets what is let through, pages of the API's description included.
    """

    def __init__(
        self, settings: Settings, authenticator: Authenticator, prefix: str, inner: Callable[..., Awaitable[None]]
    ) -> None:
        self._open = open_grant(settings.principal) if settings.open_access else None
        self._authenticator = authenticator
        self._prefix = prefix
        self._inner = inner
        self._limits = RateLimits()

    def audit_in_background(self) -> None:
        """Writes denials each few seconds, equal ones as one row, for as long as the process lives."""

        def audit() -> None:
            while not never.wait(AUDIT_EACH_S):
                self._authenticator.audit()

        never = threading.Event()
        threading.Thread(target=audit, name="millrace-rollout-denials", daemon=True).start()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through or answers it."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        headers: Headers = dict(scope["headers"])
        path = f"{self._prefix}{scope['path'].removeprefix(scope.get('root_path', ''))}"
        asked = f"{scope['method']} {path[:200]}"
        grant = self._open
        try:
            if self._open is None:
                grant = await asyncio.to_thread(self._authenticated, headers)
                require_scope(grant, ROLLOUT)
                self._limits.take(grant)
            body = await read_body(path, scope["method"], headers, receive)
        except ClientGoneError:
            return
        except MillraceError as error:
            if error.http_status in (401, 403):
                self._authenticator.deny(grant, asked, error.code)
            logger.info("%s: %d %s", asked, error.http_status, error.code)
            await send_error(
                send, path, error.http_status, error.code, error.message, error.detail, error_headers(error)
            )
            return
        await self._inner({**scope, GRANT: grant}, _again(body, receive), send)

    def _authenticated(self, headers: Headers) -> Grant:
        """Raises: UnauthenticatedError: no token, or one that is not known any more."""
        self._authenticator.refresh()
        header = headers.get(AUTHORIZATION)
        return self._authenticator.authenticate(None if header is None else header.decode("latin-1"))


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, then what comes after it."""
    left = [body]

    async def again() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return again
