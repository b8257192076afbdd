"""Who shares a link: against trying every combination, and never more than there is."""

from itertools import product

import numpy as np
import pytest

from amble.core.errors import Infeasible
from amble.levers.split.cuts import Cut
from amble.levers.split.link import Link
from amble.levers.split.planning import best
from amble.levers.split.sharing import Option, equal, options, share
from tests.levers.split.test_planning import RADIO, question

UNITS = 12


def made_up(seed: int, devices: int, count: int = 6) -> list[list[Option]]:
    """Options where more of the link and of the server takes less energy, and one that needs neither."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(devices):
        units = rng.integers(1, UNITS, count)
        busy = rng.uniform(0.05, 0.6, count)
        energy_j = 2.0 / (1 + units) + 0.3 / (0.1 + busy) + rng.uniform(0, 0.2, count)
        rows = [Option(*each) for each in zip(units.tolist(), energy_j.tolist(), busy.tolist(), strict=True)]
        found.append([Option(0, 6.0, 0.0), *rows])
    return found


def tried(devices: list[list[Option]], most_busy: float) -> float:
    return min(
        sum(each.energy_j for each in chosen)
        for chosen in product(*devices)
        if sum(each.units for each in chosen) <= UNITS and sum(each.busy for each in chosen) <= most_busy
    )


@pytest.mark.parametrize("seed", range(6))
def test_sharing_is_within_its_bound_of_trying_every_combination(seed: int) -> None:
    devices = made_up(seed, 4)
    for most_busy in (0.4, 1.0, 5.0):
        least_j, found = tried(devices, most_busy), share(devices, UNITS, most_busy)
        assert found.bound_j <= least_j * (1 + 1e-9)
        assert least_j <= found.energy_j * (1 + 1e-9)
        assert found.energy_j <= least_j * (1.01 if most_busy < 5 else 1 + 1e-9)
        assert sum(each.units for each in found.chosen) <= UNITS
        assert sum(each.busy for each in found.chosen) <= most_busy + 1e-9
        assert found.energy_j == pytest.approx(sum(each.energy_j for each in found.chosen))


def test_a_device_alone_takes_what_the_planner_says_is_best() -> None:
    asked, link = question(3), Link(2e7, 0.002, RADIO)
    asked.precisions = ("int8",)
    found = share([options(asked, link, UNITS)], UNITS)
    assert found.energy_j == pytest.approx(best(question(3), link).energy_j)


def test_more_of_the_link_never_costs_energy_and_options_beat_one_another_nowhere() -> None:
    asked = question(1)
    asked.precisions = ("int8",)
    found = options(asked, Link(2e7, 0.002, RADIO), UNITS)
    assert len(found) > 3
    for one, other in product(found, repeat=2):
        no_worse = one.units <= other.units and one.busy <= other.busy and one.energy_j <= other.energy_j
        assert one is other or not no_worse


def test_too_many_devices_are_said_to_be_too_many() -> None:
    needs_half = [Option(7, 1.0, 0.1)]
    with pytest.raises(Infeasible, match="the link is too slow for 2 devices"):
        share([needs_half, needs_half], UNITS)
    with pytest.raises(Infeasible, match="the server is too slow for 2 devices"):
        share([[Option(1, 1.0, 0.8)]] * 2, UNITS)
    with pytest.raises(Infeasible, match="device 2 keeps its deadline with no cut"):
        share([[Option(1, 1.0, 0.1)], []], UNITS)


@pytest.mark.parametrize("seed", range(6))
def test_sharing_is_never_worse_than_equal_shares(seed: int) -> None:
    devices = made_up(seed, 4)
    for most_busy in (0.4, 1.0, 5.0):
        alike = equal(devices, UNITS, most_busy)
        assert alike is not None
        assert max(each.units for each in alike) <= UNITS // 4
        assert sum(each.busy for each in alike) <= most_busy + 1e-9
        assert share(devices, UNITS, most_busy).energy_j <= sum(each.energy_j for each in alike) * (1 + 1e-12)


def test_equal_shares_are_taken_where_ticks_and_prices_miss_them() -> None:
    of = [Option(0, 6.0, 0.0), Option(1, 5.5, 1 / 3), Option(1, 5.4, 0.5), Option(1, 0.1, 1.1)]
    found = share([of, of, of], UNITS)
    assert found.energy_j == pytest.approx(16.5)  # a greedy choice gives two of them half of the server: 16.8
    assert sum(each.busy for each in found.chosen) <= 1 + 1e-9


def test_no_equal_shares_are_told_where_one_device_needs_more() -> None:
    assert equal([[Option(7, 1.0, 0.1)], [Option(1, 1.0, 0.1)]], UNITS) is None


def test_what_must_not_cross_in_a_precision_is_sent_in_the_next_one() -> None:
    asked, link = question(3), Link(2e7, 0.002, RADIO)
    refused = []

    def admissible(cut: Cut, precision: str) -> bool:
        refused.append(precision)
        return precision != "int8"

    found = options(asked, link, UNITS, admissible)
    assert "int8" in refused
    crossing = {each.choice.precision for each in found if each.choice is not None and each.units}
    assert crossing == {"fp16"}
    assert share([found], UNITS).energy_j == pytest.approx(best(question(3), link, admissible).energy_j)
