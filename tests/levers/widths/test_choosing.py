"""Widths chosen at once: never better by trying everything, always within the budget, on edges of stairs."""

from __future__ import annotations

import time
from itertools import pairwise, product
from math import ceil

import numpy as np
import pytest

from amble.core.errors import Infeasible
from amble.core.layers import Shape
from amble.core.subject import Where
from amble.levers.widths.adjusting import blind, filled, rounded, scaled, traded, trimmed
from amble.levers.widths.choosing import Knapsack, Pricing, candidates, choose, knapsack
from amble.levers.widths.network import Group, Layer, Network
from amble.levers.widths.staircase import Point, Staircase, StaircaseTable, Stairs, shape_of


def law_s(inputs: int, outputs: int, scale: float = 1.0) -> float:
    return scale * 1e-6 * (1 + ceil(inputs / 16) * ceil(outputs / 16))


def staircase(shape: Shape, scale: float = 1.0) -> Staircase:
    inputs = [*range(16, shape.inputs, 16), shape.inputs] if shape.vary_inputs else [shape.inputs]
    outputs = [*range(16, shape.outputs, 16), shape.outputs] if shape.vary_outputs else [shape.outputs]
    points = tuple(Point(i, o, law_s(i, o, scale), 0.0, 2e-6 * i * o, 40) for i in inputs for o in outputs)
    return Staircase(shape, points, Stairs(tuple(outputs), 16), Stairs(tuple(inputs), 16))


def table_of(network: Network) -> StaircaseTable:
    shapes = dict.fromkeys(shape_of(each, network) for each in network.layers)
    return StaircaseTable(Where("fake", "made up"), "law", "fp32", 1, 0, tuple(staircase(each) for each in shapes))


def group(name: str, width: int, seed: int) -> Group:
    return Group(name, tuple(np.sort(np.random.default_rng(seed).gamma(2.0, size=width)).tolist()))


def chain(depth: int, width: int = 64) -> Network:
    names = [f"g{at}" for at in range(depth)]
    ends = [None, *names], [*names, None]
    layers = tuple(
        Layer(f"l{at}", "conv", (a,) if a else (), b, width if a else 3, width if b else 10, size=(8, 8))
        for at, (a, b) in enumerate(zip(*ends, strict=True))
    )
    return Network("chain", layers, tuple(group(name, width, at) for at, name in enumerate(names)))


def residual() -> Network:
    """Two blocks that share their sum, and a shortcut between stages: three groups in a triangle."""
    layers = (
        Layer("stem", "conv", (), "a", 3, 48, size=(8, 8)),
        Layer("a1", "conv", ("a",), "i", 48, 48, size=(8, 8)),
        Layer("a2", "conv", ("i",), "a", 48, 48, size=(8, 8)),
        Layer("b1", "conv", ("a",), "j", 48, 64, size=(8, 8)),
        Layer("b2", "conv", ("j",), "b", 64, 64, size=(4, 4)),
        Layer("cut", "conv", ("a",), "b", 48, 64, size=(8, 8)),
        Layer("head", "gemm", ("b",), None, 64, 10),
    )
    return Network("residual", layers, (group("a", 48, 1), group("i", 48, 2), group("j", 64, 3), group("b", 64, 4)))


def brute(asked: Knapsack, budget: float) -> float:
    choices = product(*(range(len(each)) for each in asked.widths))
    return min(asked.loss(each) for each in choices if asked.cost(each) <= budget)


@pytest.mark.parametrize("network", [chain(4), residual()], ids=["chain", "residual"])
@pytest.mark.parametrize("share", [0.9, 0.7, 0.5, 0.35])
def test_the_choice_is_near_the_best_of_all_and_the_bound_below_it(network: Network, share: float) -> None:
    pricing = Pricing(network, table_of(network), rest=1e-6)
    asked = knapsack(pricing, candidates(pricing))
    budget = share * pricing.total({})
    found, best = choose(asked, budget), brute(asked, budget)
    assert found.cost <= budget
    assert found.cost == pytest.approx(pricing.total(found.widths))
    assert found.lost == pytest.approx(network.lost(found.widths))
    assert found.bound <= best * (1 + 1e-9)
    assert best <= found.lost * (1 + 1e-9)
    assert found.lost <= best * 1.03


def test_candidates_are_the_ends_of_stairs() -> None:
    pricing = Pricing(residual(), table_of(residual()))
    assert candidates(pricing)["a"] == (16, 32, 48)
    assert candidates(pricing, least_share=0.5)["a"] == (32, 48)


def test_nothing_is_pruned_where_the_budget_allows_all() -> None:
    network = chain(3)
    pricing = Pricing(network, table_of(network))
    found = choose(knapsack(pricing, candidates(pricing)), pricing.total({}))
    assert found.widths == network.today
    assert found.lost == found.gap == 0.0


def test_a_budget_out_of_reach_is_infeasible_with_the_least_there_is() -> None:
    network = chain(3)
    pricing = Pricing(network, table_of(network))
    asked = knapsack(pricing, candidates(pricing))
    with pytest.raises(Infeasible, match="narrowest worth using") as caught:
        choose(asked, 1e-9)
    least = pricing.total(dict.fromkeys(network.today, 16))
    assert caught.value.fastest_s == pytest.approx(least)
    assert choose(asked, least * 1.0001).cost <= least * 1.0001


def test_energy_can_be_the_budget() -> None:
    network = chain(3)
    pricing = Pricing(network, table_of(network), resource="energy")
    asked = knapsack(pricing, candidates(pricing))
    assert choose(asked, 0.5 * pricing.total({}), resource="energy").cost <= 0.5 * pricing.total({})


def test_a_looser_budget_never_loses_more_than_its_gap() -> None:
    network = residual()
    pricing = Pricing(network, table_of(network))
    asked = knapsack(pricing, candidates(pricing))
    found = [choose(asked, share * pricing.total({})) for share in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)]
    for tight, loose in pairwise(found):
        assert loose.bound <= tight.lost * (1 + 1e-9)


def test_the_time_of_the_search_grows_hardly_faster_than_the_layers() -> None:
    """Ratios of CPU time in one run, the least of three: they hold on any machine, whatever else runs on it."""

    def searched_s(layers: int) -> float:
        network = chain(layers, 256)
        pricing = Pricing(network, table_of(network))
        asked, budget = knapsack(pricing, candidates(pricing)), 0.6 * pricing.total({})
        times_s = []
        for _ in range(3):
            begin_s = time.thread_time()
            found = choose(asked, budget)
            times_s.append(time.thread_time() - begin_s)
        assert found.gap < 0.01
        return min(times_s)

    assert searched_s(59) < 4.0**1.7 * searched_s(15)


def test_concatenations_of_many_groups_are_thinned_until_they_fit() -> None:
    groups = tuple(group(f"g{at}", 64, at) for at in range(8))
    writers = tuple(Layer(f"w{at}", "conv", (), each.name, 3, 64, size=(8, 8)) for at, each in enumerate(groups))
    mixed = Layer("mix", "conv", tuple(each.name for each in groups), None, 512, 16, size=(8, 8))
    network = Network("dense", (*writers, mixed), groups)
    pricing = Pricing(network, table_of(network))
    budget = 0.7 * pricing.total({})
    assert choose(knapsack(pricing, candidates(pricing)), budget).cost <= budget


def test_other_operators_cost_in_proportion_to_what_layers_write() -> None:
    network = chain(2)
    pricing = Pricing(network, table_of(network), rest=1e-6, others=5e-6)
    alone = Pricing(network, table_of(network), rest=1e-6)
    assert pricing.total({}) - alone.total({}) == pytest.approx(5e-6)
    half = dict.fromkeys(network.today, 32)
    assert pricing.total(half) - alone.total(half) == pytest.approx(5e-6 * (32 + 32 + 10) / (64 + 64 + 10))


def test_a_blind_result_is_moved_down_to_edges_within_the_budget() -> None:
    network = residual()
    pricing = Pricing(network, table_of(network))
    edges = candidates(pricing)
    asked = {"a": 41, "i": 30, "j": 50, "b": 59}
    budget = 0.8 * pricing.total(asked)
    found = trimmed(pricing, asked, edges, budget)
    assert pricing.total(found) <= budget
    assert all(found[name] <= asked[name] for name in asked)
    assert all(found[name] in edges[name] for name in asked if found[name] != asked[name])


def test_growing_into_the_tail_costs_no_time() -> None:
    network = residual()
    pricing = Pricing(network, table_of(network))
    asked = {"a": 41, "i": 30, "j": 50, "b": 59}
    found = filled(pricing, asked, candidates(pricing))
    assert found == {"a": 48, "i": 32, "j": 64, "b": 64}
    assert pricing.total(found) == pytest.approx(pricing.total(asked), rel=1e-3)


def test_trading_loses_less_in_the_same_time() -> None:
    network = residual()
    pricing = Pricing(network, table_of(network))
    edges = candidates(pricing)
    start = {"a": 32, "i": 16, "j": 64, "b": 32}
    found = traded(pricing, start, edges, pricing.total(start))
    assert pricing.total(found) <= pricing.total(start)
    assert network.lost(found) < network.lost(start)


def test_baselines_keep_the_operations_asked_for() -> None:
    network = residual()
    for widths in (blind(network, 0.5), scaled(network, 0.5)):
        assert 0.3 < network.flops(widths) / network.flops() <= 0.5
    uneven = blind(network, 0.5)
    assert all(width % 16 == 0 for width in rounded(network, uneven, 16).values())


def test_the_best_at_once_loses_no_more_than_moving_a_blind_result() -> None:
    network = residual()
    pricing = Pricing(network, table_of(network))
    edges = candidates(pricing)
    budget = 0.6 * pricing.total({})
    moved = traded(pricing, trimmed(pricing, blind(network, 0.7), edges, budget), edges, budget)
    assert choose(knapsack(pricing, edges), budget).lost <= network.lost(moved) * (1 + 1e-9)
