"""This machine's CPU → Device: its monotonic clock, RAPL energy where it can be read, cpufreq bounds where they exist.

What a machine does not offer is unknown (None), never zero, and ``rights`` says which right is missing and its remedy.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from amble.core.cost import Reading
from amble.core.errors import Refused
from amble.core.ports import Clock, Device, Meter, Runner
from amble.devices.facts import Description
from amble.devices.knobs import BoundedKnob, Bounds, FileActuator, missing_writes, read_text
from amble.devices.powercap import power_knob
from amble.devices.watching import Watch, sensor_text

__all__ = [
    "MonotonicClock",
    "RaplMeter",
    "Unmetered",
    "Zone",
    "actuator",
    "cpu_knob",
    "describe",
    "open",
    "rights",
    "zones",
]

_CPUFREQ = "sys/devices/system/cpu/cpufreq"
_BOOST = "sys/devices/system/cpu/cpufreq/boost"
_NO_TURBO = "sys/devices/system/cpu/intel_pstate/no_turbo"
_POWERCAP = "sys/class/powercap"
_FILES = ("scaling_min_freq", "scaling_max_freq", "cpuinfo_min_freq", "cpuinfo_max_freq")
_STEP_HZ = 100e6  # where a driver names no levels: Intel's ratio, also a sensible grain elsewhere
_ANY_PACKAGE_W = 2000.0
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
    """Adds up RAPL counters across their wraps, each watched.

    A counter wraps every few minutes to hours, depending on the load: two wraps between two readings cannot be seen,
    so read at least once a minute. When one counter cannot be read, stands still or jumps, the energy is unknown from
    then on, never a part of it; ``why`` says which.
    """

    def __init__(self, clock: Clock, zones: tuple[Zone, ...]) -> None:
        self._clock = clock
        self._zones = zones
        self._watches = {zone.name: Watch(_ANY_PACKAGE_W, range_j=zone.range_uj * 1e-6) for zone in zones}

    @property
    def name(self) -> str:
        """Return what is counted, by name."""
        return " + ".join(zone.name for zone in self._zones)

    @property
    def why(self) -> str:
        """Return why the energy is unknown."""
        return "; ".join(f"{name}: {watch.why}" for name, watch in self._watches.items() if watch.why)

    def read(self) -> Reading:
        """Return time and energy since the first reading; energy None once it is unknown."""
        now_s = self._clock.now_s()
        found_j = [self._watches[zone.name].judge(now_s, _counter_j(zone)) for zone in self._zones]
        known_j = [each for each in found_j if each is not None]
        return Reading(now_s, sum(known_j) if len(known_j) == len(found_j) else None)


def _counter_j(zone: Zone) -> float | None:
    try:
        return int(sensor_text(zone.energy)) * 1e-6
    except (Refused, ValueError):
        return None


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
    found = actuator(sysfs_root, cpus)
    return Device(name, clock, _meter(sysfs_root, clock), found, runner, "real", precisions)


def actuator(
    sysfs_root: Path = Path("/"), cpus: tuple[int, ...] = (), *, beside: Sequence[tuple[Path, str]] = ()
) -> FileActuator:
    """Return the clock of these CPUs, or of this machine's fastest; one that refuses with the reason where none is.

    ``beside`` are texts of other files that stand there for as long as a clock is held.
    """
    knob = cpu_knob(sysfs_root, cpus)
    return FileActuator([knob] if knob else [], refusal=_NO_CLOCK, beside=beside)


def rights(sysfs_root: Path = Path("/")) -> tuple[str, ...]:
    """Return what keeps amble from the energy and the clocks of this machine, one line each with its remedy."""
    return (*_missing_energy(sysfs_root), *_missing_clocks(sysfs_root))


def describe(sysfs_root: Path = Path("/")) -> Description:
    """Describe this machine's CPU as a device."""
    knob, found = cpu_knob(sysfs_root), zones(sysfs_root)
    clocks = "fixed clocks"
    if knob is not None:
        low, high = knob.levels[0] / 1e6, knob.levels[-1] / 1e6
        clocks = f"cpu {len(knob.levels)} levels, {low:g} to {high:g} MHz, on {len(knob.nodes)} policies"
        clocks += "".join(f"; {each}" for each in _governed(sysfs_root))
    limit = power_knob(sysfs_root)
    clocks += f"; limit {limit.levels[0]:g} to {limit.levels[-1]:g} W (knobs=power)" if limit is not None else ""
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
    knob = cpu_knob(root)
    if knob is None:
        return (_NO_CLOCK,)
    return missing_writes(path for node in knob.nodes for path in (node.low, node.high))


def cpu_knob(root: Path, cpus: tuple[int, ...] = ()) -> BoundedKnob | None:
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


def _governed(root: Path) -> tuple[str, ...]:
    """Return what chooses the clock while nobody holds it: governor, energy preference, turbo, where they are told."""
    first = next(iter(sorted((root / _CPUFREQ).glob("policy*"))), root / _CPUFREQ)
    found = []
    for name, file in (("governor", "scaling_governor"), ("preference", "energy_performance_preference")):
        with contextlib.suppress(Refused):
            found.append(f"{name} {read_text(first / file)}")
    for file, on in ((_BOOST, "1"), (_NO_TURBO, "0")):
        with contextlib.suppress(Refused):
            found.append(f"turbo {'on' if read_text(root / file) == on else 'off'}")
    return tuple(found)


def _levels_hz(policy: Path) -> tuple[float, ...]:
    """Return the levels a driver names, else its lowest and highest clock and every 100 MHz between."""
    named = policy / "scaling_available_frequencies"
    if named.is_file():
        return tuple(sorted({float(word) * 1e3 for word in read_text(named).split()}))
    low, high = (float(read_text(policy / name)) * 1e3 for name in ("cpuinfo_min_freq", "cpuinfo_max_freq"))
    between = (_STEP_HZ * step for step in range(int(low / _STEP_HZ) + 1, int(high / _STEP_HZ) + 1))
    return tuple(sorted({low, high, *between}))
