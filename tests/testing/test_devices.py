"""The suites of meters, actuators and devices catch what is broken, and pass what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from amble.core.cost import Reading
from amble.core.point import Clocks
from amble.core.ports import Device
from amble.testing import ActuatorConformance, DeviceConformance, MeterConformance
from tests.fakes import LEVELS, FakeDevice


class TestSound(DeviceConformance):
    @pytest.fixture
    def device(self) -> Device:
        return FakeDevice(settle_s=0.01, stall_s=0.001).device()


@dataclass
class Placeholder(FakeDevice):
    """Says 0 J where it does not know."""

    def read(self) -> Reading:
        return Reading(self.time_s, 0.0)


@dataclass
class Wrapping(FakeDevice):
    """Its counter starts anew after a tenth of a joule, which nobody adds up."""

    def read(self) -> Reading:
        return Reading(self.time_s, self.energy_j % 0.005)


@dataclass
class Snapping(FakeDevice):
    """Takes the nearest clocks for any."""

    def apply(self, clocks: Clocks) -> None:
        super().apply(clocks if clocks in self.settings else self.settings[-1])


@dataclass
class Boasting(FakeDevice):
    """Offers what it refuses."""

    def available(self) -> tuple[Clocks, ...]:
        return (*self.settings, Clocks(core_hz=3e9))


@dataclass
class Stuck(FakeDevice):
    """Says nothing, and stays where it is."""

    settings: tuple[Clocks, ...] = (Clocks(core_hz=0.1e9), LEVELS[-1])

    def current(self) -> Clocks:
        return LEVELS[-1]


@dataclass
class Forgetful(FakeDevice):
    """Reads no knob back."""

    def current(self) -> Clocks:
        return Clocks()


@dataclass
class Hasty(FakeDevice):
    """Wakes early."""

    def sleep(self, duration_s: float) -> None:
        super().sleep(0.5 * duration_s)


METERS = DeviceConformance()


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (Placeholder(), MeterConformance.test_energy_is_known_or_none_and_never_a_placeholder),
        (Wrapping(), MeterConformance.test_time_and_energy_never_go_back),
    ],
)
def test_a_broken_meter_is_caught(broken: FakeDevice, rule: Callable[..., None]) -> None:
    with pytest.raises(AssertionError):
        rule(METERS, broken, broken)


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (Snapping(), ActuatorConformance.test_unknown_clocks_are_refused_and_change_nothing),
        (Stuck(), ActuatorConformance.test_current_names_the_knobs_of_what_was_applied),
        (Forgetful(), ActuatorConformance.test_current_names_the_knobs_of_what_was_applied),
    ],
)
def test_a_broken_actuator_is_caught(broken: FakeDevice, rule: Callable[..., None]) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        rule(METERS, broken, broken)


def test_settings_out_of_order_or_twice_are_caught() -> None:
    for settings in ((LEVELS[1], LEVELS[0]), (LEVELS[0], LEVELS[0])):
        with pytest.raises(AssertionError):
            METERS.test_available_is_sorted_slowest_first_without_repeats(FakeDevice(settings=settings))
    mixed = FakeDevice(settings=(LEVELS[0], Clocks(cpu_hz=1e9)))
    with pytest.raises(AssertionError):
        METERS.test_every_available_setting_names_the_same_knobs(mixed)


def test_an_offer_that_is_refused_is_caught() -> None:
    with pytest.raises(Exception, match="no such clocks"):
        METERS.test_every_setting_that_is_available_can_be_applied(Boasting())


@dataclass(frozen=True)
class Careless(Device):
    """Leaves the clocks where the block had them."""

    @contextmanager
    def held(self, clocks: Clocks) -> Iterator[Clocks]:
        self.actuator.apply(clocks)
        yield self.actuator.current()


def careless() -> Device:
    fake = FakeDevice()
    return Careless("fake:device", fake, fake, fake, fake, "real")


@dataclass
class Elsewhere:
    """A meter with a time of its own."""

    readings: list[Reading] = field(default_factory=list)

    def read(self) -> Reading:
        return Reading(1e9, None)


@pytest.mark.parametrize(
    ("device", "rule"),
    [
        (careless(), DeviceConformance.test_held_puts_back_what_was_found_after_an_exception),
        (careless(), DeviceConformance.test_held_inside_held_puts_back_the_outer_setting),
        (Hasty().device(), DeviceConformance.test_sleeping_takes_at_least_the_time_asked_for),
        (
            replace(FakeDevice().device(), meter=Elsewhere()),
            DeviceConformance.test_the_meter_tells_the_time_of_the_devices_clock,
        ),
        (
            replace(FakeDevice().device(), calibration="good"),
            DeviceConformance.test_a_device_says_who_it_is_and_how_real_it_is,
        ),
    ],
)
def test_a_broken_device_is_caught(device: Device, rule: Callable[..., None]) -> None:
    with pytest.raises(AssertionError):
        rule(DeviceConformance(), device)
