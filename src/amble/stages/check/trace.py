"""Logs → one Chrome trace event document that opens in Perfetto and chrome://tracing.

Theory of operation. Each log is a process; all start at 0 on one monotonic clock, in µs, written from whole nanoseconds
so that a child never sticks out of its parent. Thread 1 holds nested slices: request ⊃ segment ⊃ operator. A request
may wait while another runs, so its whole life is an asynchronous pair (``b``/``e``, category ``request``) with its wait
as a second pair inside. Clocks, power and queue length are counters. What was asked of the clocks is an instant event,
since the device may run something else, or later. Requests after the traced ones are left out.

Format: Trace Event Format (Google, 2016).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypedDict

import msgspec
import numpy as np

from amble.core.log import Log, Slice
from amble.core.point import DOMAINS, Clocks
from amble.core.ports import FloatArray

__all__ = ["Event", "trace", "trace_json"]

_REQUESTS, _CLOCKS = 1, 2

Value = str | int | float | bool | None


class Event(TypedDict, total=False):
    """One trace event; ``ts`` and ``dur`` in µs."""

    name: str
    cat: str
    ph: str
    ts: float
    dur: float
    pid: int
    tid: int
    id: str
    s: str
    args: dict[str, Value]


def trace_json(logs: Sequence[Log], operators: tuple[str, ...] = (), *, weights: FloatArray | None = None) -> str:
    """Write `trace` as the JSON document that the viewers load."""
    document = {"traceEvents": trace(logs, operators, weights=weights), "displayTimeUnit": "ms"}
    return msgspec.json.encode(document).decode()


def trace(logs: Sequence[Log], operators: tuple[str, ...] = (), *, weights: FloatArray | None = None) -> list[Event]:
    """Return the events of all logs: first the names, then everything else by time.

    ``operators`` names the graph's operators. A slice that covers several of them gets one slice inside for each when
    ``weights``, [operator] (predicted times), say how to divide it; those are marked as estimated.
    """
    if weights is not None and weights.shape != (len(operators),):
        raise ValueError(f"{weights.shape} weights for {len(operators)} operators")
    names: list[Event] = []
    events: list[Event] = []
    for pid, log in enumerate(logs, start=1):
        names += _names(log, pid)
        events += _of_log(_Ticks(log.start_s, pid), log, operators, weights)
    order = {"e": 0, "b": 2}
    events.sort(key=lambda event: (event["ts"], order.get(event["ph"], 1), -event.get("dur", 0.0)))
    return names + events


class _Ticks:
    """Turns a log's seconds into events of one process, in whole nanoseconds from its start."""

    def __init__(self, origin_s: float, pid: int) -> None:
        self.origin_s, self.pid = origin_s, pid

    def ns(self, time_s: float) -> int:
        return max(0, round((time_s - self.origin_s) * 1e9))

    def slice(self, name: str, cat: str, start_ns: int, stop_ns: int, **args: Value) -> Event:
        duration_us = (stop_ns - start_ns) / 1e3
        return self._event(name, cat, "X", start_ns, args) | Event(dur=duration_us, tid=_REQUESTS)

    def pair(self, name: str, key: int, start_ns: int, stop_ns: int, **args: Value) -> Iterator[Event]:
        same = Event(id=f"{self.pid}.{key}", tid=_REQUESTS)
        yield self._event(name, "request", "b", start_ns, args) | same
        yield self._event(name, "request", "e", stop_ns, {}) | same

    def counter(self, name: str, time_s: float, value: float) -> Event:
        return self._event(name, "counter", "C", self.ns(time_s), {name: value}) | Event(tid=0)

    def instant(self, name: str, time_s: float, **args: Value) -> Event:
        return self._event(name, "clocks", "i", self.ns(time_s), args) | Event(s="t", tid=_CLOCKS)

    def _event(self, name: str, cat: str, ph: str, at_ns: int, args: dict[str, Value]) -> Event:
        plain = {key: float(value) if isinstance(value, float) else value for key, value in args.items()}  # no numpy
        return Event(name=name, cat=cat, ph=ph, ts=at_ns / 1e3, pid=self.pid, args=plain)


def _names(log: Log, pid: int) -> list[Event]:
    what = f"{log.policy}: {log.subject.network} on {log.where.device} ({log.where.calibration})"
    threads = {_REQUESTS: "requests, segments, operators", _CLOCKS: "clocks asked for"}
    return [
        Event(name="process_name", ph="M", pid=pid, tid=0, ts=0.0, args={"name": what}),
        Event(name="process_sort_index", ph="M", pid=pid, tid=0, ts=0.0, args={"sort_index": pid}),
        *(Event(name="thread_name", ph="M", pid=pid, tid=i, ts=0.0, args={"name": t}) for i, t in threads.items()),
    ]


def _of_log(ticks: _Ticks, log: Log, operators: tuple[str, ...], weights: FloatArray | None) -> Iterator[Event]:
    traced = log.served[: log.traced or len(log.served)]
    free = 0
    for index, each in enumerate(traced):
        arrival, start, finish = ticks.ns(each.arrival_s), ticks.ns(each.start_s), ticks.ns(each.finish_s)
        name, late = f"request {index}", bool(each.late)
        yield from ticks.pair(name, index, arrival, finish, late=late, energy_j=each.energy_j, correct=each.correct)
        if start > arrival:
            yield from ticks.pair("wait", index, arrival, start)
        if start >= free:  # requests of one batch run at once; their first stands for all, since slices must nest
            free = finish
            yield ticks.slice(name, "request", start, finish, late=late, latency_ms=each.latency_s * 1e3)
    for piece in log.slices:
        yield from _slices(ticks, piece, operators, weights)
    yield from _clocks(ticks, log)
    yield from (ticks.counter("power_w", each.time_s, each.power_w) for each in log.power)
    yield from _queue(ticks, log, len(traced))


def _slices(ticks: _Ticks, piece: Slice, operators: tuple[str, ...], weights: FloatArray | None) -> Iterator[Event]:
    start, finish = ticks.ns(piece.start_s), ticks.ns(piece.finish_s)
    ran_at = str(piece.ran_at)
    if piece.stop == piece.start + 1:
        yield ticks.slice(_name(operators, piece.start), "operator", start, finish, ran_at=ran_at)
        return
    name = f"operators {piece.start}–{piece.stop - 1}"
    yield ticks.slice(name, "segment", start, finish, ran_at=ran_at, energy_j=piece.energy_j)
    if weights is None or weights[piece.start : piece.stop].sum() <= 0:
        return
    share = np.concatenate(([0.0], np.cumsum(weights[piece.start : piece.stop])))
    edges = np.rint(start + (finish - start) * share / share[-1]).astype(int).tolist()
    for index, (begin, end) in enumerate(pairwise(edges), start=piece.start):
        yield ticks.slice(_name(operators, index), "operator", begin, end, estimated=True)


def _name(operators: tuple[str, ...], index: int) -> str:
    return operators[index] if index < len(operators) else f"operator {index}"


def _clocks(ticks: _Ticks, log: Log) -> Iterator[Event]:
    """Count the clocks that ran, as read back at changes and at slices; mark what was asked."""
    for change in log.changes:
        yield ticks.instant(f"ask {change.asked}", change.time_s, got=str(change.got))
    seen = [(each.time_s, each.got) for each in log.changes] + [(each.start_s, each.ran_at) for each in log.slices]
    for domain in DOMAINS:
        before: float | None = None
        for time_s, clocks in sorted(seen, key=_by_time):
            hz = clocks.of(domain)
            if hz is not None and hz != before:
                yield ticks.counter(f"{domain}_mhz", time_s, hz / 1e6)
            before = hz


def _by_time(item: tuple[float, Clocks]) -> float:
    return item[0]


def _queue(ticks: _Ticks, log: Log, traced: int) -> Iterator[Event]:
    waits = [each for each in log.served[:traced] if each.start_s > each.arrival_s]
    steps = [(each.arrival_s, 1) for each in waits] + [(each.start_s, -1) for each in waits]
    length = 0
    for time_s, step in sorted(steps):
        length += step
        yield ticks.counter("queue", time_s, length)
