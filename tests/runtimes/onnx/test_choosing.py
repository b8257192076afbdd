"""The quicker of several ways to run a network, by really running it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import amble
from amble.core.errors import Refused
from amble.runtimes.onnx.choosing import compared, is_sure, quickest
from amble.runtimes.onnx.execution import Execution
from amble.runtimes.onnx.providers import CPU
from tests.runtimes import models

UNFUSED = replace(CPU, name="unfused", fuses=True)
ABSENT = replace(CPU, name="absent", full="NoSuchExecutionProvider")


def test_times_are_taken_in_turn_and_are_of_each_way(tmp_path: Path) -> None:
    ways = [Execution(), Execution(UNFUSED)]
    times_s = compared(models.saved(tmp_path, models.cnn()), ways, num_rounds=4)
    assert times_s.shape == (4, 2)
    assert (times_s > 0).all()


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_way_that_cannot_run_it_is_left_out_and_none_is_refused(tmp_path: Path) -> None:
    path = models.saved(tmp_path, models.mlp())
    assert quickest(path, [Execution(ABSENT), Execution()]).provider is CPU
    with pytest.raises(Refused, match="cannot start"):
        quickest(path, [Execution(ABSENT)])


def test_auto_becomes_definite_and_nothing_else_changes(tmp_path: Path) -> None:
    path = models.saved(tmp_path, models.mlp())
    assert amble.quickest(path, "host?provider=auto&threads=1") == "host?provider=cpu&threads=1"
    assert amble.quickest(path, "host?threads=1") == "host?threads=1"
    assert amble.quickest("fashion-resnet", "sim:v100") == "sim:v100"
    with pytest.raises(Refused, match="leave it out"):
        amble.quickest(path, "nvml:0?provider=auto")


def rounds(count: int, *, second: float, own: float, shared: float) -> np.ndarray:
    """Rounds of two ways, the second which takes ``second`` times as long; noise of its own, and of both."""
    random = np.random.default_rng(3)
    both = np.exp(shared * random.standard_normal((count, 1)))
    return np.asarray(np.array([1.0, second]) * both * np.exp(own * random.standard_normal((count, 2))))


def test_a_difference_above_the_noise_is_sure_and_one_below_takes_more_rounds() -> None:
    assert is_sure(rounds(9, second=1.05, own=0.005, shared=0.0))
    assert not is_sure(rounds(9, second=1.02, own=0.04, shared=0.0))
    assert not is_sure(rounds(8, second=1.5, own=0.005, shared=0.0)), "too few rounds to know their noise"


def test_what_slows_all_ways_alike_makes_nothing_unsure() -> None:
    assert is_sure(rounds(9, second=1.03, own=0.003, shared=0.2))


def test_ways_that_are_alike_end_the_rounds() -> None:
    assert is_sure(rounds(30, second=1.0, own=0.002, shared=0.1))
    assert not is_sure(rounds(30, second=1.0, own=0.05, shared=0.1))


def test_rounds_end_once_enough_is_known(tmp_path: Path) -> None:
    ways = [Execution(), Execution(UNFUSED)]
    times_s = compared(models.saved(tmp_path, models.mlp()), ways, enough=lambda times_s: len(times_s) == 5)
    assert times_s.shape == (5, 2)
