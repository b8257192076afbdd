"""Graphs for teaching: known work, the same for a seed, and all three classes."""

from __future__ import annotations

from collections import Counter

import pytest

from amble.core.graph import Gemm, Operator
from amble.runtimes.synthetic import chain, compute_bound, launch_bound, memory_bound, three


def intensity(operator: Operator) -> float:
    """Operations a byte."""
    return operator.flops / (operator.bytes_read + operator.bytes_written)


def test_work_is_what_the_sizes_say() -> None:
    product = compute_bound("a", size=100, batch=2)
    assert (product.gemm, product.flops) == (Gemm(200, 100, 100), 2.0 * 200 * 100 * 100)
    assert product.bytes_read == 4 * (200 * 100 + 100 * 100)
    assert memory_bound("b", size=10, batch=3).bytes_read == 2 * 4 * 30
    assert launch_bound("c", size=10).bytes_written == 40


def test_the_classes_differ_in_intensity_and_size() -> None:
    compute, memory, launch = three().operators
    assert intensity(compute) > 100 > 1 > intensity(memory)
    assert launch.bytes_read + launch.bytes_written < 1e-3 * memory.bytes_read


def test_a_chain_is_the_same_for_a_seed_and_another_for_another() -> None:
    assert chain(20, seed=1) == chain(20, seed=1)
    assert chain(20, seed=1).digest != chain(20, seed=2).digest
    assert chain(20, seed=1).digest != chain(20, seed=1, batch=2).digest


def test_a_chain_has_names_of_its_own_and_every_class() -> None:
    graph = chain(60, seed=3)
    assert len({operator.name for operator in graph.operators}) == len(graph.operators) == 60
    assert set(Counter(operator.kind for operator in graph.operators)) == {"MatMul", "Add", "Relu"}


def test_a_larger_batch_is_more_work() -> None:
    one, four = chain(30, seed=0), chain(30, seed=0, batch=4)
    assert sum(each.flops for each in four.operators) == pytest.approx(4 * sum(each.flops for each in one.operators))
    assert [each.weight_bytes for each in four.operators] == [each.weight_bytes for each in one.operators]


def test_an_empty_chain_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one operator"):
        chain(0)
