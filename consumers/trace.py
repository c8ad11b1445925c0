"""Traces of batches, by OpenTelemetry. In: batches as they are booked. Out: a span for each, its steps as children.

A batch joins the records of many senders, so it is no child of theirs: it links to the traces that some of its records
name in the header `traceparent` (W3C Trace Context), LINKS_MAX of them. Who sends puts `headers()` on his records.

Spans are made when a batch is booked, from the times that the steps took; they hold places and counts, nothing of what
a platform sent. Where they go is said by OpenTelemetry's own variables; without OTEL_EXPORTER_OTLP_ENDPOINT (or
…_TRACES_ENDPOINT) there are none. Sending needs `pip install danbao[traces]`; linking on needs nothing more.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import monotonic, time_ns

from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind, Tracer, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from consumers.kafka.fetch import TRACE_HEADER, Batch
from consumers.loop import Outcome
from consumers.steps import Lap
from ledger.errors import DanbaoError
from schemas.both import Both
from schemas.codes import Answer

LINKS_MAX = 32
NS_PER_S = 1_000_000_000
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROPAGATOR = TraceContextTextMapPropagator()


def headers() -> list[tuple[str, bytes]]:
    """What the sender of a record adds to its headers, so that the trace goes on here; nothing outside a trace."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return [(TRACE_HEADER, carrier[TRACE_HEADER].encode())] if TRACE_HEADER in carrier else []


@contextmanager
def tracer(environment: Mapping[str, str]) -> Iterator[Tracer | None]:
    """A tracer that sends to where the environment says, what is left at the end; None where it says nothing."""
    if not any(environment.get(name) for name in ENDPOINTS):
        yield None
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise DanbaoError(
            Both(
                f"Traces are asked for, and {error.name} is not installed.",
                f"已要求发送链路追踪，但未安装 {error.name}。",
            ),
            Both(
                f"pip install 'danbao[traces]', or unset {' and '.join(ENDPOINTS)}.",
                f"执行 pip install 'danbao[traces]'，或取消 {'、'.join(ENDPOINTS)}。",
            ),
        ) from None
    provider = TracerProvider(resource=Resource.create({"service.name": "danbao"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield provider.get_tracer("danbao")
    finally:
        provider.shutdown()


class Traces:
    """Makes the spans of batches with one tracer."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def booked(self, outcome: Outcome, batch: Batch, laps: list[Lap]) -> None:
        """A span for the batch, from its first poll to its commit, and one for each step."""
        offset_ns = time_ns() - round(monotonic() * NS_PER_S)
        head = outcome.head
        span = self._tracer.start_span(
            f"process {head.topic}",
            context=Context(),
            kind=SpanKind.CONSUMER,
            links=[Link(context) for context in contexts(batch.traces)],
            start_time=offset_ns + round(batch.polled_at * NS_PER_S),
            attributes={
                "messaging.system": "kafka",
                "messaging.operation.type": "process",
                "messaging.destination.name": head.topic,
                "messaging.destination.partition.id": str(head.partition),
                "messaging.batch.message_count": len(outcome.intake.records),
                "danbao.next_offset": head.next_offset,
                **{f"danbao.events.{answer}": outcome.answers.count(answer) for answer in Answer},
            },
        )
        within = set_span_in_context(span, Context())
        for lap in laps:
            step = self._tracer.start_span(lap.step, within, start_time=offset_ns + round(lap.began * NS_PER_S))
            step.end(offset_ns + round(lap.ended * NS_PER_S))
        span.end(offset_ns + round(laps[-1].ended * NS_PER_S))


def contexts(traceparents: list[bytes]) -> list[SpanContext]:
    """The spans that headers name, each once; what is no traceparent names none."""
    found = {}
    for raw in traceparents[:LINKS_MAX]:
        carrier = {TRACE_HEADER: raw.decode("latin-1")}
        context = get_current_span(_PROPAGATOR.extract(carrier, Context())).get_span_context()
        if context.is_valid:
            found[context.trace_id, context.span_id] = context
    return list(found.values())
