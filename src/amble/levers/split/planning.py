"""Cuts, costs here and there, a link → where to cut, what to send it as, and the clocks of the device's half.

Theory of operation
-------------------
For a cut m that sends d_m bits the answer comes after T = margin T_dev(m) + d_m / R + round trip + answer / R +
margin T_srv(m). So the device's operators have what is left of the deadline, and choosing their clocks is the problem
of any other plan: a trellis over them (`stages.plan`), switches and all, with the device's idle power for the rest of
the period, which is where it waits for link and server. On top comes the radio's energy, which no clock changes.

Cuts are tried in the order of energies that no clocks undercut (`floors`), and the search ends at the first that cannot
beat the best one found: of hundreds of cuts a few are searched. One trellis serves every rate and precision of a cut,
as these change only what time is left: it is posed with the most time there can be (an infinitely fast link), and a
path that takes no longer than what is left at another rate is the best there too, and is not searched again.

The bound of the whole is the least bound of any cut, the solver's own where it closed no gap. Ties go to the fewest
operators on the device. At the asked percentile the quantiles of device, link and server are added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from amble.core.errors import Infeasible, Refused
from amble.core.graph import Graph
from amble.core.point import Clocks
from amble.core.ports import CostModel, CostTable, FloatArray, Retabled
from amble.core.quantity import format_excess, format_time
from amble.core.schedule import Deadline, Step
from amble.levers.split.cuts import Cut, sent_bytes
from amble.levers.split.floors import Floors
from amble.levers.split.link import Link
from amble.stages.plan.problem import Problem, Task, pose, to_schedule
from amble.stages.plan.search import solve
from amble.stages.plan.trellis import Solution

__all__ = ["Admissible", "Choice", "Question", "Regime", "Server", "best", "every", "exchange", "regimes", "steps"]

Admissible = Callable[[Cut, str], bool]

_ROUNDING = 1e-12
_SLOWEST_BIT_S, _FASTEST_BIT_S, _PER_DECADE = 1e4, 1e9, 4
_WITHIN = 1.01  # factor to which the rates are found at which the answer changes


@dataclass(frozen=True, slots=True)
class Server:
    """Time [s] of each operator on the server, and the ratio of its latency at the asked percentile to these."""

    name: str
    latency_s: tuple[float, ...]
    margin: float = 1.0


@dataclass(frozen=True, slots=True)
class Choice:
    """One cut, sent in one precision: what it takes and costs. ``fits`` the deadline or not.

    latency_s: until the answer is in, at the asked percentile; energy_j: of the device in one period, radio included;
    ``bound_j``: no clocks do better. Both are None where the device's half cannot be ready in time at any clocks.
    """

    index: int
    precision: str
    num_bytes: int
    latency_s: float
    link_s: float
    server_s: float
    radio_j: float
    energy_j: float | None
    bound_j: float | None
    fits: bool


@dataclass(frozen=True, slots=True)
class Regime:
    """Between these rates [bit/s] the answer is the same cut (its index), sent as ``precision``; None: no cut fits.

    ``tried`` are rates in between, and what the device takes there [J].
    """

    slowest_bit_s: float
    fastest_bit_s: float
    index: int | None
    precision: str = ""
    tried: tuple[tuple[float, float], ...] = ()


@dataclass(eq=False)
class Question:
    """A network on a device, its cuts, a server and a deadline; a request every ``period_s`` [s].

    ``precisions`` are what may cross; ``exact`` closes every gap to the lower bound. Trellises and their best paths are
    kept for further rates.
    """

    graph: Graph
    costs: CostModel
    cuts: Sequence[Cut]
    server: Server
    deadline: Deadline
    period_s: float
    precisions: tuple[str, ...] = ("fp32",)
    exact: bool = False
    _problems: dict[int, Problem] = field(default_factory=dict)
    _solved: dict[int, list[tuple[float, Solution]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a device whose energy is unknown, running or waiting."""
        if np.isnan(self.table.energy_j).any() or np.isnan(self.idle_w).any():
            what = "waits" if not np.isnan(self.table.energy_j).any() else "runs"
            raise Refused(
                f"what {self.costs.where.device} takes while it {what} is unknown, so no cut can be said to save "
                f"energy; measure on a device with a meter"
            )
        if self.deadline.latency_s > self.period_s * (1 + _ROUNDING):
            raise ValueError("a period shorter than the deadline would have two requests under way; make it longer")

    @cached_property
    def table(self) -> CostTable:
        """Return what each operator costs the device."""
        return self.costs.table(self.graph)

    @cached_property
    def idle_w(self) -> FloatArray:
        """Return the device's idle power [W] at each point, NaN where unknown."""
        idle = [self.costs.idle_w(point.clocks) for point in self.table.points]
        return np.array([np.nan if each is None else each for each in idle])

    @cached_property
    def margin(self) -> float:
        """Return the ratio of the device's latency at the asked percentile to the predicted one."""
        return self.costs.margin(self.deadline.percentile)

    @cached_property
    def server_s(self) -> tuple[float, ...]:
        """Return what the server takes for its half of each cut [s], at the asked percentile."""
        each_s = np.array(self.server.latency_s)
        return tuple(
            0.0
            if len(cut.local) == len(each_s)
            else float(np.delete(each_s, list(cut.local)).sum()) * self.server.margin
            for cut in self.cuts
        )

    def left_s(self, index: int, link_s: float) -> float:
        """Return the predicted latency [s] that a cut leaves the device's half."""
        return (self.deadline.latency_s - self.server_s[index] - link_s) / self.margin

    @property
    def searched(self) -> tuple[int, ...]:
        """Return the cuts whose clocks were searched so far."""
        return tuple(self._solved)

    @property
    def gap_j(self) -> float:
        """Return by how much any path of clocks found so far may be off the best one, at most [J]."""
        every = (of for kept in self._solved.values() for _, of in kept if of.feasible)
        return max((of.energy_j - of.lower_bound_j for of in every), default=0.0)

    @cached_property
    def floors(self) -> Floors:
        """Return what each cut takes at least."""
        table, idle_w = self.table, float(self.idle_w.min())
        switches = self.costs.switches
        return Floors.of(self.cuts, table.latency_s, table.energy_j, switches, idle_w=idle_w, period_s=self.period_s)

    def whole(self, index: int) -> bool:
        """Tell whether a cut leaves nothing to the server."""
        return len(self.cuts[index].local) == len(self.server.latency_s)

    def solved(self, index: int, link_s: float, link: Link) -> Solution | None:
        """Return the best clocks of a cut when the link takes so long; None where none are quick enough."""
        left_s = self.left_s(index, link_s)
        problem = self.posed(index, link)
        if problem is None or left_s <= 0:
            return None
        kept = self._solved.setdefault(index, [])
        for budget_s, solution in kept:  # less time, and the path fits: what was best stays best
            takes_s = solution.latency_s - problem.ahead_s
            if budget_s >= left_s and (not solution.feasible or takes_s <= left_s * (1 + _ROUNDING)):
                return solution if solution.feasible else None
        found = solve(problem.trellis, left_s + problem.ahead_s, wait=problem.wait, exact=self.exact)
        kept.append((left_s, found))
        return found if found.feasible else None

    def posed(self, index: int, link: Link) -> Problem | None:
        """Return the trellis of a cut, over the most time that it can have; None where it has none."""
        if index not in self._problems:
            rows = self.cuts[index].local
            most_s = self.deadline.latency_s - self.server_s[index] - (0 if self.whole(index) else link.round_trip_s)
            if most_s <= 0:
                return None
            part = replace(self.graph, operators=tuple(self.graph.operators[row] for row in rows), offset=0, whole=0)
            deadline = Deadline(most_s, self.deadline.percentile)
            costs = Retabled(self.costs, lambda graph: _part(self.table, rows))
            self._problems[index] = pose(Task(part, costs, deadline, self.period_s))
        return self._problems[index]


def exchange(question: Question, link: Link, index: int, precision: str) -> Choice:
    """Return what goes over the link for one cut, its time and the radio's energy; the device's half is left open."""
    cut, server_s, link = question.cuts[index], question.server_s[index], link.at(question.deadline.percentile)
    sent = sent_bytes(cut.crossing, precision)
    if question.whole(index):
        return Choice(index, precision, sent, np.inf, 0.0, server_s, 0.0, None, None, fits=False)
    received = sent_bytes(cut.answers, "fp32")
    link_s = link.exchange_s(sent, received)
    radio_j = link.radio.energy_j(link_s + server_s, 8.0 * sent, 8.0 * received)
    return Choice(index, precision, sent, np.inf, link_s, server_s, radio_j, None, None, fits=False)


def _part(whole: CostTable, rows: tuple[int, ...]) -> CostTable:
    """Return the costs of some operators of a network, as those of a network of their own."""
    return replace(whole, latency_s=whole.latency_s[list(rows)], energy_j=whole.energy_j[list(rows)])


def choice(question: Question, link: Link, index: int, precision: str) -> Choice:
    """Return what one cut takes and costs over a link."""
    made = exchange(question, link, index, precision)
    cut, link_s, server_s, radio_j = question.cuts[index], made.link_s, made.server_s, made.radio_j
    if not cut.local:
        latency_s = link_s + server_s
        energy_j = float(question.idle_w.min()) * question.period_s + radio_j
        fits = latency_s <= question.deadline.latency_s * (1 + _ROUNDING)
        return replace(made, latency_s=latency_s, energy_j=energy_j, bound_j=energy_j, fits=fits)
    solution = question.solved(index, link_s, link)
    if solution is None:
        fastest_s = float(question.table.latency_s[list(cut.local)].sum(axis=0).min())
        return replace(made, latency_s=fastest_s * question.margin + link_s + server_s)
    problem = question.posed(index, link)
    assert problem is not None
    device_s = (solution.latency_s - problem.ahead_s) * question.margin
    energy_j, bound_j = solution.energy_j + radio_j, solution.lower_bound_j + radio_j
    latency_s = device_s + link_s + server_s
    return replace(made, latency_s=latency_s, energy_j=energy_j, bound_j=bound_j, fits=True)


def every(question: Question, link: Link, precision: str = "fp32") -> tuple[Choice, ...]:
    """Return what every cut takes and costs over a link, sent in one precision."""
    return tuple(choice(question, link, index, precision) for index in range(len(question.cuts)))


def best(question: Question, link: Link, admissible: Admissible = lambda cut, precision: True) -> Choice:
    """Return the choice that takes the least energy in time, and the bound of all; Infeasible where none is in time.

    ``admissible`` says whether a cut may be sent in a precision below FP32; it is asked only where that would win.
    """
    found = _best(question, link, admissible)
    if found is None:
        raise _too_slow(question, link)
    return found


def _best(question: Question, link: Link, admissible: Admissible) -> Choice | None:
    found, bound_j = None, np.inf
    for low_j, index, precision in sorted(_floors(question, link), key=lambda each: each[0]):
        if found is not None and low_j > (found.energy_j or 0.0) * (1 + _ROUNDING):
            bound_j = min(bound_j, low_j)
            break
        tried = choice(question, link, index, precision)
        if not tried.fits or (precision != "fp32" and not admissible(question.cuts[index], precision)):
            continue
        assert tried.energy_j is not None
        assert tried.bound_j is not None
        bound_j = min(bound_j, tried.bound_j)
        if found is None or _order(question, tried) < _order(question, found):
            found = tried
    return None if found is None else replace(found, bound_j=min(bound_j, found.energy_j or np.inf))


def _order(question: Question, of: Choice) -> tuple[float, int, int]:
    """Return what is least for the better choice: energy, then operators here, then how far from FP32."""
    assert of.energy_j is not None
    return (of.energy_j, len(question.cuts[of.index].local), question.precisions.index(of.precision))


def _floors(question: Question, link: Link) -> Iterator[tuple[float, int, str]]:
    """Yield an energy [J] that no clocks undercut for each cut and precision that could be in time."""
    for index in range(len(question.cuts)):
        for precision in question.precisions[:1] if question.whole(index) else question.precisions:
            made = exchange(question, link, index, precision)
            device_j = question.floors.energy_j(index, question.left_s(index, made.link_s))
            if device_j < np.inf:
                yield device_j + made.radio_j, index, precision


def _too_slow(question: Question, link: Link) -> Infeasible:
    """Return the error for a deadline that no cut keeps."""
    tried = [choice(question, link, index, question.precisions[0]) for index in range(len(question.cuts))]
    least_s = min(each.latency_s for each in tried)
    return Infeasible(
        f"no cut of {question.graph.name} between {question.costs.where.device} and {question.server.name} over "
        f"{link} keeps {question.deadline}: the fastest takes {format_time(least_s)}, "
        f"{format_excess(least_s / question.deadline.latency_s)}; allow that much, or use a faster link or server",
        fastest_s=least_s,
    )


def regimes(
    question: Question,
    link: Link,
    admissible: Admissible = lambda cut, precision: True,
    on_rate: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Regime, ...]:
    """Return which answer is best at which rates, from the slowest link to the fastest.

    Four rates in each decade are tried, and changes between two of them are found to one percent; what changes twice
    between two rates and changes back is not seen.
    """
    decades = np.log10(_FASTEST_BIT_S / _SLOWEST_BIT_S)
    rates = np.geomspace(_SLOWEST_BIT_S, _FASTEST_BIT_S, round(decades * _PER_DECADE) + 1).tolist()

    took_j: dict[float, float] = {}

    def answer(rate_bit_s: float) -> tuple[int | None, str]:
        found = _best(question, replace(link, rate_bit_s=rate_bit_s), admissible)
        if found is None:
            return None, ""
        assert found.energy_j is not None
        took_j[rate_bit_s] = found.energy_j
        return found.index, found.precision

    answers = []
    for done, rate in enumerate(rates):
        answers.append(answer(rate))
        on_rate(done + 1, len(rates))
    edges: list[tuple[float, tuple[int | None, str]]] = [(rates[0], answers[0])]
    for low, high, before, after in zip(rates, rates[1:], answers, answers[1:], strict=False):
        edges += _changes(answer, (low, before), (high, after))
    ends = [rate for rate, _ in edges[1:]] + [rates[-1]]
    last = len(edges) - 1
    return tuple(
        Regime(
            rate,
            end,
            *found,
            tuple(each for each in sorted(took_j.items()) if rate <= each[0] and (at == last or each[0] < end)),
        )
        for at, ((rate, found), end) in enumerate(zip(edges, ends, strict=True))
    )


Found = tuple[int | None, str]


def _changes(
    answer: Callable[[float], Found], low: tuple[float, Found], high: tuple[float, Found]
) -> list[tuple[float, Found]]:
    """Return the rates between two at which the answer becomes another, and what it becomes."""
    if low[1] == high[1]:
        return []
    if high[0] <= low[0] * _WITHIN:
        return [high]
    rate = float(np.sqrt(low[0] * high[0]))
    middle = (rate, answer(rate))
    return _changes(answer, low, middle) + _changes(answer, middle, high)


def steps(question: Question, link: Link, chosen: Choice) -> tuple[tuple[Step, ...], Clocks]:
    """Return the clocks of the device's half, operator by operator, and those at which it waits."""
    if not question.cuts[chosen.index].local:
        return (), question.table.points[int(question.idle_w.argmin())].clocks
    solution, problem = question.solved(chosen.index, chosen.link_s, link), question.posed(chosen.index, link)
    assert solution is not None
    assert problem is not None
    schedule = to_schedule(problem, solution, "split")
    return schedule.steps, schedule.wait
