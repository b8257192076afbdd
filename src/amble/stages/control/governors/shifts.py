"""What going from one gear to another takes: time lost while a change settles, and what parking saves and costs."""

from __future__ import annotations

from dataclasses import dataclass, field

from amble.core.ladder import Ladder
from amble.core.point import Clocks
from amble.stages.control.governor import NEVER_S
from amble.stages.control.governors.gears import Gear

__all__ = ["Shifts"]


@dataclass(frozen=True, slots=True)
class Shifts:
    """The changes between the gears of a ladder, from frugal to fast; what they cost is worked out once.

    own_s: [running gear][chosen gear], how much later one request is done. lag: [gear], the share of a settling time
    that is lost on the way to the fastest gear; stall_s: [gear], its stand-still; whole_s: [gear], both together.
    pairs: of clocks before and after, the time to settle [s] and how long idling must last for parking to pay [s].
    ``parked_s`` is the time of a request at the parking clocks, which may be no rung of the ladder: it is taken to be
    as much longer as they are lower.
    """

    ladder: Ladder
    gears: tuple[Gear, ...]
    own_s: tuple[tuple[float, ...], ...] = field(init=False, repr=False)
    lag: tuple[float, ...] = field(init=False, repr=False)
    stall_s: tuple[float, ...] = field(init=False, repr=False)
    whole_s: tuple[float, ...] = field(init=False, repr=False)
    parked_s: float = field(init=False, repr=False)
    pairs: dict[tuple[Clocks, Clocks], tuple[float, float]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Work the tables out."""
        top, ladder = self.gears[-1].rungs[0], self.ladder
        rungs = [gear.rungs[0] for gear in self.gears]
        own_s = tuple(tuple(self._own_s(before, after) for after in self.gears) for before in self.gears)
        object.__setattr__(self, "own_s", own_s)
        object.__setattr__(self, "lag", tuple(1.0 - top.latency_s[0] / rung.latency_s[0] for rung in rungs))
        object.__setattr__(self, "stall_s", tuple(ladder.stall_s(rung.clocks, top.clocks) for rung in rungs))
        settles_s = [ladder.settle_s(rung.clocks, top.clocks) for rung in rungs]
        whole_s = tuple(s + lag * each for s, lag, each in zip(self.stall_s, self.lag, settles_s, strict=True))
        object.__setattr__(self, "whole_s", whole_s)
        object.__setattr__(self, "parked_s", self._parked_s())
        known = {ladder.park, *(rung.clocks for rung in ladder.rungs)}
        pairs = {(a, b): (ladder.settle_s(a, b), self._break_even_s(a, b)) for a in known for b in known}
        object.__setattr__(self, "pairs", pairs)

    def gear_of(self, asked: Clocks | None) -> int:
        """Return the gear that has these clocks; the next more frugal one where none has exactly these."""
        place = 0
        for index, gear in enumerate(self.gears):
            clocks = gear.rungs[0].clocks
            if clocks is asked or clocks == asked:
                return index
            if asked is not None and clocks < asked:
                place = index
        return place

    def climb_s(self, gear: int, before: int, left_s: float) -> float:
        """Return the time [s] still lost on the way to the fastest gear, once this one has been asked for.

        The clocks of gear ``before`` still run for ``left_s``.
        """
        if gear == len(self.gears) - 1:
            return self.lag[before] * max(0.0, left_s)
        return self.whole_s[gear] if left_s <= 0.0 else max(self.whole_s[gear], self.whole_s[before])

    def late_s(self, running: int, gear: int, asked: Clocks | None) -> float:
        """Return how much later [s] one request is done because its gear's clocks do not run yet, or are parked."""
        if asked is None or asked != self.ladder.park or running > 0:
            return self.own_s[running][gear]
        wanted = self.gears[gear].rungs[0]
        parked_s = self.parked_s
        settle_s = min(parked_s, self.settle_s(asked, wanted.clocks))
        return self.ladder.stall_s(asked, wanted.clocks) + settle_s * max(0.0, 1.0 - wanted.latency_s[0] / parked_s)

    def parks(self, clump: float, within_s: float) -> bool:
        """Tell whether as many as come at a time would be answered within this time [s] from the parking clocks."""
        park, top = self.ladder.park, self.gears[-1].rungs[0]
        lag_s = self.settle_s(park, top.clocks) * (1.0 - top.latency_s[0] / self.parked_s)
        return lag_s + clump * top.latency_s[0] <= within_s

    def settle_s(self, before: Clocks, after: Clocks) -> float:
        """Return how long [s] the old clocks run on."""
        found = self.pairs.get((before, after))
        return found[0] if found is not None else self.ladder.settle_s(before, after)

    def break_even_s(self, asked: Clocks, rest: Clocks) -> float:
        """Return how long [s] idling at these clocks costs as much as going to the others and back."""
        found = self.pairs.get((asked, rest))
        return found[1] if found is not None else NEVER_S

    def _break_even_s(self, asked: Clocks, rest: Clocks) -> float:
        idle_w = {rung.clocks: rung.idle_w for rung in self.ladder.rungs}
        spent_w = idle_w.get(asked, self.ladder.park_w) - idle_w.get(rest, self.ladder.park_w)
        cost_j = self.ladder.stall_j(asked, rest) + self.ladder.stall_j(rest, asked)
        return cost_j / spent_w if spent_w > 0 else NEVER_S

    def _own_s(self, before: Gear, after: Gear) -> float:
        old, new = before.rungs[0], after.rungs[0]
        settle_s = self.ladder.settle_s(old.clocks, new.clocks)
        lost_s = min(1.0, settle_s / old.latency_s[0]) * (old.latency_s[0] - new.latency_s[0])
        return self.ladder.stall_s(old.clocks, new.clocks) + max(0.0, lost_s)

    def _parked_s(self) -> float:
        park, lowest = self.ladder.park, self.gears[0].rungs[0]
        if not park.core_hz or not lowest.clocks.core_hz:
            return lowest.latency_s[0]
        return lowest.latency_s[0] * max(1.0, lowest.clocks.core_hz / park.core_hz)
