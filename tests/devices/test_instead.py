"""What else of a device can be set where its clocks cannot."""

from __future__ import annotations

import pytest

from amble.core.address import Address
from amble.devices.instead import limited


@pytest.mark.parametrize(
    ("device", "power"),
    [("nvml:1", "nvml:1/power"), ("nvml", "nvml:0/power"), ("sysfs:gpu", None), ("host", None), ("sim:v100", None)],
)
def test_a_card_has_a_power_limit_beside_its_clocks(device: str, power: str | None) -> None:
    assert limited(Address.parse(device)) == power
