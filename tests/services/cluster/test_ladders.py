"""What simulated chips draw and meet agrees with what they do when they are run, and rises from rung to rung."""

import numpy as np
import pytest

import amble
from amble.core.errors import Refused
from amble.core.point import OperatingPoint
from amble.devices import simulated
from amble.services.cluster.ladders import of_chips

CHIPS = ("v100", "jetson-orin-nano")
LADDERS = of_chips(CHIPS, "fashion-resnet", 0.1, most=6)


def test_rungs_rise_from_parked_to_the_top_and_batches_keep_the_deadline():
    assert (LADDERS.rate_hz[:, 0] == 0).all()
    assert (np.diff(LADDERS.busy_w) >= 0).all()
    assert (np.diff(LADDERS.rate_hz) >= 0).all()
    assert (LADDERS.idle_w <= LADDERS.busy_w).all()
    assert (4 * LADDERS.latency_s <= 0.1).all()


def test_the_top_rung_is_what_the_simulated_device_does_at_its_top_clocks():
    device = simulated.open("v100", seed=3)
    batch = round(LADDERS.rate_hz[0, -1] * LADDERS.latency_s[0, -1])
    graph = amble.load("fashion-resnet", batch=batch, device="sim:v100")
    whole = device.runner.profile(graph, OperatingPoint(device.actuator.available()[-1]), 20).whole
    assert whole.latency_s == pytest.approx(LADDERS.latency_s[0, -1], rel=0.1)
    assert whole.energy_j / whole.latency_s == pytest.approx(LADDERS.busy_w[0, -1], rel=0.15)


def test_a_fleet_mixes_the_kinds_evenly():
    fleet = LADDERS.fleet((30, 10))
    assert [(fleet.kind[start : start + 4] == 1).sum() for start in range(0, 40, 4)] == [1] * 10


def test_a_deadline_that_a_chip_cannot_meet_is_refused():
    with pytest.raises(Refused, match=r"cannot serve fashion-resnet within 0\.1 ms: give a longer deadline"):
        of_chips(CHIPS, "fashion-resnet", 1e-4)
