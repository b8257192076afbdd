"""A question and its answers at every link rate → pairs of halves to run, each with clocks for several times left.

A pair is a cut in one precision. While it runs, link and server leave its device half more or less time than was
planned: so each pair comes with several *paces*, from the quickest clocks to the most frugal ones that the deadline
could ever allow, each planned as any other schedule is. All of them are laid out here; choosing is `steering`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from amble.core.point import Clocks
from amble.levers.split.cuts import sent_bytes
from amble.levers.split.link import Link
from amble.levers.split.planning import Choice, Question, Regime
from amble.stages.control.commands import commands
from amble.stages.plan.problem import Problem, alone, to_schedule
from amble.stages.plan.trellis import Solution

__all__ = ["Change", "HalfFile", "Pace", "Pair", "crossing_bytes", "model_name", "paces", "wanted"]

_NUM_PACES = 5
_LEAST_GAIN = 1.02  # in latency, from one pace to the next
_DIGITS = 12  # of a hash, in the name of a model


@dataclass(frozen=True, slots=True)
class HalfFile:
    """One half: its file beside this one, and the SHA-256 of it, by which halves know each other."""

    place: str
    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Change:
    """Clocks to ask for before an operator."""

    operator: str
    clocks: Clocks


@dataclass(frozen=True, slots=True)
class Pace:
    """How the device's half may be run: in ``latency_s`` [s] at the asked percentile, for ``energy_j`` [J] a period.

    The energy is the device's, waiting included and the radio not.
    """

    latency_s: float
    energy_j: float
    changes: tuple[Change, ...]
    wait: Clocks


@dataclass(frozen=True, slots=True)
class Pair:
    """Two halves that answer together; ``name`` is the server's model, and carries the hash of its file.

    Where all of it runs on the device there is no name and no ``server``; where nothing runs there, no ``device``.
    ``paces`` are quickest first. ``server_s`` [s] is what the server was planned to take.
    """

    name: str
    index: int
    precision: str
    num_local: int
    after: str
    sent: tuple[str, ...]
    forwarded: tuple[str, ...]
    sent_bytes: int
    received_bytes: int
    server_s: float
    deviation: float
    identical: bool
    paces: tuple[Pace, ...]
    device: HalfFile | None = None
    server: HalfFile | None = None


def wanted(question: Question, best: Choice, by_rate: Iterable[Regime], *, moving: bool) -> list[tuple[int, str]]:
    """Return the cuts and precisions that halves are made for: all-local first, then the best, then other rates'."""
    whole = next(index for index in range(len(question.cuts)) if question.whole(index))
    found = [(whole, "fp32"), (best.index, best.precision)]
    if moving:
        found += [(each.index, each.precision) for each in by_rate if each.index is not None]
        found += [(index, "fp32") for index, cut in enumerate(question.cuts) if not cut.local]
    return list(dict.fromkeys((index, "fp32" if question.whole(index) else precision) for index, precision in found))


def paces(question: Question, link: Link, index: int) -> tuple[Pace, ...]:
    """Return clocks for the device's half of a cut, from the quickest to the most frugal; none where it is too slow."""
    if not question.cuts[index].local:
        node = int(question.idle_w.argmin())
        return (Pace(0.0, float(question.idle_w[node]) * question.period_s, (), question.table.points[node].clocks),)
    problem = question.posed(index, link)
    if problem is None:
        return ()
    quickest = alone(problem, int(problem.trellis.latency_s.sum(axis=0).argmin()))
    least_s = _latency_s(question, problem, quickest)
    most_s = (
        question.deadline.latency_s - question.server_s[index] - (0.0 if question.whole(index) else link.round_trip_s)
    )
    found = [_pace(question, problem, quickest)]
    if most_s > least_s * _LEAST_GAIN:
        for budget_s in np.geomspace(least_s * _LEAST_GAIN, most_s, _NUM_PACES).tolist():
            link_s = question.deadline.latency_s - question.server_s[index] - budget_s
            if (solution := question.solved(index, link_s, link)) is not None:
                found.append(_pace(question, problem, solution))
    return _improving(found)


def model_name(network: str, num_local: int, precision: str, sha256: str) -> str:
    """Return what the server is to call its half: the network, the cut, and the hash of the file.

    >>> model_name("my net", 3, "int8", "0123456789abcdef")
    'my_net-3-int8-0123456789ab'
    """
    clean = re.sub(r"[^A-Za-z0-9_]+", "_", network).strip("_") or "network"
    return f"{clean}-{num_local}-{precision}-{sha256[:_DIGITS]}"


def crossing_bytes(question: Question, index: int, precision: str) -> tuple[int, int]:
    """Return what goes to the server and what comes back [bytes]."""
    cut = question.cuts[index]
    return sent_bytes(cut.crossing, precision), sent_bytes(cut.answers, "fp32")


def _improving(found: Sequence[Pace]) -> tuple[Pace, ...]:
    """Keep those that take less energy than all quicker ones."""
    kept: list[Pace] = []
    for each in sorted(found, key=lambda pace: (pace.latency_s, pace.energy_j)):
        if not kept or each.energy_j < kept[-1].energy_j:
            kept.append(each)
    return tuple(kept)


def _latency_s(question: Question, problem: Problem, solution: Solution) -> float:
    return (solution.latency_s - problem.ahead_s) * question.margin


def _pace(question: Question, problem: Problem, solution: Solution) -> Pace:
    schedule = to_schedule(problem, solution, "split")
    changes = tuple(Change(schedule.steps[each.index].operator, each.clocks) for each in commands(schedule))
    return Pace(_latency_s(question, problem, solution), solution.energy_j, changes, schedule.wait)
