"""Trials that are asked for ahead of need are those that a search does one after another."""

import pickle
from collections.abc import Generator
from pathlib import Path
from typing import Any

import amble
from amble.core.spreading import in_order
from amble.inputs.examples import images
from amble.levers.memory.ahead import Ahead, AtRates
from amble.levers.memory.proving import Faulty
from amble.runtimes.onnx.faulty import FaultyOnnx


class Noted:
    """A trial that notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, int]] = []

    def __call__(self, item: Any, on_progress: Any) -> float:
        rates, seed = item
        self.asked.append((rates["w"], seed))
        return float(rates["w"] + seed)


class Eager:
    """Does three at once, as a cluster does; counts what was given up."""

    def __init__(self) -> None:
        self.given_up = 0

    def __call__(self, function: Any, items: Any, on_progress: Any) -> Generator[Any, None, None]:
        left = list(items)
        done: list[Any] = []
        try:
            while left or done:
                while left and len(done) < 3:
                    done.append(function(left.pop(0), on_progress))
                yield done.pop(0)
        finally:
            self.given_up += len(done)


def test_here_nothing_is_asked_for_that_is_not_needed() -> None:
    work = Noted()
    trial = Ahead(work, in_order, 24)  # type: ignore[arg-type]
    assert [trial({"w": 1.0}, 5), trial({"w": 1.0}, 6), trial({"w": 2.0}, 7)] == [6.0, 7.0, 9.0]
    trial.close()
    assert work.asked == [(1.0, 5), (1.0, 6), (2.0, 7)]


def test_ahead_the_answers_are_the_same_and_the_rest_is_given_up() -> None:
    spread = Eager()
    trial = Ahead(Noted(), spread, 4)  # type: ignore[arg-type]
    asked = [(1.0, 5), (1.0, 6), (2.0, 7), (2.0, 8), (2.0, 9), (2.0, 10), (2.0, 20)]
    assert [trial({"w": rate}, seed) for rate, seed in asked] == [rate + seed for rate, seed in asked]
    trial.close()
    assert spread.given_up == 4


def test_a_network_with_errors_loses_the_same_wherever_it_travelled() -> None:
    graph = amble.load("fashion-resnet")
    network = Faulty.of(FaultyOnnx(Path(graph.source)), images("held_out", graph.inputs[0].name).rows(0, 40))
    there = pickle.loads(pickle.dumps(AtRates(network)))  # noqa: S301
    item = (dict.fromkeys(network.types, 1e-2), 3)
    assert there(item, print) == AtRates(network)(item, print) > 0.0
