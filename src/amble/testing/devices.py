"""What every meter, actuator and device must do, whatever is behind it."""

from __future__ import annotations

import contextlib
import itertools

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.point import DOMAINS, Clocks
from amble.core.ports import Actuator, Clock, Device, Meter
from amble.devices.host import MonotonicClock

__all__ = ["ActuatorConformance", "DeviceConformance", "MeterConformance"]

_SETTLE_S = 0.05
_MOST_SETTINGS = 12  # that are tried, of the many that a grid may have
_ACCURACY = (0.5, 1.05)  # of what was asked, that a busy device under a power cap may run at
_NOWHERE = Clocks(core_hz=123.0, memory_hz=4.0, cpu_hz=5.0)


class MeterConformance:
    """Rules of a meter. Give the fixture ``meter``; ``clock`` too where the back end has a time of its own."""

    @pytest.fixture
    def clock(self) -> Clock:
        """This machine's time."""
        return MonotonicClock()

    def test_time_and_energy_never_go_back(self, meter: Meter, clock: Clock) -> None:
        """Between any two readings neither time nor energy is negative."""
        readings = [meter.read()]
        for _ in range(3):
            clock.sleep(0.003)
            readings.append(meter.read())
        for before, after in itertools.pairwise(readings):
            passed = after - before
            assert passed.latency_s >= 0
            assert passed.energy_j is None or passed.energy_j >= 0

    def test_energy_is_known_or_none_and_never_a_placeholder(self, meter: Meter, clock: Clock) -> None:
        """A device that is on takes energy: what is not measured is None and never 0."""
        before = meter.read()
        clock.sleep(0.01)
        passed = meter.read() - before
        assert passed.latency_s > 0
        assert passed.energy_j is None or passed.energy_j > 0


class ActuatorConformance:
    """Rules of an actuator. Give the fixture ``actuator``; ``clock`` too where the back end has a time of its own."""

    @pytest.fixture
    def clock(self) -> Clock:
        """This machine's time."""
        return MonotonicClock()

    def test_available_is_sorted_slowest_first_without_repeats(self, actuator: Actuator) -> None:
        """No setting comes after one that is at least as fast in every knob."""
        settings = actuator.available()
        levels = np.array([[0.0 if value is None else value for value in _knobs(clocks)] for clocks in settings])
        assert len(settings) >= 1
        assert len(set(settings)) == len(settings)
        for at in range(1, len(settings)):
            assert not (levels[:at] >= levels[at]).all(axis=1).any(), settings[at]

    def test_every_available_setting_names_the_same_knobs(self, actuator: Actuator) -> None:
        """A knob is there in all settings or in none."""
        assert len({tuple(value is None for value in _knobs(clocks)) for clocks in actuator.available()}) == 1

    def test_every_setting_that_is_available_can_be_applied(self, actuator: Actuator) -> None:
        """Nothing that is offered is refused."""
        available = actuator.available()
        for clocks in available[:: max(1, len(available) // _MOST_SETTINGS)]:
            actuator.apply(clocks)
        actuator.apply(available[-1])

    def test_current_names_the_knobs_of_what_was_applied(self, actuator: Actuator, clock: Clock) -> None:
        """What runs is read back: the same knobs, at most a little faster than asked."""
        for clocks in {actuator.available()[0], actuator.available()[-1]}:
            actuator.apply(clocks)
            clock.sleep(_SETTLE_S)
            current = actuator.current()
            assert [value is None for value in _knobs(current)] == [value is None for value in _knobs(clocks)]
            for asked, got in zip(_knobs(clocks), _knobs(current), strict=True):
                if asked is not None and got is not None:
                    assert asked * _ACCURACY[0] <= got <= asked * _ACCURACY[1]

    def test_unknown_clocks_are_refused_and_change_nothing(self, actuator: Actuator, clock: Clock) -> None:
        """Nothing is snapped to the nearest setting."""
        actuator.apply(actuator.available()[0])
        clock.sleep(_SETTLE_S)
        before = actuator.current()
        with pytest.raises(Refused):
            actuator.apply(_NOWHERE)
        clock.sleep(_SETTLE_S)
        assert actuator.current() == before


class DeviceConformance(MeterConformance, ActuatorConformance):
    """Rules of a whole device, its meter and its actuator. Give the fixture ``device``."""

    @pytest.fixture
    def clock(self, device: Device) -> Clock:
        """The device's own time."""
        return device.clock

    @pytest.fixture
    def meter(self, device: Device) -> Meter:
        """The device's meter."""
        return device.meter

    @pytest.fixture
    def actuator(self, device: Device) -> Actuator:
        """The device's actuator."""
        return device.actuator

    def test_held_puts_back_what_was_found_after_an_exception(self, device: Device) -> None:
        """Whatever happens inside the block."""
        found = device.actuator.current()
        with contextlib.suppress(ZeroDivisionError), device.held(device.actuator.available()[0]):
            device.clock.sleep(_SETTLE_S)
            raise ZeroDivisionError
        device.clock.sleep(_SETTLE_S)
        assert device.actuator.current() == found

    def test_held_inside_held_puts_back_the_outer_setting(self, device: Device) -> None:
        """What is put back is what was found, and not the fastest."""
        first, last = device.actuator.available()[0], device.actuator.available()[-1]
        with device.held(last):
            device.clock.sleep(_SETTLE_S)
            outer = device.actuator.current()
            with device.held(first):
                device.clock.sleep(_SETTLE_S)
            device.clock.sleep(_SETTLE_S)
            assert device.actuator.current() == outer

    def test_the_meter_tells_the_time_of_the_devices_clock(self, device: Device) -> None:
        """One time for the device."""
        before_s = device.clock.now_s()
        read_s = device.meter.read().time_s
        assert before_s <= read_s <= device.clock.now_s()

    def test_energy_never_goes_back_when_clocks_change(self, device: Device) -> None:
        """A change of clocks costs energy or nothing."""
        for clocks in (device.actuator.available()[0], device.actuator.available()[-1]):
            before = device.meter.read()
            device.actuator.apply(clocks)
            passed = device.meter.read() - before
            assert passed.latency_s >= 0
            assert passed.energy_j is None or passed.energy_j >= 0

    def test_sleeping_takes_at_least_the_time_asked_for(self, device: Device) -> None:
        """Deadlines rest on it."""
        before_s = device.clock.now_s()
        device.clock.sleep(0.002)
        assert device.clock.now_s() - before_s >= 0.002 * (1 - 1e-9)

    def test_a_device_says_who_it_is_and_how_real_it_is(self, device: Device) -> None:
        """Every report rests on it."""
        assert device.name
        assert device.calibration == "real" or device.calibration.startswith(
            ("recorded: ", "calibrated", "uncalibrated")
        )
        assert device.precisions


def _knobs(clocks: Clocks) -> tuple[float | None, ...]:
    return (*(clocks.of(domain) for domain in DOMAINS), clocks.power_limit_w, clocks.cpu_share)
