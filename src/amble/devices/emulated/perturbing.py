"""A chip, a seed → the same chip with every parameter of its physics a little off: a card that nobody has data of.

What a data sheet fixes stays: the levels of the clocks, the number of SMs, the limits of power and temperature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from amble.devices.simulated.chip import Chip, Power, Switching

__all__ = ["SPREAD", "perturbed"]

SPREAD = 0.15

Draw = Callable[[], float]


def perturbed(chip: Chip, seed: int, *, spread: float = SPREAD) -> Chip:
    """Return the chip with each parameter times its own factor from 1 − spread to 1 + spread."""
    rng = np.random.default_rng(seed)

    def draw() -> float:
        return float(rng.uniform(1 - spread, 1 + spread))

    compute, memory, host = chip.compute, chip.memory, chip.host
    shared = draw()
    return replace(
        chip,
        compute=replace(
            compute,
            issue_efficiency={name: min(1.0, value * draw()) for name, value in compute.issue_efficiency.items()},
            customers_per_warp=compute.customers_per_warp * draw(),
            prologue_slots=compute.prologue_slots * draw(),
            epilogue_slots=compute.epilogue_slots * draw(),
        ),
        memory=replace(
            memory,
            dram_efficiency=[value * shared for value in memory.dram_efficiency],
            l2_bytes_per_cycle=memory.l2_bytes_per_cycle * draw(),
            latency_core_cycles=memory.latency_core_cycles * draw(),
            latency_s=memory.latency_s * draw(),
        ),
        host=replace(host, launch_s=host.launch_s * draw(), gap_cycles=host.gap_cycles * draw()),
        power=_power(chip.power, draw),
        thermal=replace(
            chip.thermal,
            resistance_c_per_w=chip.thermal.resistance_c_per_w * draw(),
            time_constant_s=chip.thermal.time_constant_s * draw(),
        ),
        switching={name: _switching(each, draw) for name, each in chip.switching.items()},
    )


def _power(power: Power, draw: Draw) -> Power:
    above, dram, soc = draw(), draw(), draw()
    return replace(
        power,
        board_w=power.board_w * draw(),
        voltage=[(mhz, 1.0 + (ratio - 1.0) * above) for mhz, ratio in power.voltage],
        leak_w=power.leak_w * draw(),
        leak_per_c=power.leak_per_c * draw(),
        clock_w_per_ghz=power.clock_w_per_ghz * draw(),
        idle_share=power.idle_share * draw(),
        idle_leak_share=power.idle_leak_share * draw(),
        issue_pj=power.issue_pj * draw(),
        fma_pj={name: value * draw() for name, value in power.fma_pj.items()},
        l2_pj_per_byte=power.l2_pj_per_byte * draw(),
        dram_pj_per_byte=power.dram_pj_per_byte * draw(),
        dram_w=[value * dram for value in power.dram_w],
        soc_w=[value * soc for value in power.soc_w],
    )


def _switching(cost: Switching, draw: Draw) -> Switching:
    return replace(cost, settle_s=cost.settle_s * draw())
