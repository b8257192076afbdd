"""What lowering the voltage can save at most in each system, beside the averages that EDEN published, and why not more.

The bundled network, FP32, with every tensor at the lowest supply voltage that was tested for a vendor, its errors
ignored: no mapping can save more by voltage. Two accountings. `assumed`: only the array's share of each term follows
the voltage, as decision 3 has it. `all`: everything does, input and output too, which is what a saving of V^2 alone
would claim. The shares say where the energy goes at ratings. Nothing is promised here, so
there are no targets.
"""

from __future__ import annotations

from bench.kit import document

document.on_one_core()

from dataclasses import replace  # noqa: E402  after the threads are set
from pathlib import Path  # noqa: E402

from amble import inputs  # noqa: E402
from amble.levers.memory import approximating  # noqa: E402
from amble.levers.memory import modules as memory  # noqa: E402
from amble.levers.memory.energy import ArrayShares, Module  # noqa: E402
from amble.levers.memory.partitions import Stored  # noqa: E402
from amble.runtimes.onnx.faulty import FaultyOnnx  # noqa: E402

PUBLISHED = {"cpu": 0.21, "gpu": 0.37, "eyeriss": 0.31, "tpu": 0.32}
VENDORS = ("A", "B", "C")
CHIP = "ddr4-2400"
ALL = ArrayShares(activate=1.0, refresh=1.0, transfer=1.0, background=1.0)


def main() -> None:
    options = document.options("dram_ceiling", __doc__)
    graph = inputs.load("fashion-resnet")
    found, _ = approximating.halves("bundled", "image", 2, lambda: inputs.labelled("bundled", graph))
    network = approximating.Faulty.of(FaultyOnnx(Path(graph.source)), found)
    limits = dict.fromkeys(network.types, 0.5)
    flops = sum(each.flops for each in graph.operators)
    results: list[dict[str, object]] = []
    for system, published in PUBLISHED.items():
        made = memory.module(CHIP, system)
        duration_s, tensors = approximating.stored(network, limits, made, flops)
        shares = terms(made, tensors, duration_s)
        for vendor in VENDORS:
            curve = memory.profile(f"vendor{vendor}").voltage
            assert curve is not None
            row = {
                "system": system,
                "vendor": vendor,
                "lowest_ratio": curve.lowest_ratio,
                **shares,
                "assumed": saved(made, shares, curve.lowest_ratio),
                "all": saved(replace(made, shares=ALL), shares, curve.lowest_ratio),
                "published": published,
            }
            results.append(row)
    document.finish(options, results, [])


def terms(made: Module, tensors: list[Stored], duration_s: float) -> dict[str, float]:
    """Return the share of each term in the energy at ratings: rows, transfers, refresh, background; one bank of 8."""
    energy, chip = made.chip.command_j(), made.chip
    read = sum(each.read_bytes for each in tensors)
    written = sum(each.written_bytes for each in tensors)
    lines = made.num_chips / 64
    held = made.num_chips * duration_s / 8
    parts = {
        "rows": (read + written) * lines * (energy.activate_j + energy.precharge_j) / made.system.lines_per_activation,
        "transfer": lines * (read * energy.read_j + written * energy.write_j),
        "refresh": held * energy.refresh_j * chip.clock_hz / chip.trefi,
        "background": held * chip.standby_w(active=made.system.active),
    }
    total = sum(parts.values())
    return {name: part / total for name, part in parts.items()}


def saved(made: Module, shares: dict[str, float], ratio: float) -> float:
    """Return the share of the energy that this supply voltage saves."""
    array = {
        "rows": made.shares.activate,
        "transfer": made.shares.transfer,
        "refresh": made.shares.refresh,
        "background": made.shares.background,
    }
    return sum(share * array[name] for name, share in shares.items()) * (1.0 - ratio**2)
