"""The quicker of several ways to run a network, by really running it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import amble
from amble.core.errors import Refused
from amble.runtimes.onnx.choosing import compared, quickest
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
