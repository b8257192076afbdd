"""Trellises to test the solver with, and the optimum by trying every path."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import strategies as st

from amble.stages.plan.search import DenseSwitch, DomainSwitch, Trellis, Wait, totals

ROUNDING = 1e-12


def best_by_trying(trellis: Trellis, budget_s: float, wait: Wait | None = None, max_loss: float = math.inf) -> float:
    """Energy of the optimum, infinite where no path keeps the budgets."""
    parked_s = trellis.into(trellis.num_operators)[0]
    waits = [None] if wait is None else [int(node) for node in np.flatnonzero(np.isfinite(wait.idle_w))]
    best_j = math.inf
    for path in itertools.product(range(trellis.num_nodes), repeat=trellis.num_operators):
        for node in waits:
            cost = totals(trellis, path, wait, node)
            fits = cost.latency_s <= budget_s * (1 + ROUNDING) and cost.loss <= max_loss * (1 + ROUNDING)
            if wait is not None and node is not None:
                fits &= cost.latency_s + parked_s[path[-1], node] <= wait.period_s * (1 + ROUNDING)
            if fits:
                best_j = min(best_j, cost.energy_j)
    return best_j


def clock_pairs(
    seed: int, operators: int, cores: int, memories: int, *, switching: float = 1.0
) -> tuple[Trellis, np.ndarray]:
    """Operators as a GPU has them over pairs of clocks, and idle power [node]: overlap, launches, a voltage knee."""
    rng = np.random.default_rng(seed)
    pairs = np.meshgrid(np.linspace(0.3, 1.4, cores), np.linspace(0.4, 1.9, memories), indexing="ij")
    core, memory = (grid.ravel() for grid in pairs)
    work_s, intensity = rng.lognormal(-9.2, 1.0, operators), rng.lognormal(0.0, 1.2, operators)
    compute_s = (work_s * intensity / (1 + intensity))[:, None] / core
    memory_s = (work_s / (1 + intensity))[:, None] / memory
    launch_s = rng.uniform(5e-6, 3e-5, operators)[:, None] * (0.5 + 0.5 / core)
    latency_s = (compute_s**3 + memory_s**3) ** (1 / 3) + launch_s
    voltage = np.maximum(0.7, 0.45 + 0.36 * core)
    busy_w = 9 * compute_s / latency_s * voltage**2 * core + 2.5 * memory_s / latency_s * memory
    idle_w = 0.8 + 0.5 * voltage + 0.4 * memory
    levels = np.stack(np.unravel_index(np.arange(cores * memories), (cores, memories)), axis=1)
    times = switching * np.array([60e-6, 200e-6])
    switch = DomainSwitch(levels, times, times * [4.0, 5.0])
    return Trellis(latency_s, (busy_w + idle_w + 0.6) * latency_s, switch), idle_w


@st.composite
def small_trellises(draw: st.DrawFn) -> Trellis:
    """Few operators and nodes, with ties, forbidden nodes, and every kind of switching from free to prohibitive."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 4)))
    costs = [rng.uniform(0.1, 1.0, shape) for _ in range(3)]
    if draw(st.booleans()):  # ties
        costs = [np.round(cost, 1) for cost in costs]
    if draw(st.booleans()):
        costs[0][:, 1:][rng.random((shape[0], shape[1] - 1)) < 0.2] = np.inf
    start = draw(st.none() | st.integers(0, shape[1] - 1))
    return Trellis(costs[0], costs[1], draw(_switches(rng, shape)), loss=costs[2], start=start)


@st.composite
def _switches(draw: st.DrawFn, rng: np.random.Generator, shape: tuple[int, int]) -> DomainSwitch | DenseSwitch | None:
    kind, dearest = (
        draw(st.sampled_from(["none", "domain", "dense", "each"])),
        draw(st.sampled_from([0, 0.05, 0.5, 30])),
    )
    if kind == "none":
        return None
    if kind == "domain":
        domains = draw(st.integers(1, 3))
        free = draw(st.booleans())  # energy that does not even cover idle power
        costs = rng.uniform(0, dearest, (2, domains)) * [[1], [0 if free else 1]]
        return DomainSwitch(rng.integers(0, 3, (shape[1], domains)), *costs, rng.random(domains) < 0.7)  # type: ignore[call-arg]
    nodes = (shape[1], shape[1])
    tables = rng.uniform(0, dearest, (2, *nodes) if kind == "dense" else (2, shape[0] + 1, *nodes))
    if draw(st.booleans()):
        tables[:, rng.random(tables.shape[1:]) < 0.2] = np.inf
    return DenseSwitch(*tables)
