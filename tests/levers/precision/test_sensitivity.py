"""What is known is kept; what is not is taken for the worst."""

from pathlib import Path

import numpy as np
import pytest

from amble.core.spreading import OnProgress
from amble.levers.precision.sensitivity import Sensitivity, measure, squared_errors

ERRORS = [0.1, 0.4, 0.2, 0.3]


def empty(digest: str = "net") -> Sensitivity:
    return Sensitivity(digest, 4, 64)


def test_every_layer_is_asked_for_once_in_the_order_given() -> None:
    asked: list[int] = []

    def error_of(layer: int, told: OnProgress) -> float:
        asked.append(layer)
        return ERRORS[layer]

    found = measure(empty(), error_of, order=[2, 0, 3, 1])
    assert asked == [2, 0, 3, 1]
    np.testing.assert_array_equal(squared_errors(found), ERRORS)


def test_an_interrupted_measurement_goes_on_where_it_stopped(tmp_path: Path) -> None:
    keep, asked = tmp_path / "kept.json", []

    def broken(layer: int, told: OnProgress) -> float:
        if layer == 2:
            raise KeyboardInterrupt
        return ERRORS[layer]

    with pytest.raises(KeyboardInterrupt):
        measure(empty(), broken, order=range(4), keep=keep)
    found = measure(empty(), lambda layer, told: asked.append(layer) or ERRORS[layer], order=range(4), keep=keep)  # type: ignore[func-returns-value]
    assert asked == [2, 3]
    np.testing.assert_array_equal(squared_errors(found), ERRORS)


def test_what_is_known_of_another_network_is_not_used(tmp_path: Path) -> None:
    keep = tmp_path / "kept.json"
    measure(empty(), lambda layer, told: 9.0, order=range(4), keep=keep)
    found = measure(empty("other"), lambda layer, told: ERRORS[layer], order=range(4), keep=keep)
    np.testing.assert_array_equal(squared_errors(found), ERRORS)


def test_layers_that_were_not_reached_count_as_the_worst_that_is_known() -> None:
    found = measure(empty(), lambda layer, told: ERRORS[layer], order=[0, 3])
    np.testing.assert_array_equal(squared_errors(found), [0.1, 0.3, 0.3, 0.3])


def test_when_the_time_is_up_it_stops() -> None:
    found = measure(empty(), lambda layer, told: ERRORS[layer], order=range(4), most_s=-1.0)
    assert found.known == {}
    np.testing.assert_array_equal(squared_errors(found), np.ones(4))


def test_progress_counts_the_layers_that_are_known(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    measure(
        empty(), lambda layer, told: 0.0, order=range(4), on_progress=lambda done, total: told.append((done, total))
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
