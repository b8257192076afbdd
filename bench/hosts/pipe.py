"""What a link is to do to packets → when each comes out, or that it does not; no clock and no I/O of its own.

Theory of operation: one direction is a queue before a sender of a rate, then a delay. A packet waits until those before
it are sent, is dropped where that would take longer than the queue holds, takes its bits over the rate, and then the
delay with its jitter. Packets keep their order unless one is drawn to overtake, which skips the delay (as `netem` does
it). The rate may follow a trace, repeated from its start; a rate of 0 sends nothing until it changes. Draws come from
one seeded stream in the order of arrival, so equal arrivals give equal fates.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any

__all__ = ["Pipe", "Shape", "Trace"]


@dataclass(frozen=True, slots=True)
class Trace:
    """Rates [bit/s], each for so long [s], from the start again after the last."""

    durations_s: tuple[float, ...]
    rates_bit_s: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what never sends, and what takes no time."""
        if len(self.durations_s) != len(self.rates_bit_s) or not self.durations_s:
            raise ValueError("a trace needs as many durations as rates, one at least")
        if min(self.durations_s) <= 0 or min(self.rates_bit_s) < 0 or max(self.rates_bit_s) <= 0:
            raise ValueError("a trace needs durations above 0 and rates of 0 or more, one of them above 0")

    def at(self, time_s: float) -> tuple[float, float]:
        """Return the rate [bit/s] at a time and when it ends."""
        ends_s = list(accumulate(self.durations_s))
        rounds, inside_s = divmod(time_s, ends_s[-1])
        place = min(bisect_right(ends_s, inside_s), len(ends_s) - 1)
        return self.rates_bit_s[place], rounds * ends_s[-1] + ends_s[place]


@dataclass(frozen=True, slots=True)
class Shape:
    """One direction of a link. loss and reorder: probabilities; jitter_s: standard deviation of the delay."""

    rates: Trace
    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    queue_s: float = 0.5
    seed: int = 0

    @classmethod
    def steady(cls, rate_bit_s: float, **more: Any) -> Shape:
        """Return a link of one rate."""
        return cls(Trace((1.0,), (rate_bit_s,)), **more)

    def written(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return asdict(self)

    @classmethod
    def read(cls, written: dict[str, Any]) -> Shape:
        """Return what `written` wrote."""
        rates = written["rates"]
        return cls(Trace(tuple(rates["durations_s"]), tuple(rates["rates_bit_s"])), **_without(written, "rates"))


def _without(of: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in of.items() if key != name}


@dataclass(slots=True)
class Pipe:
    """One direction at work. Times are seconds since the relay began."""

    shape: Shape
    sent: int = 0
    dropped: int = 0
    _free_s: float = 0.0
    _last_s: float = 0.0
    _draws: random.Random = field(init=False)

    def __post_init__(self) -> None:
        """Begin the stream of draws."""
        self._draws = random.Random(self.shape.seed)  # noqa: S311  # fates of packets

    def send(self, now_s: float, num_bytes: int) -> float | None:
        """Return when a packet that arrives now comes out; None: it is lost."""
        shape = self.shape
        lost, overtakes = self._draws.random() < shape.loss, self._draws.random() < shape.reorder
        jitter_s = self._draws.gauss(0.0, shape.jitter_s) if shape.jitter_s else 0.0
        start_s = max(now_s, self._free_s)
        if lost or start_s - now_s > shape.queue_s:
            self.dropped += 1
            return None
        self._free_s = self._sent_s(start_s, 8.0 * num_bytes)
        self.sent += 1
        if overtakes:
            return self._free_s
        due_s = max(self._last_s, self._free_s + max(0.0, shape.delay_s + jitter_s))
        self._last_s = due_s
        return due_s

    def _sent_s(self, start_s: float, bits: float) -> float:
        """Return when so many bits are sent that begin at a time."""
        time_s = start_s
        while True:
            rate, until_s = self.shape.rates.at(time_s)
            if bits <= rate * (until_s - time_s):
                return time_s + bits / rate
            bits -= rate * (until_s - time_s)
            time_s = until_s + 1e-9
