"""Pages of one server, one after the other → what happened between two of them, and whether they can be trusted.

Counters are compared series by series. One that went back belongs to a restarted server: what it counts now came since
the restart. A histogram is one set of buckets for all its label sets. Series that are missing, not numbers, or a page
that stands still while requests run make a look *unusable*: it says so and gives nothing to learn from. So does the
first page after one of these: what it counts came in more time than has passed since.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from amble.core.errors import Refused
from amble.services.govern.buckets import judged_at
from amble.services.govern.maps import ServerMap, Source
from amble.services.govern.objective import Objective
from amble.services.govern.page import Labels, Page, read_page

__all__ = ["Eyes", "Look", "Memory"]

_FROZEN_LOOKS = 2  # pages in a row that stand still while requests run

Counter = Mapping[Labels, float]


class Look(NamedTuple):
    """What happened in ``span_s`` [s] until now. ``counts``: [objective][bucket] latencies that came in.

    ``waiting`` and ``running`` are None where the server does not tell. Where not ``usable``, ``note`` says why.
    """

    time_s: float
    span_s: float
    arrivals: float
    finished: float
    waiting: float | None
    running: float | None
    prompt_tokens: float
    output_tokens: float
    counts: tuple[tuple[float, ...], ...]
    usable: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """The last page that was read: counters by series, histograms by objective, and since when it stands still."""

    time_s: float | None = None
    counters: Mapping[str, Counter] = field(default_factory=dict)
    histograms: tuple[Mapping[Labels, float] | None, ...] = ()
    present: float | None = None
    still: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Eyes:
    """Reads the pages of one server. ``edges_s``: [objective][edge] of its histograms."""

    server: ServerMap
    objectives: tuple[Objective, ...]
    edges_s: tuple[tuple[float, ...], ...]
    judged_s: tuple[float, ...]

    @classmethod
    def open(cls, server: ServerMap, objectives: tuple[Objective, ...], text: str) -> Eyes:
        """Look at a first page; Refused when an objective has no histogram there, or none that can judge it."""
        page = read_page(text, server.wanted({each.kind for each in objectives}))
        edges_s = tuple(_edges_s(server, each, page) for each in objectives)
        judged_s = tuple(judged_at(edges, each) for edges, each in zip(edges_s, objectives, strict=True))
        return cls(server, objectives, edges_s, judged_s)

    def look(self, memory: Memory, text: str, now_s: float) -> tuple[Memory, Look]:
        """Compare a page with the one before; the first one only starts the counting."""
        try:
            page = read_page(text, self.server.wanted({each.kind for each in self.objectives}))
        except Refused as reason:
            return Memory(), self._unusable(memory, now_s, str(reason))
        waiting, running = (self._gauge(page, role) for role in ("waiting", "running"))
        still = memory.still + 1 if text == memory.text else 0
        counters = {role: _series(page, self.server.series.get(role)) for role in ("arrivals", "finished", *_TOKENS)}
        cumulative = tuple(self._cumulative(page, index) for index in range(len(self.objectives)))
        present = None if waiting is None and running is None else (waiting or 0.0) + (running or 0.0)
        after = Memory(now_s, counters, cumulative, present, still, text)
        gone = ", ".join(str(each) for each, found in zip(self.objectives, cumulative, strict=True) if found is None)
        if gone:
            return Memory(), self._unusable(memory, now_s, f"the histogram of {gone} is gone, or holds no numbers")
        if memory.time_s is None:
            return after, self._unusable(memory, now_s, "the first page")
        if still >= _FROZEN_LOOKS and (present or 0.0) > 0.0:
            return after, self._unusable(memory, now_s, "the page stands still while requests run")
        if still == 0 and memory.still >= _FROZEN_LOOKS and (memory.present or 0.0) > 0.0:
            return after, self._unusable(memory, now_s, "the page stood still until now")
        return after, self._seen(memory, after, waiting, running)

    def _seen(self, before: Memory, after: Memory, waiting: float | None, running: float | None) -> Look:
        back = [False]
        passed = {role: _passed(before.counters.get(role, {}), now, back) for role, now in after.counters.items()}
        counts = tuple(
            _bucket_counts(self.edges_s[index], before.histograms[index] or {}, after.histograms[index] or {}, back)
            for index in range(len(self.objectives))
        )
        finished = passed["finished"] if after.counters["finished"] else max(map(sum, counts), default=0.0)
        arrivals = passed["arrivals"]
        if not after.counters["arrivals"]:
            arrivals = max(0.0, finished + (after.present or 0.0) - (before.present or 0.0))
        assert before.time_s is not None, "a page was read before"
        assert after.time_s is not None, "a page was read now"
        note = "the server was restarted: its counters began again" if back[0] else ""
        span_s = after.time_s - before.time_s
        tokens = (passed["prompt_tokens"], passed["output_tokens"])
        return Look(after.time_s, span_s, arrivals, finished, waiting, running, *tokens, counts, not back[0], note)

    def _unusable(self, memory: Memory, now_s: float, note: str) -> Look:
        nothing = tuple((0.0,) * (len(edges) + 1) for edges in self.edges_s)
        span_s = 0.0 if memory.time_s is None else now_s - memory.time_s
        return Look(now_s, span_s, 0.0, 0.0, None, None, 0.0, 0.0, nothing, False, note)

    def _gauge(self, page: Page, role: str) -> float | None:
        source = self.server.series.get(role)
        found = [*_series(page, source).values(), *_series(page, source.plus if source else None).values()]
        return sum(found) if found and all(map(math.isfinite, found)) else None

    def _cumulative(self, page: Page, index: int) -> Mapping[Labels, float] | None:
        source = self.server.latencies[self.objectives[index].kind]
        rows = _buckets(page, source)
        if not rows or not all(math.isfinite(value) for _, value in rows):
            return None
        return dict(rows)


_TOKENS = ("prompt_tokens", "output_tokens")


def _series(page: Page, source: Source | None) -> Counter:
    """Return the series of the first name that is there, by labels, those with the wanted labels only."""
    if source is None:
        return {}
    rows = next((page[name] for name in source.names if name in page), ())
    wanted = source.where.items()
    return {labels: value for labels, value in rows if wanted <= dict(labels).items()}


def _buckets(page: Page, source: Source) -> tuple[tuple[Labels, float], ...]:
    name = next((f"{each}_bucket" for each in source.names if f"{each}_bucket" in page), None)
    if name is None:
        return ()
    wanted = source.where.items()
    return tuple((labels, value) for labels, value in page[name] if wanted <= dict(labels).items())


def _edges_s(server: ServerMap, objective: Objective, page: Page) -> tuple[float, ...]:
    source = server.latencies.get(objective.kind)
    if source is None:
        reason = server.without.get(objective.kind, "its map names no histogram of it").strip()
        raise Refused(f"'{objective}' cannot be judged on {server.server}: {reason}")
    rows = _buckets(page, source)
    edges = sorted({_edge(labels) for labels, _ in rows} - {math.inf})
    if not edges:
        raise Refused(
            f"'{objective}' cannot be judged yet: the page of {server.server} has no series "
            f"{' or '.join(source.names)}_bucket; send one request first, and see amble govern --probe"
        )
    return tuple(edge * source.unit_s for edge in edges)


@lru_cache(maxsize=8192)
def _edge(labels: Labels) -> float:
    return float(dict(labels).get("le", "inf"))


def _passed(before: Counter, now: Counter, back: list[bool]) -> float:
    """Return how far counters went; what went back began again at zero."""
    total = 0.0
    for labels, value in now.items():
        if not math.isfinite(value):
            continue
        then = before.get(labels, 0.0) if before else value
        if value < then:
            back[0] = True
            then = 0.0
        total += value - then
    return total


def _bucket_counts(
    edges_s: tuple[float, ...], before: Mapping[Labels, float], now: Mapping[Labels, float], back: list[bool]
) -> tuple[float, ...]:
    """Return how many latencies came into each bucket, summed over label sets: [bucket]."""
    began_again = any(value < before.get(labels, 0.0) for labels, value in now.items())
    back[0] |= began_again
    below: dict[float, float] = {}
    for labels, value in now.items():
        then = 0.0 if began_again else before.get(labels, 0.0)
        below[_edge(labels)] = below.get(_edge(labels), 0.0) + value - then
    steps = [below[edge] for edge in sorted(below)]
    if len(steps) == len(edges_s):  # a page without +Inf: nothing is known above the last edge
        steps.append(steps[-1])
    if len(steps) != len(edges_s) + 1:
        return (0.0,) * (len(edges_s) + 1)
    return tuple(max(0.0, high - low) for low, high in zip((0.0, *steps), steps, strict=False))
