"""What was counted of models, in the form of the statistics extension of the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amble.services.serve.models.model import Model
from amble.services.serve.telling.ledger import Book, Ledger

__all__ = ["statistics"]


def statistics(ledger: Ledger, models: Sequence[Model]) -> dict[str, Any]:
    """Return models' counters in the form of the statistics extension."""
    return {"model_stats": [_stats(model, ledger.book(model.name, model.version)) for model in models]}


def _stats(model: Model, book: Book) -> dict[str, Any]:
    def duration(count: int, ns: int) -> dict[str, int]:
        return {"count": count, "ns": ns}

    return {
        "name": model.name,
        "version": model.version,
        "last_inference": book.last_ms,
        "inference_count": book.rows,
        "execution_count": book.batches,
        "inference_stats": {
            "success": duration(book.success, book.success_ns),
            "fail": duration(sum(book.failures.values()), book.failed_ns),
            "queue": duration(book.success, book.queue_ns),
            "compute_input": duration(book.success, book.input_ns),
            "compute_infer": duration(book.success, book.infer_ns),
            "compute_output": duration(book.success, book.output_ns),
            "cache_hit": duration(0, 0),
            "cache_miss": duration(0, 0),
        },
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": duration(count, 0),
                "compute_infer": duration(count, book.batch_ns[size]),
                "compute_output": duration(count, 0),
            }
            for size, count in sorted(book.batch_sizes.items())
        ],
    }
