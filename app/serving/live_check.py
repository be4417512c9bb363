"""Asks the running application which version and epoch answer, until every replica has said so itself."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx

from app.errors import ModelError

ASK_AGAIN_S = 0.02
REQUEST_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class LiveAnswers:
    """Epoch that each replica answered with, and how long it took until all did, in seconds."""

    epochs: dict[str, int]
    waited_s: float


def wait_live(
    url: str,
    *,
    version: str,
    epoch: int,
    replicas: Sequence[str],
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
) -> LiveAnswers:
    """Waits until each of `replicas` has answered over HTTP with `version` as champion at `epoch` or later.

    Each question takes a new connection, so that the proxy deals them to all replicas.

    Raises:
        ModelError: some have not within `timeout_s`; it says what each answered last.
    """
    started = time.monotonic()
    last: dict[str, tuple[str, int]] = {}
    failure = ""
    while True:
        confirmed = {r: e for r, (v, e) in last.items() if v == version and e >= epoch}
        if set(replicas) <= confirmed.keys():
            return LiveAnswers(confirmed, time.monotonic() - started)
        if time.monotonic() - started > timeout_s:
            said = ", ".join(f"{r}: version {v} at epoch {e}" for r, (v, e) in sorted(last.items())) or failure
            raise ModelError(
                f"not every replica answers with version {version} at epoch {epoch} after {timeout_s:g} s; they said: "
                f"{said or 'nothing'}. Expected answers of {', '.join(replicas)}.",
                version=version,
            )
        try:
            answer = httpx.get(
                f"{url}/v1/status", headers={**(headers or {}), "connection": "close"}, timeout=REQUEST_TIMEOUT_S
            )
            answer.raise_for_status()
        except httpx.HTTPError as error:
            failure = repr(error)
            time.sleep(ASK_AGAIN_S)
            continue
        body = answer.json()
        last[body["replica_id"]] = (body["champion"], body["epoch"])
