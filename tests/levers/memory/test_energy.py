"""Energies of memory, reckoned by hand from a chip with round numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from amble.levers.memory.energy import ArrayShares, DataDependence, DramChip, Module, Supply, System

SUPPLY = Supply(1.0, idd0_a=0.07, idd2n_a=0.03, idd3n_a=0.04, idd4r_a=0.14, idd4w_a=0.12, idd5_a=0.24)
CHIP = DramChip(
    source="made up",
    standard="made up",
    width_bits=8,
    num_banks=8,
    num_rows=1024,
    num_columns=1024,
    burst=8,
    clock_hz=1e9,
    data_rate=2,
    trcd=10,
    trp=10,
    tras=30,
    trc=40,
    trfc=100,
    trefi=5000,
    first=SUPPLY,
)
SYSTEM = System("made up", 1 << 20, 1e9, 1e9, 4.0, 0.5, weights_stay=False, active=0.5, note="")
ARRAY = ArrayShares(activate=1.0, refresh=1.0, transfer=1.0, background=1.0)
NONE = ArrayShares(0.0, 0.0, 0.0, 0.0)
ACTIVATE_J, PRECHARGE_J, READ_J, WRITE_J, REFRESH_J = 0.9e-9, 0.4e-9, 0.4e-9, 0.32e-9, 20e-9  # 0.03 A × 1 V × 30 ns, …


def exactly(value: float | tuple[float, ...]) -> Any:
    """Equal but for rounding, however small."""
    return pytest.approx(value, rel=1e-9, abs=0.0)


def module(shares: ArrayShares, chip: DramChip = CHIP) -> Module:
    return Module(chip, shares, SYSTEM)


def test_a_command_costs_what_its_current_takes_above_standby() -> None:
    energy = CHIP.command_j()
    found = (energy.activate_j, energy.precharge_j, energy.read_j, energy.write_j, energy.refresh_j)
    assert found == exactly((ACTIVATE_J, PRECHARGE_J, READ_J, WRITE_J, REFRESH_J))
    assert replace(CHIP, second=SUPPLY).command_j().read_j == exactly(2 * READ_J)
    assert CHIP.standby_w(active=0.25) == exactly(0.25 * 0.04 + 0.75 * 0.03)


def test_a_byte_has_its_share_of_a_line_and_of_opening_a_row() -> None:
    nominal = module(ARRAY)
    assert nominal.num_chips == 8
    assert nominal.size_bytes == 8 * 8 * 1024 * 1024
    assert nominal.read_j(1.0) == exactly(8 * ((ACTIVATE_J + PRECHARGE_J) / 4 + READ_J) / 64)
    assert nominal.written_j(1.0) == exactly(8 * ((ACTIVATE_J + PRECHARGE_J) / 4 + WRITE_J) / 64)
    assert nominal.read_s(1e-8, 1e-8) == exactly(0.5 * 2e-8 / (64 * 4))


@pytest.mark.parametrize(("ratio", "square"), [(0.5, 0.25), (0.8, 0.64)])
def test_energy_goes_as_the_square_of_the_arrays_voltage_and_the_rest_stays(ratio: float, square: float) -> None:
    for whole in (lambda m, r: m.read_j(r), lambda m, r: m.written_j(r), lambda m, r: m.held_w(r)):
        nominal = whole(module(ARRAY), 1.0)
        assert whole(module(ARRAY), ratio) == exactly(square * nominal)
        assert whole(module(NONE), ratio) == exactly(nominal)
    half = module(replace(NONE, transfer=0.5))
    moved_j, opened_j = 8 * READ_J / 64, 8 * (ACTIVATE_J + PRECHARGE_J) / 4 / 64
    assert half.read_j(ratio) == exactly(opened_j + (0.5 + 0.5 * square) * moved_j)


def test_holding_costs_standby_and_refresh_which_halves_with_twice_the_interval() -> None:
    refresh_w, standby_w = 8 * REFRESH_J * 1e9 / 5000, 8 * 0.035
    assert module(ARRAY).held_w(1.0) == exactly(refresh_w + standby_w)
    assert module(ARRAY).held_w(1.0, refresh_s=0.128) == exactly(refresh_w / 2 + standby_w)


def test_lines_of_half_ones_are_what_data_sheets_measure() -> None:
    data = DataDependence(base_a=0.1, per_8_ones_a=0.001)
    assert data.factor(0.5) == exactly(1.0)
    assert data.factor(1.0) == exactly((0.1 + 0.064) / (0.1 + 0.032))
