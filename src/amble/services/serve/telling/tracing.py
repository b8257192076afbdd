"""Answers and batches → OpenTelemetry spans, in Triton's shape: request, inside it model, inside that compute.

Spans are made after the answer has gone, with the times that the engine noted, and leave in batches from a thread of
OpenTelemetry's own: nothing here is in a request's way. The usual ``OTEL_*`` variables say where to and how many.
The one module that knows opentelemetry (extra ``trace``).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from amble.services.serve.models.model import Model
from amble.services.serve.requests.admission import Listener
from amble.services.serve.telling.ledger import Outcome
from amble.stages.control.engine import Batch

__all__ = ["Spans", "spans"]

_KEPT = 64  # batches whose requests may still come


def spans(exporter: SpanExporter | None = None) -> Spans:
    """Return a listener that exports spans, by OTLP over HTTP unless another exporter is given."""
    provider = TracerProvider(resource=Resource.create({"service.name": "amble"}))
    provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
    return Spans(provider)


class Spans(Listener):
    """Makes the spans; each request's is linked to its batch's."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider
        self._tracer = provider.get_tracer("amble")
        self._propagator = TraceContextTextMapPropagator()
        self._batches: deque[tuple[str, float, trace.SpanContext]] = deque(maxlen=_KEPT)

    def ran(self, model: Model, batch: Batch) -> None:
        """Make the span of a batch; its requests come right after it."""
        to_ns = _wall_ns(batch.finish_s)
        span = self._tracer.start_span(
            "batch", context=trace.set_span_in_context(trace.INVALID_SPAN), start_time=to_ns(batch.start_s)
        )
        span.set_attributes({"model_name": model.name, "model_version": model.version, "amble.rows": batch.rows})
        if batch.energy_j is not None:
            span.set_attribute("amble.energy_j", batch.energy_j)
        span.end(to_ns(batch.finish_s))
        self._batches.append((model.key, batch.start_s, span.get_span_context()))

    def answered(self, model: Model, outcome: Outcome, context: Mapping[str, str]) -> None:
        """Make the spans of a request."""
        to_ns = _wall_ns(outcome.finish_s)
        ran = (model.key, outcome.start_s)
        links = [trace.Link(context) for key, start_s, context in self._batches if (key, start_s) == ran]
        root = self._tracer.start_span(
            model.name,
            context=self._propagator.extract(dict(context)),
            kind=trace.SpanKind.SERVER,
            links=links,
            start_time=to_ns(outcome.arrival_s),
        )
        root.set_attributes(_attributes(model, outcome, context))
        inside = trace.set_span_in_context(root)
        queued = self._tracer.start_span("model", context=inside, start_time=to_ns(outcome.arrival_s))
        compute = self._tracer.start_span(
            "compute", context=trace.set_span_in_context(queued), start_time=to_ns(outcome.start_s)
        )
        for span in (compute, queued, root):
            span.end(to_ns(outcome.finish_s))

    def close(self) -> None:
        """Send what is left."""
        self.provider.shutdown()


def _attributes(model: Model, outcome: Outcome, context: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "model_name": model.name,
        "model_version": model.version,
        "request_id": context.get("id", ""),
        "amble.precision": outcome.rung.variant,
        "amble.queue_s": outcome.start_s - outcome.arrival_s,
        "amble.late": outcome.late,
    }
    if outcome.due_s != float("inf"):
        found["amble.deadline_s"] = outcome.due_s - outcome.arrival_s
    if outcome.energy_j is not None:
        found["amble.energy_j"] = outcome.energy_j
    if outcome.core_hz is not None:
        found["amble.clock_hz"] = outcome.core_hz
    return found


def _wall_ns(finish_s: float) -> Callable[[float], int]:
    """Return times [s] on the device's clock → ns since 1970, taking ``finish_s`` for now."""
    now_ns = time.time_ns()
    return lambda time_s: now_ns + round((time_s - finish_s) * 1e9)
