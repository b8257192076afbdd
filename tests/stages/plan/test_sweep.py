"""Passes over the grid against the plain recursion over tables."""

from __future__ import annotations

import numpy as np
import pytest

from amble.stages.plan.sweep import FORBIDDEN, Lattice, Prices
from amble.stages.plan.trellis import DenseSwitch, DomainSwitch, Trellis


def some_trellis(seed: int, *, nodes: int, domains: int, columns: int) -> Trellis:
    """Nodes on a grid with holes and with twins: more than one node may have the same levels."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 3, (nodes, domains))
    switch = DomainSwitch(levels, rng.uniform(0, 0.5, domains), rng.uniform(0, 0.5, domains))
    latency_s = rng.uniform(0.1, 1, (columns, nodes))
    latency_s[:, 1:][rng.random((columns, nodes - 1)) < 0.2] = np.inf
    return Trellis(latency_s, rng.uniform(0.1, 1, (columns, nodes)), switch)


def some_prices(lattice: Lattice, times: list[float]) -> Prices:
    lanes = len(times)
    free = np.zeros((lattice.num_cells, lanes))
    return Prices(np.ones(lanes), np.array(times), np.zeros(lanes), free, free)


def least(trellis: Trellis, price: float) -> float:
    """Priced cost of the cheapest path, by the textbook."""
    node = np.where(trellis.allowed, trellis.energy_j + price * np.where(trellis.allowed, trellis.latency_s, 0), np.inf)
    value = node[0]
    for column in range(1, trellis.num_operators):
        step_s, step_j = trellis.into(column)
        value = (value[:, None] + step_j + price * step_s).min(axis=0) + node[column]
    return float(value.min())


@pytest.mark.parametrize("columns", [1, 2, 3, 6, 7, 70])
@pytest.mark.parametrize(("nodes", "domains"), [(1, 1), (7, 1), (8, 2), (20, 3)])
def test_paths_are_the_cheapest_at_every_price(columns: int, nodes: int, domains: int) -> None:
    trellis = some_trellis(columns + nodes, nodes=nodes, domains=domains, columns=columns)
    lattice = Lattice(trellis)
    prices = some_prices(lattice, [0.0, 0.7, 3.0])
    value, cells = lattice.paths(prices)
    time_s, energy_j, _ = lattice.sums(cells)
    expected = [least(trellis, price) for price in (0.0, 0.7, 3.0)]
    assert value == pytest.approx(expected)
    assert energy_j + prices.time * time_s == pytest.approx(expected)


@pytest.mark.parametrize("steps", ["shared", "each"])
@pytest.mark.parametrize("columns", [2, 5, 8])
def test_tables_of_any_kind_give_the_cheapest_path(steps: str, columns: int) -> None:
    rng = np.random.default_rng(columns)
    shape = (4, 4) if steps == "shared" else (columns + 1, 4, 4)
    switch = DenseSwitch(rng.uniform(0, 1, shape), rng.uniform(0, 1, shape))
    trellis = Trellis(rng.uniform(0, 1, (columns, 4)), rng.uniform(0, 1, (columns, 4)), switch)
    lattice = Lattice(trellis)
    value, _ = lattice.paths(some_prices(lattice, [0.0, 2.0]))
    assert value == pytest.approx([least(trellis, price) for price in (0.0, 2.0)])


def test_where_a_change_earns_something_staying_does_not() -> None:
    switch = DomainSwitch(np.array([[0], [1]]), np.array([1.0]), np.array([0.0]))
    trellis = Trellis(np.ones((3, 2)), np.ones((3, 2)), switch)
    lattice = Lattice(trellis)
    value, cells = lattice.paths(some_prices(lattice, [-0.5]))
    assert value == pytest.approx([3 - 1.5 - 2 * 0.5])
    assert (np.diff(lattice.node_of_cell[cells[0]]) != 0).all()


def test_prefix_and_suffix_meet_in_the_cheapest_path_through_a_cell() -> None:
    trellis = some_trellis(5, nodes=6, domains=2, columns=9)
    lattice = Lattice(trellis)
    prices = some_prices(lattice, [1.0])
    table = lattice.sweep(prices, 9)
    through = table[:, :, 0] + table[::-1, :, 1] - lattice.weigh(prices, slice(None))[:, :, 0]
    assert through.min(axis=1) == pytest.approx([least(trellis, 1.0)] * 9)
    assert (through[lattice.forbidden > 0] >= FORBIDDEN / 2).all()


def test_continuations_add_up_to_their_value() -> None:
    trellis = some_trellis(8, nodes=6, domains=2, columns=5)
    lattice = Lattice(trellis)
    prices = some_prices(lattice, [0.5, 4.0])
    zero = np.zeros(lattice.num_cells)
    suffix = lattice.suffixes(prices, (zero, zero))
    assert suffix.energy_j + prices.time * suffix.time_s == pytest.approx(suffix.value)
    assert suffix.value[0].min(axis=0) == pytest.approx([least(trellis, price) for price in (0.5, 4.0)])
