"""Spans of requests for OpenTelemetry, written after the fact so that a request without them pays one comparison.

`MILLRACE_TRACES` says where they go: an OTLP address (`http://collector:4318/v1/traces`) or a file of JSON lines
(`file:///var/log/spans.jsonl`). Without it there are none, and OpenTelemetry is not even imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from app.errors import SettingsError
from app.serving.trace_context import TraceContext

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE_NAME = "millrace"


class Spans:
    """Records spans of one replica.

    Args:
        exporter: where they go, in batches from a thread of its own.
        model: named on each span.
    """

    def __init__(self, exporter: SpanExporter, model: str) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        class Ids(RandomIdGenerator):
            """The id that the caller was told, where there is one."""

            told: int | None = None

            def generate_span_id(self) -> int:
                told, self.told = self.told, None
                return super().generate_span_id() if told is None else told

        self._model = model
        self._ids = Ids()
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": SERVICE_NAME}), id_generator=self._ids
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("millrace.serving")

    def record(
        self, name: str, traced: tuple[TraceContext, TraceContext] | None, began_ns: int, ended_ns: int, status: int,
        request_id: str,
    ) -> None:
        """Records one request; a caller that said "not sampled" is obeyed. By one thread.

        Args:
            traced: the caller's span and ours, where the caller traces.
        """
        from opentelemetry import trace as otel

        if traced is not None and not traced[0].sampled:
            return
        context = None
        if traced is not None:
            asked_by, own = traced
            self._ids.told = int(own.span_id, 16)
            parent = otel.SpanContext(
                int(asked_by.trace_id, 16), int(asked_by.span_id, 16), is_remote=True, trace_flags=otel.TraceFlags(1)
            )
            context = otel.set_span_in_context(otel.NonRecordingSpan(parent))
        attributes: dict[str, Any] = {
            "millrace.model": self._model, "millrace.request_id": request_id, "http.response.status_code": status
        }
        span = self._tracer.start_span(
            name, context, kind=otel.SpanKind.SERVER, attributes=attributes, start_time=began_ns
        )
        if status >= 500:
            span.set_status(otel.StatusCode.ERROR)
        span.end(ended_ns)

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()


def open_spans(url: str, model: str) -> Spans | None:
    """Spans to `url`, `None` for an empty one.

    Raises:
        SettingsError: an address of another kind, or an OTLP exporter that is not installed.
    """
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Spans(_file_exporter(Path(unquote(parts.path))), model)
    if parts.scheme not in ("http", "https"):
        raise SettingsError(
            f"MILLRACE_TRACES is {url!r}; expected http://host:4318/v1/traces or file:///path/spans.jsonl.",
            variable="MILLRACE_TRACES",
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise SettingsError(
            "MILLRACE_TRACES names a collector, which needs the package opentelemetry-exporter-otlp-proto-http.",
            variable="MILLRACE_TRACES",
        ) from error
    return Spans(OTLPSpanExporter(endpoint=url), model)


def _file_exporter(path: Path) -> SpanExporter:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class FileExporter(SpanExporter):
        """A line of JSON for each span."""

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.writelines((span.to_json(indent=None) or "") + "\n" for span in spans)
            return SpanExportResult.SUCCESS

    return FileExporter()
