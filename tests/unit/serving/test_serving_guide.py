"""The code on the page about serving runs."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx

from tests.unit.serving.conftest import open_replica

PAGE = Path(__file__).resolve().parents[3] / "docs" / "serving.md"


class Http:
    """The page's client: one request after another on the replica's gate."""

    def __init__(self, gate: Any) -> None:
        self._gate = gate
        self.headers: dict[str, str] = {}

    def post(self, path: str, **request: Any) -> httpx.Response:
        return self._send("POST", path, **request)

    def get(self, path: str, **request: Any) -> httpx.Response:
        return self._send("GET", path, **request)

    def _send(self, method: str, path: str, headers: dict[str, str] | None = None, **request: Any) -> httpx.Response:
        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._gate)
            async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
                return await client.request(method, path, headers={**self.headers, **(headers or {})}, **request)

        return asyncio.run(run())


def test_the_code_on_the_page_runs(tmp_path: Path) -> None:
    replica = open_replica(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 7
    names = {"http": Http(replica.gate), "database": replica.database, "__name__": "guide"}
    exec(compile("\n".join(blocks), str(PAGE), "exec"), names)
    replica.service.close()
