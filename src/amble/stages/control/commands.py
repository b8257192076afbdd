"""Schedule → clock commands: what to ask for before which operator.

A clock that was asked for runs only after a settling time, in which work goes on at the old one. The plan knows that
and says when clocks are asked for; so a command goes out where a segment with other clocks begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from amble.core.point import Clocks
from amble.core.schedule import Schedule

__all__ = ["Command", "commands", "cuts"]


@dataclass(frozen=True, slots=True)
class Command:
    """Ask for these clocks just before operator ``index`` starts."""

    index: int
    clocks: Clocks


def commands(schedule: Schedule) -> tuple[Command, ...]:
    """Return a schedule's commands in order; the first is always at operator 0."""
    segments = schedule.segments
    changed = [after for before, after in pairwise(segments) if after.point.clocks != before.point.clocks]
    return tuple(Command(each.start, each.point.clocks) for each in (segments[0], *changed))


def cuts(schedule: Schedule) -> tuple[int, ...]:
    """Return the operator indices at which a run must pause: where segments begin, and the end."""
    return (*(segment.start for segment in schedule.segments), len(schedule.steps))
