"""The mix is the best there is, casts and losses counted."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amble.levers.precision.mixing import mix, mixes, share_out

FP32_S, INT8_S = 1.0, 0.4


def network(num: int, *, cast_s: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Layers all alike: times [layer, 2], losses [layer], casts [layer + 1]."""
    return np.tile([FP32_S, INT8_S], (num, 1)), np.full(num, 0.1), np.full(num + 1, cast_s)


def spent_s(latency_s: np.ndarray, cast_s: np.ndarray, is_int8: tuple[bool, ...]) -> float:
    ends = [False, *is_int8, False]
    casts = sum(cast_s[at] for at in range(len(ends) - 1) if ends[at] != ends[at + 1])
    return float(sum(latency_s[layer, int(each)] for layer, each in enumerate(is_int8)) + casts)


def test_without_a_limit_every_layer_that_is_faster_is_int8() -> None:
    found = mix(*network(5), max_loss=np.inf)
    assert found is not None
    assert found.is_int8 == (True,) * 5
    assert found.left == ()
    assert found.latency_s == pytest.approx(5 * INT8_S)


def test_layers_that_are_slower_in_int8_stay_as_they_are() -> None:
    latency_s, loss, cast_s = network(4)
    latency_s[1] = [0.2, 0.9]
    found = mix(latency_s, loss, cast_s, max_loss=np.inf)
    assert found is not None
    assert found.left == (1,)


def test_a_layer_is_no_island_where_casts_cost_more_than_it_gains() -> None:
    latency_s, loss, cast_s = network(3, cast_s=0.35)
    latency_s[[0, 2], 1] = 5.0
    assert mix(latency_s, loss, cast_s, max_loss=np.inf).is_int8 == (False, False, False)  # type: ignore[union-attr]
    assert mix(latency_s, loss, 0.5 * cast_s, max_loss=np.inf).is_int8 == (False, True, False)  # type: ignore[union-attr]


def test_a_budget_buys_the_layers_that_gain_most_for_it() -> None:
    latency_s, loss, cast_s = network(4)
    loss[:] = [0.4, 0.1, 0.1, 0.4]
    found = mix(latency_s, loss, cast_s, max_loss=0.25)
    assert found is not None
    assert found.left == (0, 3)
    assert found.loss == pytest.approx(0.2)


def test_no_budget_leaves_what_loses_nothing() -> None:
    latency_s, loss, cast_s = network(3)
    loss[1] = 0.0
    found = mix(latency_s, loss, cast_s, max_loss=0.0)
    assert found is not None
    assert found.is_int8 == (False, True, False)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 7), st.integers(0, 10_000), st.floats(0.0, 2.0))
def test_no_mix_is_faster_within_the_budget(num: int, seed: int, budget: float) -> None:
    rng = np.random.default_rng(seed)
    latency_s, loss, cast_s = rng.random((num, 2)), rng.random(num), 0.2 * rng.random(num + 1)
    found = mix(latency_s, loss, cast_s, max_loss=budget)
    assert found is not None
    assert loss[list(found.is_int8)].sum() <= budget + 1e-9
    assert found.latency_s == pytest.approx(spent_s(latency_s, cast_s, found.is_int8))
    within = [each for each in product([False, True], repeat=num) if loss[list(each)].sum() <= budget]
    assert found.latency_s == pytest.approx(min(spent_s(latency_s, cast_s, each) for each in within), rel=1.5e-3)


def test_each_mix_is_proposed_once_the_fastest_first() -> None:
    latency_s, loss, cast_s = network(4)
    found = mixes(latency_s, loss, cast_s, budgets=[0.05, np.inf, 0.2, 0.2, 9.0])
    assert [sum(each.is_int8) for each in found] == [4, 2]
    assert [each.latency_s for each in found] == sorted(each.latency_s for each in found)


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_shapes_that_do_not_fit_are_refused(wrong: int) -> None:
    arrays = list(network(3))
    arrays[wrong] = arrays[wrong][:-1]
    with pytest.raises(ValueError, match="layer"):
        mix(*arrays, max_loss=1.0)


def test_a_loss_is_shared_out_by_squared_error() -> None:
    np.testing.assert_allclose(share_out(2.0, np.array([1.0, 3.0, 0.0])), [0.5, 1.5, 0.0])
    np.testing.assert_array_equal(share_out(-0.3, np.array([1.0, 3.0])), [0.0, 0.0])
    np.testing.assert_array_equal(share_out(2.0, np.zeros(2)), [0.0, 0.0])
