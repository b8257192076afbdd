"""The log of a run → a verdict with its evidence: was the promise kept while it served?"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from amble.core import files
from amble.core.errors import Refused
from amble.core.log import FORMAT, Log, Served
from amble.core.quantity import format_time
from amble.core.schedule import Deadline
from amble.stages.check.evidence import Evidence
from amble.stages.check.report import assess

__all__ = ["MISSED", "check_log", "is_log"]

MISSED = 10.0  # deadlines that a request without an answer counts as having taken


def is_log(path: object) -> bool:
    """Tell whether something names the file of a log."""
    return isinstance(path, Path | str) and Path(path).is_file() and files.kind_of(path) == FORMAT.kind


def check_log(path: Path | str, *, deadline: Deadline | str | None = None) -> Evidence:
    """Judge a log by the ``deadline``, unless given by the schedule that was followed or the objective of its server.

    A request that was refused is late. Refused where nothing says what its answers were to keep.
    """
    log = files.load(path, FORMAT)
    given = Deadline.parse(deadline) if isinstance(deadline, str) else deadline
    against = given or log.schedule or log.deadline
    if against is None:
        raise Refused(f"{path} was served without an objective; say what it is held to, as in --deadline 50ms@p99")
    if not log.served:
        raise Refused(f"{path} has no request in it; send some, and check it then")
    limit = against if isinstance(against, Deadline) else against.deadline
    judged = replace(log, served=tuple(_judged(each, limit, given is not None) for each in log.served))
    idle_w = None if log.schedule is None else log.schedule.idle_power_w
    report = assess([judged], against, idle_w=idle_w)
    return Evidence(replace(report, notes=(*report.notes, *_notes(log, limit))), log.schedule, (judged,))


def _judged(served: Served, limit: Deadline, given: bool) -> Served:
    """Hold a request to the deadline that is asked about; where none is, to its own, or to the one of all."""
    own_s = None if given else served.deadline_s
    due_s = served.arrival_s + limit.latency_s if own_s is None else own_s
    least_s = served.arrival_s + MISSED * limit.latency_s
    return replace(
        served, deadline_s=due_s, finish_s=max(served.finish_s, least_s) if served.refused else served.finish_s
    )


def _notes(log: Log, limit: Deadline) -> tuple[str, ...]:
    causes = Counter(each.refused for each in log.served if each.refused)
    if not causes:
        return ()
    named = ", ".join(f"{cause} ({count})" for cause, count in causes.most_common())
    return (
        f"{causes.total()} of {len(log.served)} requests were refused and count as late; in percentiles and means each "
        f"counts as {format_time(MISSED * limit.latency_s)}: {named}",
    )
