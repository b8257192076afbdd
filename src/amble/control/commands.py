"""Schedule → clock commands, each issued early enough that the new clock runs when its operator starts.

A clock that was asked for runs only after a settling time, in which work goes on at the old one. Where the change of
a schedule is known beforehand the request for it goes out that much earlier, at the last operator boundary that still
leaves the time. Each domain has a settling time of its own, so one change may become several commands.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from itertools import accumulate, pairwise

from amble.core.point import DOMAINS, Clocks, Domain
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
    starts_s = [0.0, *accumulate(step.predicted.latency_s for step in schedule.steps)]
    settle_s = {switch.domain: switch.settle_s for switch in schedule.switches}
    asked: dict[int, dict[Domain, float | None]] = defaultdict(dict)
    for before, after in pairwise(segments):
        for domain in DOMAINS:
            if before.point.clocks.of(domain) != after.point.clocks.of(domain):
                due_s = starts_s[after.start] - settle_s.get(domain, 0.0)
                index = max(0, bisect_right(starts_s, due_s) - 1)
                asked[index][domain] = after.point.clocks.of(domain)
    return _merged(segments[0].point.clocks, asked)


def cuts(schedule: Schedule) -> tuple[int, ...]:
    """Return the operator indices at which a run must pause: commands and changes of precision; 0 and the end too."""
    precisions = [
        after.start
        for before, after in pairwise(schedule.segments)
        if before.point.at(Clocks()) != after.point.at(Clocks())
    ]
    indices = {0, len(schedule.steps), *precisions, *(command.index for command in commands(schedule))}
    return tuple(sorted(indices))


def _merged(first: Clocks, asked: dict[int, dict[Domain, float | None]]) -> tuple[Command, ...]:
    """Apply the changes on top of each other, so that every command is a complete setting."""
    now = {domain: first.of(domain) for domain in DOMAINS}
    found = []
    for index in sorted({0, *asked}):
        now |= asked.get(index, {})
        found.append(Command(index, Clocks(now["core"], now["memory"], now["cpu"], first.power_limit_w)))
    return tuple(found)
