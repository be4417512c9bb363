"""The application's side of the HTTP interface: ask, push, send labels. Retries nothing and counts everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import httpx

from app.errors import MillraceError
from app.pipeline.feed import Tick


class ReplayError(MillraceError):
    """The application answered a replayed request with an error."""

    code = "replay_failed"


class LiveClient:
    """Sends the ticks of a replay to the running application.

    Args:
        base_url: where the application answers.
        run_id: first part of each request id, so that a replay after a kill repeats its ids.
        headers: sent with each request, a token among them.
    """

    def __init__(
        self, base_url: str, run_id: str, timeout_s: float = 30.0, headers: Mapping[str, str] | None = None
    ) -> None:
        self._http = httpx.Client(base_url=base_url, timeout=timeout_s, headers=headers)
        self._run_id = run_id
        self.num_requests = 0
        self.num_failed = 0
        self.num_rows = 0
        self.answered_by_version: Counter[str] = Counter()
        self.num_fallbacks = 0

    def send(self, tick: Tick) -> None:
        """Pushes what became known, sends the labels, then asks for the cases.

        Raises:
            ReplayError: an answer that is not 200, or that does not cover every row asked.
        """
        for source, rows in tick.pushes.items():
            self._post("/v1/features/push", {"source": source, "rows": rows})
        if tick.labels:
            self._post("/v1/labels", {"labels": tick.labels})
        if tick.cases:
            self._predict(tick)

    def _predict(self, tick: Tick) -> None:
        body = self._post(
            "/v1/predict",
            {
                "request_id": f"{self._run_id}:{tick.at:%Y%m%dT%H%M%S}",
                "at": tick.at.isoformat(),
                "entities": tick.cases,
            },
        )
        predictions = body["predictions"]
        if len(predictions) != len(tick.cases):
            raise ReplayError(
                f"asked for {len(tick.cases)} predictions at {tick.at}, got {len(predictions)}.", at=str(tick.at)
            )
        self.num_rows += len(predictions)
        for prediction in predictions:
            self.answered_by_version[prediction["version"]] += 1
            self.num_fallbacks += prediction["variant"] != prediction["answered_by"]

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.num_requests += 1
        try:
            response = self._http.post(path, json=body)
        except httpx.HTTPError as error:
            self.num_failed += 1
            raise ReplayError(f"POST {path} failed: {error!r}. Is the application up?", path=path) from error
        if response.status_code != 200:
            self.num_failed += 1
            raise ReplayError(
                f"POST {path} answered {response.status_code}: {response.text[:500]}",
                path=path,
                status=response.status_code,
            )
        answer: dict[str, Any] = response.json()
        return answer

    def __enter__(self) -> LiveClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
