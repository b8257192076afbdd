"""Time left → clocks to ask for next: the rest of the plan is looked up after every segment, not planned again.

Whoever is ahead gives the slack back to slower clocks, whoever is late catches up, and before it is too late the
fastest clocks run. All of that was decided when the plan was made (`Schedule.rest`); here is a bisection in a sorted
list, a microsecond's work, and no state.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable

from amble.core.point import Clocks
from amble.core.schedule import Rest
from amble.stages.control.commands import Command

__all__ = ["Pick", "follow", "punctual"]

Pick = Callable[[int, Clocks | None, float], Clocks | None]
"""Operator that is next, clocks asked for last, time left until the answer is due [s] → clocks to ask for now."""


def follow(commands: Iterable[Command]) -> Pick:
    """Ask for what the plan says, whatever the time."""
    by_index = {command.index: command.clocks for command in commands}

    def pick(index: int, held: Clocks | None, left_s: float) -> Clocks | None:
        return by_index.get(index)

    return pick


def punctual(rest: Rest) -> Pick:
    """Ask for the most frugal way to go on that the time left allows; where none is known nothing changes."""
    table = {
        (choice.start, rest.settings[choice.held]): (choice.needs_s, tuple(rest.settings[ask] for ask in choice.asks))
        for choice in rest.choices
    }

    def pick(index: int, held: Clocks | None, left_s: float) -> Clocks | None:
        found = table.get((index, held)) if held is not None else None
        if found is None:
            return None
        needs_s, asks = found
        return asks[max(0, bisect_right(needs_s, left_s) - 1)]

    return pick
