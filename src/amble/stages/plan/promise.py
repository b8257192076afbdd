"""Schedule, costs → the schedule, if it keeps what it was made for; else the error that says by how much it does not.

Some planners answer whatever they are asked: one holds the highest clocks, another does not foresee switching. What
they plan may come too late all the same, and is no plan then.
"""

from __future__ import annotations

from amble.core.errors import Infeasible
from amble.core.graph import Graph
from amble.core.ports import CostModel
from amble.core.quantity import format_excess, format_time
from amble.core.schedule import Schedule
from amble.stages.plan.problem import Task, fastest_alone, pose, too_slow

__all__ = ["kept"]

_ROUNDING = 1e-9  # relative, forgiven


def kept(plan: Schedule, graph: Graph, costs: CostModel) -> Schedule:
    """Return a plan that keeps its deadline and its period; Infeasible, with the fastest plan, for any other."""
    latency_s = plan.predicted.latency_s
    if latency_s <= min(plan.budget_s, plan.period_s) * (1 + _ROUNDING):
        return plan
    problem = pose(Task(graph, costs, plan.deadline, plan.period_s), switches=())
    fastest = fastest_alone(problem)
    if fastest.predicted.latency_s > min(plan.budget_s, plan.period_s):
        raise too_slow(problem)
    late = latency_s > plan.budget_s
    takes_s, allowed_s = (latency_s * plan.margin, plan.deadline.latency_s) if late else (latency_s, plan.period_s)
    at = f" at p{plan.deadline.percentile * 100:g}" if late else ""
    missed = str(plan.deadline) if late else f"a request every {format_time(plan.period_s)}"
    raise Infeasible(
        f"the plan of --planner {plan.planner} for {plan.subject.network} on {plan.where.device} misses {missed}: it "
        f"takes {format_time(takes_s)}{at}, {format_excess(takes_s / allowed_s)}; --planner trellis keeps it",
        fastest_s=fastest.predicted.latency_s * plan.margin,
        fastest=fastest,
    )
