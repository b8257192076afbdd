"""Memory energy follows DRAMPower's equations on the shipped specifications."""

from __future__ import annotations

import pytest

from amble.core.errors import Refused
from amble.levers.memory import modules as memory

ORACLES_PJ = {  # per command and chip: activate, precharge, read, write, refresh; first supply
    "ddr4-2400": (653.2, 360.0, 562.0, 499.0, 23_162),
    "ddr4-1866": (689.4, 376.2, 607.1, 491.3, 24_534),
    "ddr3-1600": (1312.5, 468.8, 712.5, 750.0, 20_625),
}


@pytest.mark.parametrize("chip", ORACLES_PJ)
def test_commands_cost_what_the_equations_say(chip: str) -> None:
    energy = memory.module(chip, "cpu").chip.command_j()
    found = (energy.activate_j, energy.precharge_j, energy.read_j, energy.write_j, energy.refresh_j)
    assert [each * 1e12 for each in found] == pytest.approx(ORACLES_PJ[chip], rel=2e-3)


def test_the_second_supply_of_low_power_memory_is_counted() -> None:
    chip = memory.module("lpddr3-1600", "cpu").chip
    assert chip.second is not None
    second = 1.2 * (0.260 - 0.045) * 4 / 800e6
    assert chip.command_j().read_j == pytest.approx(second + 1.8 * (0.005 - 0.002) * 4 / 800e6)


def test_eight_chips_of_eight_bits_make_four_gibibytes() -> None:
    made = memory.module("ddr4-2400", "cpu")
    assert (made.num_chips, made.size_bytes) == (8, 4 << 30)


def test_lowering_the_array_supply_saves_less_than_its_square() -> None:
    made = memory.module("ddr4-2400", "eyeriss")
    for term in (made.read_j, made.written_j, made.held_w):
        assert 0.8**2 < term(0.8) / term(1.0) < 1.0
    assert made.read_j(1.0) > made.read_j(0.9) > made.read_j(0.8)


def test_refreshing_less_often_saves_the_refresh_alone() -> None:
    made = memory.module("ddr4-2400", "cpu")
    refresh_w = 8 * 23_162e-12 * 1.2e9 / 4680
    assert made.held_w(1.0) - made.held_w(1.0, refresh_s=0.128) == pytest.approx(refresh_w / 2, rel=2e-3)


def test_shorter_timings_save_time_on_processors_and_none_on_prefetching_accelerators() -> None:
    cpu, tpu = memory.module("ddr4-2400", "cpu"), memory.module("ddr4-2400", "tpu")
    assert cpu.read_s(13.75e-9, 13.75e-9) > cpu.read_s(7.5e-9, 13.75e-9) > 0
    assert tpu.read_s(13.75e-9, 13.75e-9) == 0


@pytest.mark.parametrize("vendor", ["A", "B", "C"])
def test_reading_ones_costs_more_and_writing_ones_costs_less(vendor: str) -> None:
    read, write = (memory.data_dependence(vendor, writing=writing) for writing in (False, True))
    assert read.factor(1.0) > read.factor(0.5) == 1.0 > read.factor(0.0)
    assert write.factor(1.0) < write.factor(0.5) == 1.0 < write.factor(0.0)


def test_all_that_is_named_can_be_opened() -> None:
    found = memory.names()
    for chip in found["chips"]:
        for system in found["systems"]:
            assert memory.module(chip, system).held_w(1.0) > 0
    assert [memory.profile(name).name for name in found["modules"]] == list(found["modules"])
    assert memory.profile("vendorB").name == "ddr3-vendorB"


def test_unknown_names_are_refused_with_those_there_are() -> None:
    with pytest.raises(Refused, match="ddr4-2400"):
        memory.module("ddr9", "cpu")
    with pytest.raises(Refused, match="eyeriss"):
        memory.module("ddr4-2400", "abacus")
    with pytest.raises(Refused, match="ddr3-vendorA"):
        memory.profile("vendorZ")
    with pytest.raises(Refused, match="vendorA"):
        memory.data_dependence("Z", writing=True)
