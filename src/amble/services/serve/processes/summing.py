"""Counters of several processes → those of the server, which never go back, even where a process died."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import fields, replace

from amble.services.serve.telling.history import Second
from amble.services.serve.telling.ledger import Book, Histogram, Ledger

__all__ = ["ended", "seconds", "summed"]


def summed(ledgers: Iterable[Ledger]) -> Ledger:
    """Add up ledgers, book by book."""
    whole = Ledger()
    for ledger in ledgers:
        whole.busy_s += ledger.busy_s
        for (name, version), book in ledger.books.items():
            _add(whole.book(name, version), book)
    return whole


def ended(ledger: Ledger) -> Ledger:
    """Return what a process that has ended leaves: all but what waited in it."""
    return Ledger({key: replace(book, pending=0) for key, book in ledger.books.items()}, ledger.busy_s)


def seconds(found: Iterable[Second]) -> Second:
    """Add up what happened in one second in several processes."""
    whole = Second()
    for each in found:
        whole.answered += each.answered
        whole.late += each.late
        whole.refused += each.refused
        whole.batches += each.batches
        whole.busy_s += each.busy_s
        whole.latency += each.latency
        whole.rows += each.rows
        unknown = whole.baseline_j is None or each.baseline_j is None
        whole.baseline_j = None if unknown else (whole.baseline_j or 0.0) + (each.baseline_j or 0.0)
        whole.baseline_s += each.baseline_s
    return whole


def _add(whole: Book, book: Book) -> None:
    """Add a book to another. How far predictions were off is the mean, weighted by batches."""
    ratios = [(each.error_ratio, each.batches) for each in (whole, book) if each.error_ratio is not None]
    whole.error_ratio = (
        sum(ratio * count for ratio, count in ratios) / sum(count for _, count in ratios) if ratios else None
    )
    for each in fields(Book):
        mine, other = getattr(whole, each.name), getattr(book, each.name)
        if isinstance(mine, Histogram):
            mine.counts = [sum(pair) for pair in zip(mine.counts, other.counts, strict=True)]
            mine.total += other.total
        elif isinstance(mine, Counter):
            mine.update(other)
        elif each.name == "last_ms":
            whole.last_ms = max(mine, other)
        elif each.name != "error_ratio":
            setattr(whole, each.name, mine + other)
