"""URIs → devices of which only the clocks and the meter are used, with their clocks owned by a lease.

``nvml:0``, ``host``, ``sysfs:gpu`` and ``quota:CGROUP``; several are moved together. ``nvml:0/power`` sets the power
limit of a board and leaves its clocks alone, for boards and drivers that do not let them be locked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.point import OperatingPoint
from amble.core.ports import Device, Tensors, Timings
from amble.devices import host, lease, nvml, quota, sysfs

__all__ = ["NoRunner", "open_hands"]


class NoRunner:
    """Runs nothing: the server does."""

    def run(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        """Refuse."""
        raise Refused("a governed device runs no networks; its server does")

    def profile(self, graph: Graph, point: OperatingPoint, repeats: int) -> Timings:
        """Refuse."""
        raise Refused("a governed device measures no networks; its server runs them")


def open_hands(uris: Sequence[str], *, folder: Path | None = None) -> tuple[Device, ...]:
    """Open devices by their URIs, with leases; nothing is changed yet. Refused for unlike ones and unknown ones."""
    if not uris:
        raise Refused("no --device: name the one that the server runs on, as in nvml:0, host or quota:CGROUP")
    found = tuple(lease.guarded(_opened(uri), folder) for uri in uris)
    if any(each.actuator.available() != found[0].actuator.available() for each in found):
        raise Refused("the devices of one server must have the same clocks to be moved together; name like ones")
    return found


def _opened(uri: str) -> Device:
    scheme, _, name = uri.partition(":")
    clock, runner = host.MonotonicClock(), NoRunner()
    match scheme:
        case "nvml":
            board, _, knob = name.partition("/")
            if knob not in ("", "power"):
                raise Refused(f"{uri}: what is set is the clocks, nvml:{board}, or the power limit, nvml:{board}/power")
            which = int(board) if board.isdecimal() else board
            return nvml.open(which, runner, knobs="power" if knob else "clocks")
        case "host" if not name:
            return host.open(runner)
        case "sysfs":
            return sysfs.open(runner, clock, host.Unmetered(clock), node=name or "gpu")
        case "quota":
            return quota.open(name, runner, clock, host.Unmetered(clock))
    raise Refused(
        f"unknown device {uri!r}; a server is governed on nvml:N, nvml:N/power, host, sysfs:NODE or quota:CGROUP"
    )
