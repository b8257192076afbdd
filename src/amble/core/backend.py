"""What a kind of device is to amble: one record a URI scheme. Whoever adds a device writes one and registers it.

A package of somebody else's names its record in its entry points, and nothing else of amble has to know::

    [project.entry-points."amble.devices"]
    fpga = "amble_fpga:BACK_END"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from amble.core.address import Address
from amble.core.graph import Graph
from amble.core.layers import Probe
from amble.core.point import OperatingPoint
from amble.core.ports import Device, Runner, Tensors

__all__ = ["BackEnd", "Computing", "Description", "Layers", "Opening", "is_back_end"]


@dataclass(frozen=True, slots=True)
class Description:
    """One device that can be opened here, for people: every field is a text, ``missing`` one line a right.

    ``clocks`` says which knobs there are and how many levels they have; ``meter`` what counts energy.
    """

    name: str
    calibration: str
    clocks: str
    meter: str
    missing: tuple[str, ...] = ()


class Computing(Runner, Protocol):
    """A runner that can also compute what whole networks answer, for devices that only tell times."""

    def compute(self, graph: Graph, point: OperatingPoint, inputs: Tensors) -> Tensors:
        """Compute a whole network's outputs; nothing without inputs."""
        ...


@dataclass(frozen=True, slots=True)
class Opening:
    """How a device is to be opened: where, with which noise, for which workload of a recording, over which runtime."""

    address: Address
    runner: Runner
    seed: int = 0
    workload: str = "all"


@dataclass(frozen=True, slots=True)
class Layers:
    """How single layers are to be timed: the batch, what passes the caches between two runs, the precision."""

    batch: int = 1
    between_bytes: int = 0
    precision: str = "fp32"


@dataclass(frozen=True, slots=True)
class BackEnd:
    """A kind of device, by the scheme of its URIs. What a kind cannot do is None, and refused in words.

    ``open`` takes the ``options`` that it knows after a question mark; ``serve`` opens the device for real clients, in
    this machine's time, and ``by_size`` tells that it reckons from operators, so that it wants those of every batch
    size. ``describe`` tells what can be opened here. ``put_back`` takes what `devices.facts.Found` holds. ``graph``
    finds networks that exist on this device alone; ``layers`` times single ones, in ``layer_precisions``.
    ``governors`` are those of the operating system that a plan is compared with, each opened by the option
    ``governor``. ``here``: this machine's threads do the work, so that their CPU time counts; ``simulated``: no real
    clock is touched. ``example`` is what a user may write.
    """

    scheme: str
    example: str
    open: Callable[[Opening], Device]
    options: tuple[str, ...] = ()
    describe: Callable[[], tuple[Description, ...]] = tuple
    serve: Callable[[Address, Computing], Device] | None = None
    by_size: bool = False
    put_back: Callable[[tuple[tuple[str, str], ...]], None] | None = None
    graph: Callable[[Address, str], Graph] | None = None
    layers: Callable[[Device, Layers], Probe] | None = None
    layer_precisions: tuple[str, ...] = ("fp32",)
    governors: Callable[[Address], tuple[str, ...]] = lambda address: ()
    here: bool = False
    simulated: bool = False


def is_back_end(found: object) -> bool:
    """Tell whether what a package registered is a kind of device."""
    return isinstance(found, BackEnd)
