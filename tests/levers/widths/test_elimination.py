"""Elimination finds what trying everything finds."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amble.levers.widths.elimination import Elimination


def _brute(sizes: list[int], scopes: list[tuple[int, ...]], costs: list[np.ndarray]) -> float:  # type: ignore[type-arg]
    return min(
        sum(float(cost[tuple(choice[v] for v in scope)]) for scope, cost in zip(scopes, costs, strict=True))
        for choice in product(*(range(size) for size in sizes))
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_least_sum_is_that_of_trying_everything(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    subsets = st.sets(st.integers(0, len(sizes) - 1), min_size=1, max_size=3).map(lambda found: tuple(sorted(found)))
    scopes = data.draw(st.lists(subsets, min_size=1, max_size=8))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    costs = [rng.normal(size=[sizes[each] for each in scope]) for scope in scopes]
    least, choice = Elimination(sizes, scopes).minimise(costs)
    assert least == pytest.approx(_brute(sizes, scopes, costs))
    chosen = sum(float(cost[tuple(choice[v] for v in scope)]) for scope, cost in zip(scopes, costs, strict=True))
    assert chosen == pytest.approx(least)


def test_a_chain_needs_tables_of_two_variables_only() -> None:
    sizes = [10] * 40
    assert Elimination(sizes, [(i, i + 1) for i in range(39)]).num_cells == 100


def test_tables_that_grow_too_large_are_refused() -> None:
    with pytest.raises(ValueError, match="too many layers"):
        Elimination([20] * 6, [tuple(range(6))])


def test_variables_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="ascending"):
        Elimination([2, 2], [(1, 0)])
