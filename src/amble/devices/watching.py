"""An energy counter's readings, one after another → energy that can be trusted, or unknown and why.

A counter tells energy only as long as it does what counters do. One that stands still while power is drawn, goes back,
jumps further than the device could draw, or does not answer has lost joules that nobody can give back: from then on the
energy is unknown, until the meter is opened anew. A later reading less an earlier one must never be a number across
such a gap.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from amble.core.errors import Refused
from amble.core.ports import Clock

__all__ = ["Watch", "counter_period_s", "sensor_text"]

_SLACK_S = 0.3  # how long a counter may lag: three of the slowest periods known
_POLL_S = 2e-4
_MOVES = 4
_PATIENCE_S = 1.2


@dataclass(slots=True)
class Watch:
    """Judges one counter. ``most_w`` is more than the device can draw; ``range_j`` is where the counter starts again.

    ``still_s`` is how long it may show the same number: a device that is on always draws something.
    """

    most_w: float
    range_j: float | None = None
    still_s: float = 1.0
    why: str = ""
    _total_j: float = 0.0
    _last: tuple[float, float] | None = None
    _moved_s: float = 0.0

    def judge(self, time_s: float, counter_j: float | None) -> float | None:
        """Take a reading at a time; return the energy since the first one [J], None once it is unknown."""
        if self.why:
            return None
        if counter_j is None:
            self.why = "the counter does not answer"
            return None
        if self._last is None:
            self._last, self._moved_s = (time_s, counter_j), time_s
            return 0.0
        passed_j = self._passed(counter_j)
        self.why = self._fault(time_s, passed_j)
        if self.why:
            return None
        if passed_j > 0:
            self._moved_s = time_s
        self._total_j += passed_j
        self._last = (time_s, counter_j)
        return self._total_j

    def _passed(self, counter_j: float) -> float:
        assert self._last is not None, "the first reading has no one before it"
        passed_j = counter_j - self._last[1]
        return passed_j + self.range_j if passed_j < 0 and self.range_j is not None else passed_j

    def _fault(self, time_s: float, passed_j: float) -> str:
        assert self._last is not None, "the first reading has no fault"
        since_s = time_s - self._last[0]
        if passed_j < 0:
            return f"the counter went back by {-passed_j:.3g} J"
        if passed_j > self.most_w * (since_s + _SLACK_S):
            return f"the counter jumped by {passed_j:.3g} J in {since_s:.3g} s"
        if passed_j == 0 and time_s - self._moved_s > self.still_s:
            return f"the counter stands still for {time_s - self._moved_s:.3g} s"
        return ""


@dataclass(slots=True)
class _Moves:
    last_j: float
    at_s: list[float] = field(default_factory=list)


def counter_period_s(clock: Clock, counter_j: Callable[[], float]) -> float | None:
    """Watch a counter for some moves → how often it moves [s]; 0 where every look finds it moved, None where it stands.

    The first move is only the start. Looks are 0.2 ms apart, which is the resolution.
    """
    try:
        moves, begin_s = _Moves(counter_j()), clock.now_s()
        looks = 0
        while len(moves.at_s) <= _MOVES and clock.now_s() - begin_s < _PATIENCE_S:
            clock.sleep(_POLL_S)
            looks += 1
            now_j = counter_j()
            if now_j != moves.last_j:
                moves.last_j = now_j
                moves.at_s.append(clock.now_s())
    except Refused:
        return None
    if len(moves.at_s) < 2:
        return None
    if len(moves.at_s) == looks:
        return 0.0
    return (moves.at_s[-1] - moves.at_s[0]) / (len(moves.at_s) - 1)


def sensor_text(path: Path) -> str:
    """Return what a sensor says, without a stream around its file: it is read beside the work that it meters."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(handle, 4096).decode("ascii").strip()
        finally:
            os.close(handle)
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
