"""This machine's CPU → Device: its monotonic clock, RAPL energy where it can be read, cpufreq bounds where they exist.

What a machine does not offer is unknown (None), never zero, and ``rights`` says which right is missing and its remedy.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from amble.core.cost import Reading
from amble.core.errors import Refused
from amble.core.ports import Clock, Device, Meter, Runner
from amble.devices.facts import Description
from amble.devices.knobs import BoundedKnob, Bounds, FileActuator, missing_writes, read_text

__all__ = ["MonotonicClock", "RaplMeter", "Unmetered", "Zone", "describe", "open", "rights", "zones"]

_CPUFREQ = "sys/devices/system/cpu/cpufreq"
_POWERCAP = "sys/class/powercap"
_FILES = ("scaling_min_freq", "scaling_max_freq", "cpuinfo_min_freq", "cpuinfo_max_freq")
_STEP_HZ = 100e6  # where a driver names no levels: Intel's ratio, also a sensible grain elsewhere
_NO_CLOCK = "this machine has no cpufreq, so its CPU clock cannot be set (usual in virtual machines)"


class MonotonicClock:
    """The host's time."""

    def now_s(self) -> float:
        """Return the time [s] since an arbitrary origin; it never goes back."""
        return time.perf_counter()

    def sleep(self, duration_s: float) -> None:
        """Let this much time [s] pass."""
        time.sleep(max(0.0, duration_s))


@dataclass(frozen=True, slots=True)
class Unmetered:
    """Tells the time and no energy, on a machine without a counter."""

    clock: Clock

    def read(self) -> Reading:
        """Return the time and an unknown energy."""
        return Reading(self.clock.now_s(), None)


@dataclass(frozen=True, slots=True)
class Zone:
    """One RAPL counter: a package, or the DRAM beside it. ``range_uj`` is where it wraps."""

    name: str
    energy: Path
    range_uj: int


class RaplMeter:
    """Adds up RAPL counters across their wraps.

    A counter wraps every few minutes to hours, depending on the load: two wraps between two readings cannot be seen,
    so read at least once a minute. When one counter cannot be read the energy is unknown, never a part of it.
    """

    def __init__(self, clock: Clock, zones: tuple[Zone, ...]) -> None:
        self._clock = clock
        self._zones = zones
        self._last_uj: dict[str, int] = {}
        self._total_uj = 0

    def read(self) -> Reading:
        """Return time and energy since the first reading; energy None while a counter cannot be read."""
        try:
            counters_uj = [int(read_text(zone.energy)) for zone in self._zones]
        except (Refused, ValueError):
            return Reading(self._clock.now_s(), None)
        for zone, now_uj in zip(self._zones, counters_uj, strict=True):
            passed_uj = now_uj - self._last_uj.get(zone.name, now_uj)
            self._total_uj += passed_uj if passed_uj >= 0 else passed_uj + zone.range_uj
            self._last_uj[zone.name] = now_uj
        return Reading(self._clock.now_s(), self._total_uj * 1e-6)


def open(  # noqa: A001
    runner: Runner,
    *,
    sysfs_root: Path = Path("/"),
    precisions: tuple[str, ...] = ("fp32",),
    cpus: tuple[int, ...] = (),
    name: str = "host",
) -> Device:
    """Open this machine's CPU; ``runner`` runs the graphs. Nothing is changed until a clock is applied.

    ``cpus`` are those that the work runs on: the clock is then that of their cluster, and clusters differ on boards
    with large and small cores.
    """
    clock = MonotonicClock()
    knob = _cpu_knob(sysfs_root, cpus)
    actuator = FileActuator([knob] if knob else [], refusal=_NO_CLOCK)
    return Device(name, clock, _meter(sysfs_root, clock), actuator, runner, "real", precisions)


def rights(sysfs_root: Path = Path("/")) -> tuple[str, ...]:
    """Return what keeps amble from the energy and the clocks of this machine, one line each with its remedy."""
    return (*_missing_energy(sysfs_root), *_missing_clocks(sysfs_root))


def describe(sysfs_root: Path = Path("/")) -> Description:
    """Describe this machine's CPU as a device."""
    knob, found = _cpu_knob(sysfs_root), zones(sysfs_root)
    clocks = "fixed clocks"
    if knob is not None:
        low, high = knob.levels_hz[0] / 1e6, knob.levels_hz[-1] / 1e6
        clocks = f"cpu {len(knob.levels_hz)} levels, {low:g} to {high:g} MHz, on {len(knob.nodes)} policies"
    meter = "RAPL " + ", ".join(zone.name for zone in found) if _readable(found) else "unknown"
    return Description("host", "real", clocks, meter, rights(sysfs_root))


def zones(sysfs_root: Path) -> tuple[Zone, ...]:
    """Return the RAPL counters that make up the machine: every package and its DRAM, each once.

    A package contains its ``core`` and ``uncore``; ``psys`` contains the packages, and stands for them where there
    are none. A package that is shown twice (``intel-rapl:0`` and ``intel-rapl-mmio:0``) counts once.
    """
    found: dict[str, Zone] = {}
    counters = (sysfs_root / _POWERCAP).glob("*/energy_uj")
    for energy in sorted(counters, key=lambda each: (each.parent.name.partition(":")[0], each.parent.name)):
        zone = _zone(energy)
        found.setdefault(zone.name, zone)
    inside = [zone for name, zone in found.items() if name.startswith(("package", "dram"))]
    return tuple(inside or [zone for name, zone in found.items() if name.startswith("psys")])


def _zone(energy: Path) -> Zone:
    name = read_text(energy.with_name("name"))
    if name == "dram":  # every socket has one: tell them apart by the number of their package
        name = f"dram-{energy.parent.name.split(':')[1]}"
    return Zone(name, energy, int(read_text(energy.with_name("max_energy_range_uj"))))


def _meter(root: Path, clock: Clock) -> Meter:
    found = zones(root)
    return RaplMeter(clock, found) if found else Unmetered(clock)


def _readable(found: tuple[Zone, ...]) -> bool:
    return bool(found) and all(not _unreadable(zone) for zone in found)


def _unreadable(zone: Zone) -> str:
    try:
        int(read_text(zone.energy))
    except Refused as error:
        return str(error)
    except ValueError:
        return f"{zone.energy} holds no number"
    return ""


def _missing_energy(root: Path) -> tuple[str, ...]:
    found = zones(root)
    if not found:
        return (f"energy is unknown: no RAPL counter under {root / _POWERCAP} (virtual machines seldom have one)",)
    reasons = [_unreadable(zone) for zone in found]
    return tuple(
        f"energy is unknown: {reason}; since Linux 5.10 it is for root only: sudo chmod a+r {zone.energy}, or the udev "
        f'rule SUBSYSTEM=="powercap", RUN+="/bin/chmod a+r /sys%p/energy_uj"'
        for zone, reason in zip(found, reasons, strict=True)
        if reason
    )


def _missing_clocks(root: Path) -> tuple[str, ...]:
    knob = _cpu_knob(root)
    if knob is None:
        return (_NO_CLOCK,)
    return missing_writes(path for node in knob.nodes for path in (node.low, node.high))


def _cpu_knob(root: Path, cpus: tuple[int, ...] = ()) -> BoundedKnob | None:
    """Return the clock of these CPUs, or of the fastest ones; other clusters with other levels stay as they are.

    Refused where the CPUs are of clusters with different levels: no one clock would be theirs.
    """
    policies = sorted((root / _CPUFREQ).glob("policy*"), key=lambda each: (len(each.name), each.name))
    usable = [each for each in policies if all((each / name).exists() for name in _FILES)]
    if cpus:
        usable = [each for each in usable if _cpus_of(each) & set(cpus)]
        if len({_levels_hz(each) for each in usable}) > 1:
            clusters = "; ".join(",".join(map(str, sorted(_cpus_of(each)))) for each in usable)
            raise Refused(f"cpus= names CPUs of clusters with different clocks ({clusters}): name those of one cluster")
    if not usable:
        return None
    levels = {each: _levels_hz(each) for each in usable}
    fastest = max(levels.values(), key=lambda each: each[-1])
    nodes = tuple(
        Bounds(each / "scaling_min_freq", each / "scaling_max_freq", each / "scaling_cur_freq")
        for each in usable
        if levels[each] == fastest
    )
    return BoundedKnob("cpu", fastest, nodes, 1e3)


def _cpus_of(policy: Path) -> set[int]:
    """Return the CPUs that share a clock: those a policy lists, else the one in its name."""
    related = policy / "related_cpus"
    words = read_text(related).split() if related.is_file() else [policy.name.removeprefix("policy")]
    return {int(word) for word in words if word.isdecimal()}


def _levels_hz(policy: Path) -> tuple[float, ...]:
    """Return the levels a driver names, else its lowest and highest clock and every 100 MHz between."""
    named = policy / "scaling_available_frequencies"
    if named.is_file():
        return tuple(sorted({float(word) * 1e3 for word in read_text(named).split()}))
    low, high = (float(read_text(policy / name)) * 1e3 for name in ("cpuinfo_min_freq", "cpuinfo_max_freq"))
    between = (_STEP_HZ * step for step in range(int(low / _STEP_HZ) + 1, int(high / _STEP_HZ) + 1))
    return tuple(sorted({low, high, *between}))
