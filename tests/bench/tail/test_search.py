"""Evolution finds the best widths that fit, and judges none twice."""

from __future__ import annotations

import pytest
import torch

from amble.core.errors import Refused
from amble.levers.widths.network import Widths
from amble.runtimes.torch.training import Labelled
from bench.tail.search import Effort, evolve, inherited
from bench.tail.surgery import coupling, importance, recalibrated
from tests.levers.memory.learning.networks import Chain, seeded

SPACE = {"a": (1, 2, 3, 4), "b": (1, 2, 3, 4), "c": (1, 2, 3, 4)}
EFFORT = Effort(evaluations=40, population=10, fittest=4, seed=1)


def worth(widths: Widths) -> float:
    return 5.0 * widths["a"] + 2.0 * widths["b"] + 1.0 * widths["c"]


def fits(widths: Widths) -> bool:
    return sum(widths.values()) <= 8


def test_the_best_of_a_small_space_is_found() -> None:
    found = evolve(SPACE, worth, fits, EFFORT)
    assert found.widths == {"a": 4, "b": 3, "c": 1}
    assert found.score == 27.0


def test_nothing_is_judged_twice_or_beyond_the_budget() -> None:
    judged: list[tuple[int, ...]] = []

    def score(widths: Widths) -> float:
        judged.append(tuple(widths.values()))
        assert fits(widths)
        return worth(widths)

    found = evolve(SPACE, score, fits, EFFORT)
    assert len(set(judged)) == len(judged) == len(found.history) == 40
    assert list(found.history) == sorted(found.history)


def test_a_small_space_is_searched_to_its_end() -> None:
    found = evolve({"a": (1, 2), "b": (1, 2)}, lambda widths: widths["a"], lambda widths: True, EFFORT)
    assert len(found.history) == 4


def test_the_same_seed_finds_the_same() -> None:
    assert evolve(SPACE, worth, fits, EFFORT) == evolve(SPACE, worth, fits, EFFORT)


def test_a_start_is_judged_first_where_it_fits() -> None:
    best = {"a": 4, "b": 3, "c": 1}
    assert evolve(SPACE, worth, fits, EFFORT, start=best).history[0] == 27.0
    assert evolve(SPACE, worth, fits, EFFORT, start=dict.fromkeys("abc", 4)).history[0] <= 27.0


def test_a_budget_below_the_smallest_is_refused() -> None:
    with pytest.raises(Refused, match="allow more time"):
        evolve(SPACE, worth, lambda widths: False, EFFORT)


def test_an_effort_without_parents_is_none() -> None:
    with pytest.raises(ValueError, match="at least two"):
        Effort(population=4, fittest=8)


def test_inherited_weights_score_the_whole_network_as_it_is() -> None:
    inputs = torch.rand(128, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    module = recalibrated(seeded(Chain), inputs[:64])
    data = Labelled(inputs, module(inputs).argmax(1))
    coupled = importance(module, coupling(module, inputs[:2]), data, kind="l1")
    score = inherited(module, coupled, data)
    assert score({"0.0": 8, "1.0": 12}) > score({"0.0": 1, "1.0": 1})
    with pytest.raises(ValueError, match="labels"):
        inherited(module, coupled, Labelled(inputs, None))
