"""Verdicts that noise does not decide, and plain words for layers."""

from __future__ import annotations

import numpy as np
import pytest

from amble.core.report import Estimate
from amble.levers.widths.judging import leaves_open, verdict, with_ends
from amble.stages.check.intervals import quantile

LITTLE_LOST = Estimate(0.4, 0.1, 0.9)


def ratio(rounds: list[float]) -> Estimate:
    return quantile(np.array(rounds), 0.5)


def test_a_network_that_is_faster_in_every_round_is_kept_with_the_interval_of_its_loss() -> None:
    kind, reason = verdict(ratio([0.8, 0.81, 0.79] * 5), LITTLE_LOST, 1.0)
    assert kind == "kept"
    assert reason == "1.25 times as fast, loses 0.4 (0.1 to 0.9) points"


def test_times_that_go_either_way_are_no_gain() -> None:
    kind, reason = verdict(ratio([0.9, 1.1, 0.95, 1.05, 0.97] * 3), LITTLE_LOST, 1.0)
    assert kind == "refused"
    assert "as far as can be told" in reason


def test_too_few_rounds_tell_nothing() -> None:
    assert verdict(ratio([0.9, 0.9, 0.9]), LITTLE_LOST, 1.0)[0] == "refused"


def test_a_loss_over_the_allowance_is_refused_however_fast() -> None:
    kind, reason = verdict(ratio([0.5] * 15), Estimate(1.2, 0.4, 2.0), 1.0)
    assert kind == "refused"
    assert reason.startswith("loses 1.2 (0.4 to 2) points, 1 are allowed")


@pytest.mark.parametrize(
    ("loss", "open_"),
    [
        (Estimate(0.4, 0.1, 0.9), False),
        (Estimate(0.4, -0.5, 1.3), True),
        (Estimate(1.2, 0.4, 2.0), True),
        (Estimate(3.0, 2.0, 4.0), False),
        (Estimate(0.4), False),
    ],
)
def test_an_interval_on_both_sides_of_the_allowance_leaves_it_open(loss: Estimate, open_: bool) -> None:
    assert leaves_open(loss, 1.0) is open_


def test_a_value_without_an_interval_stands_alone() -> None:
    assert with_ends(Estimate(0.25)) == "0.25"
