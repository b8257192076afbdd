"""A chip's TOML file → the numbers that the simulated device's physics needs; each file gives a source for each number.

Files whose name starts with ``_`` hold kernel tables, which several chips share.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
import numpy as np

from amble.core.errors import Refused
from amble.core.point import DOMAINS, Clocks, Domain
from amble.core.ports import FloatArray

__all__ = ["Chip", "Compute", "Host", "Kernel", "Memory", "Noise", "Power", "Switching", "Thermal", "chips", "load"]

_ALIASES = {"snapdragon-phone": "snapdragon-phone-gpu"}


@dataclass(frozen=True, slots=True)
class Compute:
    """The core clock's side: SMs (or CPU cores), their FMA lanes per clock and precision, and what keeps them fed.

    ``issue_efficiency`` is for plain multiply-adds; kernels of products reach ``kernel_efficiency`` of what they do in
    FP32. ``customers_per_warp`` is how many of a resident warp's loads overlap with work; ``saturating_warps`` is how
    many warps an SM needs to issue at its full rate. A product's block starts with ``prologue_slots``
    issue slots for each thread and ends with ``epilogue_slots`` for each output.
    """

    units: int
    fma_per_clock: dict[str, float]
    issue_efficiency: dict[str, float]
    kernel_efficiency: dict[str, float]
    saturating_warps: float
    customers_per_warp: float
    prologue_slots: float
    epilogue_slots: float


@dataclass(frozen=True, slots=True)
class Memory:
    """L2 (on the core clock) and DRAM (on the memory clock).

    ``dram_efficiency`` is the share of the peak rate that a long stream gets, one per memory clock. ``visit_bytes`` is
    what one customer asks for before it waits; waiting takes ``latency_core_cycles`` to L2, and ``latency_s`` to DRAM.
    """

    dram_bytes_per_cycle: float
    dram_efficiency: list[float]
    l2_bytes_per_cycle: float
    l2_size_bytes: float
    latency_core_cycles: float
    latency_s: float
    visit_bytes: float


@dataclass(frozen=True, slots=True)
class Host:
    """What starting a kernel costs: cycles of the host CPU, fixed time, and core cycles between two kernels.

    ``batched`` is how many kernels one submission carries (command graphs make it large).
    """

    launch_cycles: float
    launch_s: float
    gap_cycles: float
    batched: float = 1.0


@dataclass(frozen=True, slots=True)
class Power:
    """Where the watts go. Voltages are relative to the lowest one: ``voltage`` holds (core MHz, ratio) knots.

    ``issue_pj`` is for one cycle in which an SM issues, ``fma_pj`` for one multiply-add; ``idle_share`` and
    ``idle_leak_share`` are what gating leaves of the clock tree's power and of leakage while nothing runs.
    ``dram_w``, ``soc_w``: one value per memory clock; ``cpu_busy_w``, ``cpu_idle_w``: one per CPU clock. Board input
    is ``board_w + (1 + loss) × sum of the rails``.
    """

    board_w: float
    loss: float
    voltage: list[tuple[float, float]]
    leak_w: float
    leak_per_c: float
    clock_w_per_ghz: float
    idle_share: float
    idle_leak_share: float
    issue_pj: float
    fma_pj: dict[str, float]
    l2_pj_per_byte: float
    dram_pj_per_byte: float
    dram_w: list[float]
    soc_w: list[float]
    cpu_busy_w: list[float]
    cpu_idle_w: list[float]
    cap_w: float


@dataclass(frozen=True, slots=True)
class Thermal:
    """One thermal mass: ambient [°C], °C per W of board power, time constant; clocks fall above ``throttle_c``."""

    ambient_c: float
    resistance_c_per_w: float
    time_constant_s: float
    throttle_c: float
    resume_c: float


@dataclass(frozen=True, slots=True)
class Switching:
    """One domain's change: the work stalls for ``stall_s``; the new clock runs ``settle_s`` after the request."""

    stall_s: float
    settle_s: float
    energy_j: float


@dataclass(frozen=True, slots=True)
class Noise:
    """Log-normal jitter per operator and per run (means one), and rare spikes of ``spike_share × (1 + Pareto)``."""

    sigma: float
    run_sigma: float
    spike_rate: float
    spike_share: float


@dataclass(frozen=True, slots=True)
class Kernel:
    """One way to run an operator: its tile of outputs and what a block of it needs.

    ``flops_ratio`` is below 1 for Winograd; ``access`` is the share of the DRAM's rate that its access pattern gets;
    ``transforms`` is extra traffic, in multiples of the activations and outputs.
    """

    tile_m: int
    tile_n: int
    warps: float
    resident: int
    stages: float
    efficiency: float
    access: float
    flops_ratio: float = 1.0
    transforms: float = 0.0
    split_max: int = 1


@dataclass(frozen=True, slots=True)
class Chip:
    """A chip: clock ladders in MHz (ascending; ``cpu_mhz`` empty where there is no host CPU clock) and its parts."""

    name: str
    title: str
    calibration: str
    kernels: str
    precisions: list[str]
    knobs: list[Domain]
    core_mhz: list[float]
    memory_mhz: list[float]
    cpu_mhz: list[float]
    core_governor: str
    compute: Compute
    memory: Memory
    host: Host
    power: Power
    thermal: Thermal
    switching: dict[Domain, Switching]
    noise: Noise
    efficiency: dict[str, float] = field(default_factory=dict)  # class of kernels -> factor on its efficiency

    def ladder(self, domain: Domain) -> FloatArray:
        """Return a domain's legal clocks [Hz], ascending; empty where the chip has none."""
        mhz = {"core": self.core_mhz, "memory": self.memory_mhz, "cpu": self.cpu_mhz}[domain]
        return np.round(np.asarray(mhz, dtype=np.float64) * 1e6)

    def fastest(self) -> Clocks:
        """Return the highest clock of every domain."""
        tops = {domain: float(self.ladder(domain)[-1]) for domain in DOMAINS if len(self.ladder(domain))}
        return Clocks(tops.get("core"), tops.get("memory"), tops.get("cpu"))


def chips() -> tuple[str, ...]:
    """Return the names of all chips, aliases not included."""
    names = (entry.name for entry in (files("amble.devices.simulated") / "chips").iterdir())
    return tuple(sorted(name[:-5] for name in names if name.endswith(".toml") and not name.startswith("_")))


def load(name: str) -> Chip:
    """Read a chip by its name; Refused, with the known and the nearest names, when there is none."""
    name = _ALIASES.get(name, name)
    if name not in chips():
        nearest = get_close_matches(name, chips(), n=1, cutoff=0.4)
        hint = f"; did you mean {nearest[0]}?" if nearest else "."
        raise Refused(f"no simulated chip {name!r}{hint} Known: {', '.join(chips())}")
    return msgspec.convert({"name": name, **_document(name)}, Chip)


@cache
def kernels(table: str) -> dict[str, tuple[Kernel, ...]]:
    """Read a table of kernels: class of operator → the candidates its library chooses from."""
    document = _document(f"_kernels-{table}")
    return {name: tuple(msgspec.convert(each, Kernel) for each in document[name]) for name in document}


def _document(name: str) -> dict[str, Any]:
    return tomllib.loads((files("amble.devices.simulated") / "chips" / f"{name}.toml").read_text(encoding="utf-8"))
