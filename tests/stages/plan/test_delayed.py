"""Changes that take effect late are priced by what then runs: edges of a trellis against a replay, step by step."""

from itertools import product

import numpy as np
import pytest

from amble.core.cost import Cost
from amble.core.point import Clocks, OperatingPoint
from amble.core.profile import SwitchCost
from amble.stages.plan.delayed import Rest, delays, levels, switching
from amble.stages.plan.trellis import DomainSwitch, Trellis, Wait, totals

POINTS = tuple(OperatingPoint(Clocks(core, memory)) for core, memory in product((1e9, 2e9), (4e8, 8e8)))
IDLE_W = np.array([1.0, 1.5, 1.2, 2.0])


def costs(num_operators: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    compute, traffic = random.uniform(0.5, 2.0, (2, num_operators, 1))
    latency_s = 1e-3 * (compute * [2, 2, 1, 1] + traffic * [2, 1, 2, 1])
    return latency_s, latency_s * [2.0, 2.5, 4.0, 5.0]


def switches(core_s: float, memory_s: float, stall_s: float = 0.0) -> tuple[SwitchCost, ...]:
    return (SwitchCost("core", Cost(stall_s, 1e-5), core_s), SwitchCost("memory", Cost(stall_s, 1e-5), memory_s))


def replayed(latency_s: np.ndarray, path: list[int], start: int, changes: list[tuple[int, float, float]]) -> float:
    """Run operators in tiny steps; changes: [(first operator, core settles after, memory settles after)]."""
    now_s, held, pending = 0.0, list(levels(POINTS)[start]), []
    for operator, node in enumerate(path):
        for first, core_s, memory_s in changes:
            if first == operator:
                pending += [
                    (now_s + core_s, 0, levels(POINTS)[node][0]),
                    (now_s + memory_s, 1, levels(POINTS)[node][1]),
                ]
        left = 1.0
        while left > 1e-12:
            for due_s, domain, level in pending:
                if due_s <= now_s + 1e-12:
                    held[domain] = level
            pending = [each for each in pending if each[0] > now_s + 1e-12]
            point = next(i for i, each in enumerate(levels(POINTS)[:, :2]) if each.tolist() == held[:2])
            whole_s = left * latency_s[operator, point]
            step_s = min([whole_s, *(each[0] - now_s for each in pending)])
            now_s += step_s
            left -= step_s / latency_s[operator, point]
    return now_s


@pytest.mark.parametrize("seed", range(4))
def test_a_path_takes_as_long_as_running_it_with_late_clocks(seed: int) -> None:
    latency_s, energy_j = costs(40, seed)
    changes = delays(POINTS, switches(0.004, 0.007))
    starts = np.array([0, 13, 25])
    edges, each_s = switching(latency_s, energy_j, starts, changes, Rest(IDLE_W, 1.0))
    ahead_s = float(each_s.sum())
    by_block = [np.add.reduceat(each, starts, axis=0) for each in (latency_s, energy_j)]
    nodes, wait_node = [3, 0, 2], 1
    found = totals(Trellis(by_block[0], by_block[1], edges), nodes, Wait(IDLE_W, 1.0 + ahead_s), wait_node)
    path = np.repeat(nodes, [13, 12, 15]).tolist()
    expected_s = replayed(latency_s, path, wait_node, [(start, 0.004, 0.007) for start in (0, 13, 25)])
    assert found.latency_s - ahead_s == pytest.approx(expected_s, rel=1e-9)


def test_where_nothing_settles_changes_cost_their_stalls() -> None:
    latency_s, energy_j = costs(5, 0)
    edges, ahead_s = switching(latency_s, energy_j, np.arange(5), delays(POINTS, switches(0, 0, 1e-4)), Rest(None, 1.0))
    assert isinstance(edges, DomainSwitch)
    assert ahead_s.tolist() == [0.0] * 5
    assert edges.into(2, 5)[0][0].tolist() == pytest.approx([0.0, 1e-4, 1e-4, 2e-4])


def test_who_stays_pays_nothing_but_what_every_path_pays() -> None:
    latency_s, energy_j = costs(40, 1)
    edges, ahead_s = switching(
        latency_s, energy_j, np.array([0, 20]), delays(POINTS, switches(0.004, 0.007)), Rest(IDLE_W, 1.0)
    )
    stays = [edges.into(step, 2)[0].diagonal() for step in range(2)]
    assert [each[0] for each in stays] == pytest.approx(ahead_s)
    assert all(each == pytest.approx(each[0]) for each in stays)


@pytest.mark.parametrize(("slack_s", "parked"), [(0.002, []), (0.005, ["core"]), (0.01, ["core", "memory"])])
def test_clocks_that_cannot_settle_before_the_next_request_are_not_waited_at(slack_s: float, parked: list[str]) -> None:
    latency_s, energy_j = costs(10, 1)
    edges, _ = switching(
        latency_s, energy_j, np.array([0]), delays(POINTS, switches(0.004, 0.007)), Rest(IDLE_W, slack_s)
    )
    park_s = edges.into(1, 1)[0]
    assert np.isfinite(park_s[0, 2]) == ("core" in parked)
    assert np.isfinite(park_s[0, 1]) == ("memory" in parked)
    assert np.isfinite(park_s[0, 0])
