"""Rows out are rows in: a model that breaks it in company answers everybody alone from then on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from amble.core.graph import Graph
from amble.core.point import OperatingPoint
from amble.core.ports import Tensors
from amble.stages.control.tensors import split
from tests.services.serve.house import Doubler, house


class Sieve(Doubler):
    """Keeps the rows above zero only, as detectors do, once there are several."""

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        made = super().run(graph, point, inputs)
        return {name: value[value[:, 0] > 0] if len(value) > 1 else value for name, value in made.items()}


def test_a_batch_that_loses_rows_is_answered_one_by_one() -> None:
    sieve = Sieve()
    data = [[float(number), 1.0] for number in (-1, 2, -3, 4)]
    with house("plain", doubler=sieve) as found, ThreadPoolExecutor(5) as pool:
        for _ in range(2):
            sieve.gate.clear()
            sieve.begun.clear()
            first = pool.submit(found.infer, [9.0, 9.0])
            assert sieve.begun.wait(20.0)
            waiting = [pool.submit(found.infer, each) for each in data]
            found.wait_for_pending(5)
            sieve.gate.set()
            assert first.result()[0] == 200
            answers = [each.result()[1]["outputs"][0]["data"] for each in waiting]
            assert answers == [[2 * each for each in row] for row in data]
    assert sum(size > 1 for size in sieve.batches) == 1, "it was batched again"


def test_outputs_with_other_rows_than_went_in_are_no_batch() -> None:
    with pytest.raises(ValueError, match="batch of 3 rows"):
        split({"y": np.zeros((2, 4))}, [1, 2])
    with pytest.raises(ValueError, match="'y'"):
        split({"y": np.zeros(())}, [1, 1])
