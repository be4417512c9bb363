"""A request's span hangs below the caller's and has the id that the caller was told."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from app.errors import SettingsError
from app.serving.api import build_api
from app.serving.gate import Gate
from app.serving.spans import Spans, open_spans
from tests.unit.serving.conftest import Replica

TRACE, PARENT, NOT_SAMPLED = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "a" * 32
BODY = b'{"rows": [{"order_id": "a", "price": 1.0, "stock": 1.0}]}'


@contextmanager
def collector() -> Iterator[tuple[str, list[Span]]]:
    """An OpenTelemetry collector on loopback: where it listens, and what it was sent."""
    spans: list[Span] = []

    class Collect(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
            spans.extend(s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collect)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", spans
    finally:
        server.shutdown()
        server.server_close()


def ask(replica: Replica, spans: Spans, token: str, *traces: str) -> list[str]:
    """Asks once for each `traceparent`; gives those that came back."""
    replica.gate = Gate(replica.service, build_api(replica.service), spans)

    async def run() -> list[str]:
        async with replica.client(token) as client:
            answers = [
                await client.post(
                    "/v1/predict", content=BODY,
                    headers={"content-type": "application/json", **({"traceparent": trace} if trace else {})},
                )
                for trace in traces
            ]
        assert [answer.status_code for answer in answers] == [200] * len(traces)
        return [answer.headers.get("traceparent", "") for answer in answers]

    return asyncio.run(run())


def test_a_collector_gets_the_callers_trace(replica: Replica, admin: str) -> None:
    with collector() as (url, sent):
        spans = open_spans(url, "shop")
        assert spans is not None
        told, _, untold = ask(replica, spans, admin, f"00-{TRACE}-{PARENT}-01", f"00-{NOT_SAMPLED}-{PARENT}-00", "")
        spans.close()
    of_caller, of_nobody = sorted(sent, key=lambda span: span.trace_id.hex() != TRACE)
    assert (of_caller.trace_id.hex(), of_caller.parent_span_id.hex()) == (TRACE, PARENT)
    assert told == f"00-{TRACE}-{of_caller.span_id.hex()}-01"
    assert (of_nobody.parent_span_id, untold) == (b"", "")
    for span in sent:
        assert span.trace_id.hex() != NOT_SAMPLED
        assert (span.name, span.kind) == ("POST /v1/predict", Span.SPAN_KIND_SERVER)
        assert span.end_time_unix_nano > span.start_time_unix_nano
        attributes = {a.key: a.value.string_value or a.value.int_value for a in span.attributes}
        assert (attributes["millrace.model"], attributes["http.response.status_code"]) == ("shop", 200)


def test_a_file_gets_a_line_for_each_request(replica: Replica, admin: str, tmp_path: Path) -> None:
    spans = open_spans(f"file://{tmp_path}/traces/spans.jsonl", "shop")
    assert spans is not None
    ask(replica, spans, admin, "", f"00-{TRACE}-{PARENT}-01")
    spans.close()
    lines = (tmp_path / "traces" / "spans.jsonl").read_text().splitlines()
    assert [json.loads(line)["parent_id"] for line in lines] == [None, f"0x{PARENT}"]


def test_without_an_address_there_are_no_spans() -> None:
    assert open_spans("", "shop") is None
    with pytest.raises(SettingsError, match="MILLRACE_TRACES"):
        open_spans("udp://collector", "shop")
