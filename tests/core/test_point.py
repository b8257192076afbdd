"""Clocks say which knobs they set, and nothing of those a device has not."""

from __future__ import annotations

from amble.core.point import DOMAINS, Clocks, OperatingPoint


def test_every_domain_has_its_clock() -> None:
    clocks = Clocks(1.3e9, 1.866e9, 2e9, 15.0)
    assert tuple(clocks.of(domain) for domain in DOMAINS) == (1.3e9, 1.866e9, 2e9)
    assert clocks.knobs() == (1.3e9, 1.866e9, 2e9, 15.0, None)


def test_only_knobs_that_are_set_are_written() -> None:
    assert str(Clocks(1.3e9, 1.866e9)) == "core 1300 MHz, memory 1866 MHz"
    assert str(Clocks(cpu_hz=2e9, power_limit_w=15.0)) == "cpu 2000 MHz, limit 15 W"
    assert str(Clocks()) == "fixed clocks"


def test_other_clocks_leave_the_rest_of_a_choice_alone() -> None:
    point = OperatingPoint(Clocks(1e9), "int8", "server", "low")
    assert point.at(Clocks(2e9)) == OperatingPoint(Clocks(2e9), "int8", "server", "low")
    assert point.clocks == Clocks(1e9)
