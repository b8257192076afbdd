"""Spans of a request, its model and its computing, under the client's own trace and linked to the batch."""

from __future__ import annotations

from typing import Any

import pytest

from tests.services.serve.house import house

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from amble.services.serve.telling.tracing import spans

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_request_leaves_spans_inside_the_clients_trace() -> None:
    exporter = InMemorySpanExporter()
    body: dict[str, Any] = {"id": "r1", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0, 0]}]}
    body["parameters"] = {"timeout": 5_000_000}
    with house("plain", listeners=(spans(exporter),)) as found:
        sent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        assert found.call("POST", "/v2/models/plain/infer", body, sent)[0] == 200
    made = {span.name: span for span in exporter.get_finished_spans()}
    root, model, compute, batch = made["plain"], made["model"], made["compute"], made["batch"]
    assert f"{root.context.trace_id:x}" == TRACE.lstrip("0")
    assert f"{root.parent.span_id:x}" == PARENT
    assert compute.parent.span_id == model.context.span_id
    assert model.parent.span_id == root.context.span_id
    assert root.links[0].context.span_id == batch.context.span_id
    assert root.attributes["request_id"] == "r1"
    assert root.attributes["amble.deadline_s"] == pytest.approx(5.0)
    assert root.attributes["amble.energy_j"] > 0
    assert root.start_time <= model.start_time <= compute.start_time <= compute.end_time <= root.end_time
