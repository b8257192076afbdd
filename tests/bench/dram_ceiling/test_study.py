"""The ceiling of savings by voltage: shares that add up, and no more than the square of the voltage."""

from __future__ import annotations

import pytest

from amble.levers.memory import modules as memory
from amble.levers.memory.partitions import Stored
from bench.dram_ceiling import study as dram_ceiling

TENSORS = [Stored("w", 1_000_000, 1e-4, 1e6), Stored("x", 500_000, 1e-4, 5e5, 5e5)]


@pytest.mark.parametrize("system", sorted(dram_ceiling.PUBLISHED))
def test_shares_are_those_that_the_energy_model_scales(system: str) -> None:
    made = memory.module("ddr4-2400", system)
    shares = dram_ceiling.terms(made, TENSORS, 2e-3)
    assert sum(shares.values()) == pytest.approx(1.0)

    def energy_j(ratio: float) -> float:
        moved = sum(t.read_bytes * made.read_j(ratio) + t.written_bytes * made.written_j(ratio) for t in TENSORS)
        return moved + made.held_w(ratio) * 2e-3 / 8

    assert dram_ceiling.saved(made, shares, 0.8) == pytest.approx(1.0 - energy_j(0.8) / energy_j(1.0))


def test_nothing_saves_more_than_the_square_of_the_voltage() -> None:
    shares = {"rows": 0.2, "transfer": 0.5, "refresh": 0.1, "background": 0.2}
    made = memory.module("ddr4-2400", "cpu")
    assert dram_ceiling.saved(made, shares, 1.0) == 0.0
    assert 0.0 < dram_ceiling.saved(made, shares, 0.8) < 1.0 - 0.8**2
