"""Graphs on an emulated card: outputs computed by this machine, in the time and for the joules that the chip takes.

A run is told to the card in pieces of at most a millisecond of its time, each at the clocks that really run then
(ramps, heat, the power limit), and the caller waits until that time has passed. So a clock that changes during a run
changes the rest of the run, and whoever reads the meter meanwhile sees it move.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import FloatArray, Tensors, Timing, Timings
from amble.devices.emulated.making import read
from amble.devices.emulated.state import library, opened
from amble.devices.simulated.device import Compute
from amble.devices.simulated.kernels import Launches
from amble.devices.simulated.physics import Physics, Table

__all__ = ["CardClock", "EmulatedRunner"]

_PIECE_S = 1e-3
_WARM_UP_S = 0.03  # of the card, before timing: long enough for its clocks to rise
_CAP_TEMPERATURE_C = 60.0


class CardClock:
    """A card's time: this machine's, slower by a factor; with a factor of 0 it moves only when it is told to."""

    def __init__(self, place: Path) -> None:
        self._library = library(place)
        self._slower = read(place).slower

    def now_s(self) -> float:
        """Return the time of the card [s]."""
        return float(self._library.amble_card_now())

    def sleep(self, duration_s: float) -> None:
        """Let this much of the card's time [s] pass."""
        self.wait(self.now_s() + max(0.0, duration_s))

    def wait(self, until_s: float) -> None:
        """Let the card's time pass until then."""
        if self._slower <= 0:
            self._library.amble_card_idle(until_s)
        elif (left_s := until_s - self.now_s()) > 0:
            time.sleep(left_s * self._slower)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Operators' time [operator] in one piece, and when it ends on the card."""

    latency_s: FloatArray
    end_s: float


class EmulatedRunner:
    """Runs and times graphs on the card of a folder.

    ``compute`` computes outputs; ``clocks`` and ``throttled`` are the board's own read-backs, all that is known of the
    clocks that ran.
    """

    def __init__(
        self,
        place: Path,
        compute: Compute | None,
        *,
        clocks: Callable[[], Clocks] = Clocks,
        throttled: Callable[[], bool] = lambda: False,
    ) -> None:
        card = read(place)
        self._place = place
        self._chip = card.true_chip()
        self._physics = Physics(self._chip)
        self._library = library(place)
        self._clock = CardClock(place)
        self._compute = compute
        self._clocks, self._throttled = clocks, throttled
        self._rng = np.random.default_rng(card.seed + 1)
        self._launches: dict[tuple[object, ...], Launches] = {}
        self._tables: dict[tuple[object, ...], Table] = {}

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        """Run a graph or one segment of it; its outputs are computed while the card's time passes."""
        if inputs and self._compute is None:
            raise Refused("this card was opened without a runtime; run it without inputs")
        outputs: Tensors | None = None
        for piece in self._pieces(graph, point):
            if outputs is None:
                outputs = self._compute(graph, point, inputs) if inputs and self._compute else {}
            self._clock.wait(piece.end_s)
        return outputs or {}

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        """Time each operator in ``repeats`` runs, by events on the card, after some runs to wake it.

        Energy is not told: the counter is too slow for one run.
        """
        if repeats < 1:
            raise ValueError(f"a profile needs at least one repeat, not {repeats}")
        until_s = self._clock.now_s() + _WARM_UP_S
        while self._clock.now_s() < until_s:
            self.run(graph, point, {})
        runs, seen, throttled = [], [], False
        for _ in range(repeats):
            pieces = list(self._waited(graph, point))
            seen.append(self._clocks())
            throttled |= self._throttled()
            runs.append(np.sum([piece.latency_s for piece in pieces], axis=0))
        latency_s = np.stack(runs)
        whole_s = latency_s.sum(axis=1)
        return Timings(
            operators=_timings(latency_s),
            whole=_timings(whole_s[:, None])[0],
            ran_at=max(set(seen), key=seen.count),
            repeats=repeats,
            ratios=tuple((whole_s / np.median(whole_s)).tolist()),
            throttled=throttled,
        )

    def _waited(self, graph: Graph, point: OperatingPoint) -> Iterator[_Piece]:
        for piece in self._pieces(graph, point):
            self._clock.wait(piece.end_s)
            yield piece

    def _pieces(self, graph: Graph, point: OperatingPoint) -> Iterator[_Piece]:
        """Tell the card one piece of work after another, each at the clocks that run when it begins."""
        key = self._key(graph, point)
        noise, left = self._noise(len(graph.operators)), np.ones(len(graph.operators))
        at_s = self._clock.now_s()
        while left.any():
            clocks = self._running(at_s)
            allowed = self._under_limit(key, clocks)
            table = self._table(key, allowed)
            latency_s = table.time_s * noise * left
            share = _share(latency_s, _PIECE_S)
            spent_s, dynamic_j = latency_s * share, float((table.dynamic_j * left * share).sum())
            capped_mhz = 0.0 if allowed == clocks else (allowed.core_hz or 0.0) * 1e-6
            duration_s = float(spent_s.sum())
            self._library.amble_card_work(duration_s, dynamic_j, capped_mhz)
            at_s += duration_s
            left = np.where(share >= 1.0, 0.0, left * (1.0 - share))
            yield _Piece(spent_s, at_s)

    def _running(self, at_s: float) -> Clocks:
        core_mhz, memory_mhz = ctypes.c_double(), ctypes.c_double()
        self._library.amble_card_clocks(at_s, 1, ctypes.byref(core_mhz), ctypes.byref(memory_mhz))
        return Clocks(round(core_mhz.value) * 1e6, round(memory_mhz.value) * 1e6)

    def _under_limit(self, key: tuple[object, ...], clocks: Clocks) -> Clocks:
        """Return the highest clock, up to this one, at which the work's average power stays under the board's limit."""
        with opened(self._place) as state:
            limit_w = state.limit_mw * 1e-3
        if self._average_w(key, clocks) <= limit_w:
            return clocks
        assert clocks.core_hz is not None, "a card's core has a clock"
        ladder = self._chip.ladder("core")
        below = [Clocks(each, clocks.memory_hz) for each in ladder[ladder < clocks.core_hz].tolist()] or [clocks]
        low, high = 0, len(below) - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._average_w(key, below[middle]) <= limit_w else (low, middle - 1)
        return below[low]

    def _average_w(self, key: tuple[object, ...], clocks: Clocks) -> float:
        table = self._table(key, clocks)
        total_s = float(table.time_s.sum())
        busy_w = self._physics.busy_w(clocks, _CAP_TEMPERATURE_C)
        return busy_w + float(table.dynamic_j.sum()) / total_s if total_s > 0 else busy_w

    def _key(self, graph: Graph, point: OperatingPoint) -> tuple[object, ...]:
        key = (graph.digest, graph.batch, graph.offset, len(graph.operators), point.precision)
        if key not in self._launches:
            if point.precision not in self._chip.precisions:
                raise Refused(f"this card does not run {point.precision}; it runs {', '.join(self._chip.precisions)}")
            self._launches[key] = self._physics.launches(graph, point.precision)
        return key

    def _table(self, key: tuple[object, ...], clocks: Clocks) -> Table:
        if (key, clocks) not in self._tables:
            self._tables[(key, clocks)] = self._physics.table(self._launches[key], clocks)
        return self._tables[(key, clocks)]

    def _noise(self, count: int) -> FloatArray:
        """Factors on operators' times: log-normal with mean one, a few far above, and one that the run shares."""
        noise = self._chip.noise
        jitter = np.exp(noise.sigma * self._rng.standard_normal(count) - noise.sigma**2 / 2)
        spikes = np.where(self._rng.random(count) < noise.spike_rate, noise.spike_share, 0.0)
        run = math.exp(noise.run_sigma * float(self._rng.standard_normal()) - noise.run_sigma**2 / 2)
        return np.asarray((jitter + spikes) * run)


def _share(latency_s: FloatArray, most_s: float) -> FloatArray:
    """Return which share of each operator [operator], in order, fits into a time."""
    ends_s = np.cumsum(latency_s)
    starts_s = ends_s - latency_s
    room_s = np.clip(most_s - starts_s, 0.0, None)
    return np.where(ends_s <= most_s, 1.0, np.minimum(1.0, room_s / np.maximum(latency_s, 1e-300)))


def _timings(latency_s: FloatArray) -> tuple[Timing, ...]:
    """Summarise repeats; latency_s: [repeat, operator]."""
    low_s, middle_s, high_s = np.percentile(latency_s, [10, 50, 90], axis=0)
    return tuple(Timing(*each, None) for each in zip(middle_s.tolist(), (high_s - low_s).tolist(), strict=True))
