"""A mapping is proven on modules of its own, and on other examples than those at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from amble.core.dram import DramErrors
from amble.levers.memory import modules as memory
from amble.levers.memory.partitions import DramPlan, Placed, Proof
from amble.levers.memory.proving import SEEDS_APART, Proving, on_module, trials
from amble.levers.memory.tolerance import KEPT_ON_OTHERS
from amble.stages.measure.accuracy import Examples

NUM = 100
PLAN = DramPlan((Placed("w", "bank 0", 0, 1e-3),), {}, 1.0, 2.0, 1.0, 0.0, "made up")
Lost = Callable[[int], np.ndarray]


class Network:
    """Loses the answers that it is told to on each module, and remembers the modules."""

    def __init__(self, lost: Lost) -> None:
        self.examples = Examples({"x": np.zeros((NUM, 1), np.float32)}, np.zeros(NUM, np.int64))
        self.clean = 0.9
        self.modules: list[int] = []
        self._lost = lost

    def lost(self, homes: Mapping[str, tuple[DramErrors, int]], module: int) -> np.ndarray:
        assert set(homes) == {"w"}
        self.modules.append(module)
        return self._lost(module)


def losing(*examples: int) -> np.ndarray:
    lost = np.zeros(NUM, dtype=np.int8)
    lost[list(examples)] = 1
    return lost


def proving(network: Any, **options: Any) -> Proving:
    return Proving(network, memory.profile("vendorB"), 0.01, 0, **options)


def test_a_mapping_that_passes_on_every_module_but_not_on_other_examples_is_not_proven() -> None:
    network = Network(
        lambda module: losing(7)
    )  # one in a hundred is allowed; other hundreds hold two like it, or three
    passed, said, *_ = proving(network)(PLAN, 0)
    assert len(network.modules) == 72, "all modules were tried, and all of them keep the target"
    assert "72 of 72 fresh modules" in said
    assert not passed
    share = float(said.rpartition("drawn again ")[2].split("%")[0]) / 100
    assert 0.5 < share < KEPT_ON_OTHERS


def test_a_mapping_that_loses_nothing_is_proven() -> None:
    passed, said, *_ = proving(Network(lambda module: losing()))(PLAN, 0)
    assert passed
    assert "on as many examples drawn again 100.0% do" in said


def test_a_proof_keeps_what_every_module_lost_tells_how_far_it_is_and_says_the_same_again() -> None:
    told: list[tuple[str, int, int]] = []
    prove = proving(Network(lambda module: losing(7)), on_progress=lambda *step: told.append(step))
    shown = prove(PLAN, 0)
    assert shown.proof == Proof(0.9, NUM, 0.01, (0.01,) * 72)
    assert told == [("verifying", number, 72) for number in range(1, 73)]
    assert proving(Network(lambda module: losing(7)))(PLAN, 0) == shown


def test_a_mapping_that_fails_on_modules_alone_is_not_proven_and_stops_there() -> None:
    network = Network(lambda module: losing(*range(5)) if module % 10 == 3 else losing())
    passed, said, *_ = proving(network)(PLAN, 0)
    assert not passed
    assert said.startswith("3 of 4 fresh modules")
    assert len(network.modules) == 4


def test_a_mapping_that_misses_on_one_late_module_is_not_proven_although_other_examples_would_do() -> None:
    network: Any = Network(lambda module: losing(*range(5)) if len(network.modules) == 60 else losing())
    passed, said, *_ = proving(network)(PLAN, 0)
    assert said.startswith("59 of 60 fresh modules")
    share = float(said.rpartition("drawn again ")[2].split("%")[0]) / 100
    assert share >= KEPT_ON_OTHERS, "it is the modules alone that refuse it"
    assert not passed


def test_the_module_that_lost_most_is_told() -> None:
    shown = proving(Network(lambda module: losing(*range(5)) if module % 10 == 3 else losing()))(PLAN, 2)
    assert shown.worst_module % 10 == 3


def test_every_round_of_a_proof_has_modules_that_no_other_round_saw() -> None:
    network = Network(lambda module: losing())
    prove = proving(network)
    rounds = []
    for attempt in range(3):
        network.modules.clear()
        prove(PLAN, attempt)
        rounds.append(set(network.modules))
    assert [len(each) for each in rounds] == sorted(len(each) for each in rounds)
    assert len(rounds[1]) > len(rounds[0]), "a second attempt has to be surer than the first"
    assert not rounds[0] & rounds[1]
    assert not rounds[1] & rounds[2]
    assert not rounds[0] & rounds[2]
    assert max(len(each) for each in rounds) <= SEEDS_APART, "nor will a later one"


def test_trials_have_modules_that_no_proof_saw() -> None:
    network: Any = Network(lambda module: losing())
    proving(network)(PLAN, 0)
    proven = set(network.modules)
    network.modules.clear()
    trials(PLAN, network=network, profile=memory.profile("vendorB"), num=50, seed=0)
    assert len(set(network.modules)) == 50
    assert not proven & set(network.modules)


def test_attempts_that_failed_before_make_a_proof_longer() -> None:
    lengths = []
    for before in (0, 1, 5):
        network = Network(lambda module: losing())
        proving(network, failed_before=before)(PLAN, 0)
        lengths.append(len(network.modules))
    assert lengths[0] < lengths[1] < lengths[2]


def test_the_loss_on_a_module_is_the_share_of_answers_lost_less_those_won() -> None:
    def lost(module: int) -> np.ndarray:
        answers = losing(1, 2, 3)
        answers[50] = -1
        return answers

    network: Any = Network(lost)
    assert on_module(PLAN, network, memory.profile("vendorB"), 5) == pytest.approx(0.02)
