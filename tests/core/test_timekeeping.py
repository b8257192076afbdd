"""Only times of this machine carry a caution."""

from __future__ import annotations

import pytest

from amble.core.timekeeping import caution, measure_of


@pytest.mark.parametrize("device", ["host", "host:0"])
def test_whoever_plans_with_this_machines_times_is_told_what_they_are(device: str) -> None:
    assert measure_of(device) == "CPU time of the thread"
    assert "on a busier one they come later" in caution(device)[0]


@pytest.mark.parametrize("device", ["sim:jetson-tx2", "recorded:v100", "hostess"])
def test_other_devices_times_are_those_of_their_answers(device: str) -> None:
    assert measure_of(device) == "the device's own time"
    assert caution(device) == ()
