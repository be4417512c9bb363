"""One client that asks without a pause worth speaking of, and keeps what was not answered."""

from __future__ import annotations

import threading
import time

import httpx

from tests.cluster.serving_app import App, orders


class Traffic:
    """Asks for predictions, now, until it is left; keeps what was not answered."""

    def __init__(self, app: App) -> None:
        self.refused: list[str] = []
        self.answered: list[str] = []  # request ids
        self._url = app.settings.http_url
        self._headers = app.headers
        self._stop = threading.Event()
        self._asker = threading.Thread(target=self._ask)

    @property
    def num_answered(self) -> int:
        return len(self.answered)

    def __enter__(self) -> Traffic:
        self._asker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._asker.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30, headers=self._headers) as http:
            while not self._stop.is_set():
                response = http.post("/v1/predict", json={"entities": orders(20, f"t{self.num_answered}-")})
                if response.status_code == 200:
                    self.answered.append(response.json()["request_id"])
                else:
                    self.refused.append(response.text)
                time.sleep(0.02)
