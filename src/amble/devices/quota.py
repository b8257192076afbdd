"""A control group's CPU quota → Device: for servers on CPUs whose clock cannot be set, as in most virtual machines.

It is a *duty cycle*, not a clock: within every period of 5 ms the group runs until its quota is used up and then stands
still. Work of many periods takes longer in proportion; work shorter than the period takes as long as ever, or longer
by up to the time the gate is closed (80 % of a period and more at small quotas), which shows in the tail only. Energy
need not fall with it: on such machines it is unknown.

``quota:NAME`` is a group below the CPU controller, ``quota:/PATH`` a folder: of version 2 (``cpu.max``) or 1
(``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``). The server's process must be in the group; writing needs the right to
change the group's files.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.core.ports import Clock, Device, Meter, Runner
from amble.devices.facts import Description, Found, Readings
from amble.devices.knobs import missing_writes, read_text, write_text

__all__ = ["PERIOD_US", "QuotaActuator", "describe", "open", "put_back"]

PERIOD_US = 5000
_LEAST_US = 1000  # the kernel takes no smaller quota
_STEPS = 20
_ROOTS = ("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct", "sys/fs/cgroup")


def open(  # noqa: A001
    name: str, runner: Runner, clock: Clock, meter: Meter, *, root: Path = Path("/"), cpus: int | None = None
) -> Device:
    """Open a control group; nothing is changed until a share is applied. Refused when there is no such group."""
    folder = _folder(name, root)
    actuator = QuotaActuator(folder, cpus or len(os.sched_getaffinity(0)))
    return Device(f"quota:{name}", clock, meter, actuator, runner, "real")


def describe(name: str, root: Path = Path("/")) -> Description:
    """Describe a control group as a device."""
    folder = _folder(name, root)
    files = [folder / each for each in ("cpu.max",) if (folder / each).exists()] or [folder / "cpu.cfs_quota_us"]
    knob = f"CPU quota, {_STEPS} levels a CPU, period {PERIOD_US / 1000:g} ms: a duty cycle"
    return Description(f"quota:{name}", "real", knob, "unknown", missing_writes(files))


class QuotaActuator:
    """Sets the share of CPU time. What was found is put back by ``Clocks()``, period included."""

    def __init__(self, folder: Path, cpus: int) -> None:
        self._folder = folder
        self._new = (folder / "cpu.max").exists()
        least = round(_LEAST_US / PERIOD_US * _STEPS)
        self._settings = tuple(Clocks(cpu_share=step / _STEPS) for step in range(least, cpus * _STEPS + 1))
        self._found: Found | None = None
        self._asked = Clocks()
        self._readings = Readings()

    def available(self) -> tuple[Clocks, ...]:
        """Return every share, smallest first: from 0.2 CPU to all CPUs in steps of a twentieth."""
        return self._settings

    def current(self) -> Clocks:
        """Return the share in force; None as long as the group is as it was found."""
        if self._found is None:
            return Clocks()
        quota, period = (float(word) if word != "max" else -1.0 for word in self._read())
        reading = Clocks(cpu_share=quota / period) if quota > 0 else Clocks(cpu_share=self._settings[-1].cpu_share)
        self._readings.note(reading, self._asked)
        return reading

    def apply(self, clocks: Clocks) -> None:
        """Set a share; ``Clocks()`` puts back what was found. Refused for others, and when the group is gone."""
        asked = clocks if clocks in self._settings else self._readings.asked(clocks)
        if asked == Clocks():
            if self._found is not None:
                put_back(self._found.values)
            self._found, self._asked = None, Clocks()
            return
        if asked not in self._settings:
            ends = f"{self._settings[0]} to {self._settings[-1]}"
            raise Refused(f"{self._folder}: {asked} is not one of this group's settings ({ends}, in steps of 0.05)")
        assert asked.cpu_share is not None, "a setting of ours names the share"
        before = self.found()
        self._write(round(asked.cpu_share * PERIOD_US), PERIOD_US)
        self._found, self._asked = before, asked

    def found(self) -> Found:
        """Return what is in force now, or what was found if a share is set."""
        if self._found is not None:
            return self._found
        if self._new:
            return Found("quota", ((str(self._folder / "cpu.max"), read_text(self._folder / "cpu.max")),))
        names = ("cpu.cfs_period_us", "cpu.cfs_quota_us")
        return Found("quota", tuple((str(self._folder / each), read_text(self._folder / each)) for each in names))

    def _read(self) -> tuple[str, str]:
        if self._new:
            quota, period = read_text(self._folder / "cpu.max").split()
            return quota, period
        return read_text(self._folder / "cpu.cfs_quota_us"), read_text(self._folder / "cpu.cfs_period_us")

    def _write(self, quota_us: int, period_us: int) -> None:
        if self._new:
            write_text(self._folder / "cpu.max", f"{quota_us} {period_us}")
        else:
            _write_both(self._folder / "cpu.cfs_quota_us", str(quota_us), self._folder / "cpu.cfs_period_us", period_us)
        if tuple(map(float, self._read())) != (quota_us, period_us):
            raise Refused(f"{self._folder} keeps {self._read()}; a group above or another program limits it")


def put_back(values: Iterable[tuple[str, str]]) -> None:
    """Write back what ``found`` returned, also from another process. A group that is gone needs nothing put back."""
    pairs = [(Path(path), text) for path, text in values if Path(path).exists()]
    for path, _ in pairs:
        if path.name == "cpu.cfs_quota_us":  # without a quota any period is allowed
            write_text(path, "-1")
    for path, text in pairs:
        write_text(path, text)


def _write_both(quota: Path, quota_us: str, period: Path, period_us: int) -> None:
    """Set quota and period of version 1; a quota above what the group above allows is refused by the kernel."""
    if read_text(period) != str(period_us):
        with contextlib.suppress(Refused):
            write_text(quota, "-1")
        write_text(period, str(period_us))
    write_text(quota, quota_us)


def _folder(name: str, root: Path) -> Path:
    if not name:
        raise Refused("quota: names no control group; write quota:NAME or quota:/PATH")
    tried = [root / name.lstrip("/")] if name.startswith("/") else [root / each / name for each in _ROOTS]
    for folder in tried:
        if (folder / "cpu.max").exists() or (folder / "cpu.cfs_quota_us").exists():
            return folder
    raise Refused(
        f"quota:{name}: no control group with a CPU quota at {' or '.join(map(str, tried))}; make one, as in "
        f"mkdir {tried[0]}, and put the server in it (echo PID > cgroup.procs)"
    )
