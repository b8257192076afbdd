"""Costs, deadline → schedule; schedule, device, load → a verdict with its evidence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from amble import inputs as opening
from amble.core import files
from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.names import nearest
from amble.core.ports import CostModel, Device
from amble.core.schedule import Deadline, Schedule, Step
from amble.jobs import remote
from amble.jobs.artefacts import SCHEDULE
from amble.jobs.costing import OnProgress, again
from amble.jobs.todays import with_power_mode
from amble.levers.memory import joint
from amble.levers.memory.partitions import FORMAT as DRAM
from amble.levers.memory.partitions import DramPlan
from amble.runtimes.onnx.refusals import door
from amble.stages.check import logs
from amble.stages.check.arrivals import parse_load
from amble.stages.check.evidence import Evidence, Pair
from amble.stages.check.report import assess
from amble.stages.control import loop
from amble.stages.fit.costs import Costs
from amble.stages.measure import platform
from amble.stages.measure.accuracy import Examples
from amble.stages.plan import clocks, promise
from amble.stages.plan.planners import PLANNERS

__all__ = ["Check", "Plan", "check", "checked", "plan", "planned"]

_SEED = 1  # of the noise of a check: not the one of measuring
_ONCE_MORE = 10  # runs of each operator after a check


@dataclass(frozen=True, slots=True)
class Plan:
    """What a plan is to keep, and how it is to be found: a deadline, a request every ``period_s``, a planner.

    ``period_s`` is the deadline unless given. ``exact`` closes the gap to the lower bound. ``dram`` is a mapping of the
    same network to approximate memory (`amble.dram`), or its file.
    """

    deadline: Deadline
    period_s: float | None = None
    planner: str = "trellis"
    exact: bool = False
    dram: DramPlan | Path | str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A schedule and a device, or a server and a deadline; the load, and the data to answer.

    ``arrivals`` is a load such as ``poisson:20/s:60s``, unless given 1000 requests one period apart; ``data`` are
    labelled inputs (an ``.npz`` file, or ``bundled``). ``traced`` requests are told in detail.
    """

    schedule: Schedule | Path | str
    device: str | None = None
    deadline: Deadline | str | None = None
    arrivals: str | None = None
    data: Examples | str | None = None
    traced: int = 20

    @property
    def about(self) -> str:
        """Return how the user knows the schedule."""
        return self.schedule.subject.network if isinstance(self.schedule, Schedule) else str(self.schedule)


def plan(
    graph: Graph,
    costs: CostModel,
    *,
    deadline: Deadline | str,
    period_s: float | None = None,
    planner: str = "trellis",
    exact: bool = False,
    dram: DramPlan | Path | str | None = None,
) -> Schedule:
    """Choose a point for every operator: least energy within the deadline, for a request every ``period_s``.

    The arguments are those of `Plan`. With a mapping to approximate memory the memory's energy, which is predicted,
    counts, and every step says where its tensors live. Infeasible, with the fastest plan, whenever the deadline or the
    period is missed, whatever the planner.
    """
    wanted = Deadline.parse(deadline) if isinstance(deadline, str) else deadline
    return planned(graph, costs, Plan(wanted, period_s, planner, exact, dram))


@door
def planned(graph: Graph, costs: CostModel, wanted: Plan) -> Schedule:
    """Do what `plan` does, as one request asks for it."""
    if wanted.dram is not None:
        mapping = files.load(wanted.dram, DRAM) if isinstance(wanted.dram, Path | str) else wanted.dram
        alone = replace(wanted, dram=None)
        return joint.with_memory(graph, costs, mapping, lambda others: planned(graph, others, alone))
    if wanted.planner not in PLANNERS:
        near = nearest(wanted.planner, PLANNERS)
        raise ValueError(f"unknown planner {wanted.planner!r}, did you mean {near!r}? choose {', '.join(PLANNERS)}")
    deadline, period_s = wanted.deadline, wanted.period_s
    if wanted.planner == "trellis":
        schedule = clocks.per_operator(graph, costs, deadline, period_s=period_s, exact=wanted.exact)
        schedule = replace(schedule, frontier=clocks.frontier(graph, costs, deadline, period_s=period_s))
    else:
        schedule = PLANNERS[wanted.planner](graph, costs, deadline, period_s=period_s)
    said = costs.notes if isinstance(costs, Costs) else ()
    told = with_power_mode(replace(schedule, notes=(*schedule.notes, *said)), graph, costs)
    return promise.kept(told, graph, costs)


def check(
    schedule: Schedule | Path | str,
    device: str | None = None,
    *,
    deadline: Deadline | str | None = None,
    arrivals: str | None = None,
    data: Examples | str | None = None,
    traced: int = 20,
    on_progress: OnProgress = lambda done, total: None,
) -> Evidence:
    """Run a schedule and its baselines under the same load, each on a freshly opened device, and judge them.

    The arguments are those of `Check`. A URL in the schedule's place is a server that is sent the load and held to a
    ``deadline``, which a schedule brings itself (`remote.check_server`); a log that was kept is judged as it is
    (`logs.check_log`).
    """
    return checked(Check(schedule, device, deadline, arrivals, data, traced), on_progress)


@door
def checked(asked: Check, on_progress: OnProgress = lambda done, total: None) -> Evidence:
    """Do what `check` does, as one request asks for it."""
    schedule, device = asked.schedule, asked.device
    if isinstance(schedule, str) and remote.is_url(schedule):
        return remote.check_server(
            schedule, deadline=asked.deadline, arrivals=asked.arrivals, data=asked.data, on_progress=on_progress
        )
    if device is None and logs.is_log(schedule):
        return logs.check_log(schedule, deadline=asked.deadline)  # type: ignore[arg-type]
    if device is None or asked.deadline is not None:
        raise ValueError("a schedule is checked on a device, against the deadline that it was made for")
    wanted = files.load(schedule, SCHEDULE) if isinstance(schedule, Path | str) else schedule
    graph = again(wanted)
    name = wanted.subject.source or wanted.subject.network
    if graph.digest != wanted.subject.digest:
        raise Refused(f"{name} is no longer the network that was planned for; plan it anew")
    if (planned := len(wanted.steps)) != (there := len(graph.operators)):
        raise Refused(f"the schedule plans {planned} operators, and {name} has {there}; plan it anew")
    requests = _requests(wanted, graph, asked.arrivals, asked.data)
    policies = [
        *((each, plan, device) for each, plan in _policies(wanted)),
        *((each, None, uri) for each, uri in opening.governed(device)),
    ]
    kept = []
    for index, (policy, each, uri) in enumerate(policies):
        on_progress(index, len(policies))
        opened = opening.open(uri, seed=_SEED, workload=name)
        kept.append(loop.serve(opened, graph, requests, schedule=each, policy=policy, traced=asked.traced))
    report = assess(kept, wanted, idle_w=wanted.idle_power_w)
    kinds = tuple(operator.kind for operator in graph.operators)
    pairs = _pairs(wanted, graph, opening.open(device, seed=_SEED, workload=name))
    return Evidence(report, wanted, tuple(kept), pairs, kinds)


def _pairs(schedule: Schedule, graph: Graph, device: Device) -> tuple[Pair, ...]:
    """Measure every operator once more where the schedule runs it, beside what was predicted."""
    found = []
    asked = [replace(step.point, dram=None) for step in schedule.steps]
    for point in dict.fromkeys(asked):
        with device.held(point.clocks):
            platform.settle(device, point.clocks)
            timings = device.runner.profile(graph, point, _ONCE_MORE)
        for at, operator, step, timing in zip(asked, graph.operators, schedule.steps, timings.operators, strict=True):
            if at == point and timing.latency_s > 0:
                found.append(Pair(operator.name, operator.kind, step.predicted.latency_s, timing.latency_s))
    return tuple(found)


def _requests(schedule: Schedule, graph: Graph, arrivals: str | None, data: Examples | str | None) -> loop.Requests:
    wanted = parse_load(arrivals or f"periodic:{1e3 * schedule.period_s:.9g}ms:1000")
    asked = loop.Requests(wanted.times_s(0), schedule.deadline.latency_s, schedule.period_s, wanted.spec)
    if data is None:
        return asked
    examples = opening.labelled(data, graph) if isinstance(data, str) else data
    return replace(asked, inputs=examples.request, judge=examples.judge)


def _policies(schedule: Schedule) -> list[tuple[str, Schedule | None]]:
    """Return the checked schedule, then one at a single point for each baseline that has one."""
    found: list[tuple[str, Schedule | None]] = [("amble", schedule)]
    for baseline in schedule.baselines:
        if baseline.point is not None:
            steps = tuple(Step(step.operator, baseline.point) for step in schedule.steps)
            alone = replace(schedule, steps=steps, wait=baseline.point.clocks, predicted=baseline.predicted, rest=None)
            found.append((baseline.name, alone))
    return found
