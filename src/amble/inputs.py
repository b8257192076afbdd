"""Names → devices and networks; what can be opened, and clocks put back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np

from amble import bundled
from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.ports import Actuator, Device
from amble.devices import emulated, guarded, host, lease, nvml, recorded, simulated, sysfs
from amble.devices.facts import Description
from amble.devices.lease import LeasedActuator, Restored
from amble.devices.summed import SummedMeter
from amble.runtimes import onnx, synthetic
from amble.runtimes.onnx.refusals import door
from amble.stages.measure import accuracy
from amble.stages.measure.accuracy import Examples

__all__ = ["BUNDLED", "actuator", "devices", "labelled", "load", "open", "restore"]

BUNDLED = "fashion-resnet"


def devices() -> tuple[Description, ...]:
    """Describe what can be opened here, its clocks and meters, and which right is missing."""
    simulations = tuple(simulated.describe(chip) for chip in simulated.chips())
    tapes = tuple(recorded.describe(path) for path in recorded.tables().values())
    return (host.describe(), *nvml.describe(), *sysfs.describe(), *simulations, *tapes)


@door
def open(uri: str, *, seed: int = 0, workload: str = "all") -> Device:  # noqa: A001
    """Open a device by its URI: ``sim:CHIP``, ``recorded:TABLE`` (for one ``workload``), ``host``.

    Options follow a question mark: ``sim:jetson-tx2?governor=schedutil&seed=3``. Real clocks are put back even after
    the process is killed.
    """
    address, _, query = uri.partition("?")
    options = dict(parse_qsl(query, strict_parsing=True)) if query else {}
    scheme, _, name = address.partition(":")
    match scheme, sorted(options.keys() - {"seed"}):
        case "sim", [] | ["governor"]:
            number = int(options.get("seed", seed))
            return simulated.open(
                name, compute=onnx.OnnxRunner().run, seed=number, governor=options.get("governor", "performance")
            )
        case "recorded", []:
            return recorded.open(name, workload=workload, compute=onnx.OnnxRunner())
        case "host", [] | ["root"]:
            found = _owning(host.open(onnx.OnnxRunner(), sysfs_root=Path(options.get("root", "/"))))
            return replace(found, runner=onnx.OnnxRunner(meter=found.meter, clocks=found.actuator.current))
        case "nvml", [] | ["knobs"] | ["meter"] | ["knobs", "meter"]:
            return _metered(_gpu(name, options.get("knobs", "clocks")), options.get("meter", "gpu"))
        case "sysfs", _:
            raise Refused(
                f"{address} cannot run networks yet: plan on a simulated chip and use --script for the clocks"
            )
    raise Refused(f"unknown device {uri!r}; write sim:CHIP, recorded:TABLE or host (amble devices lists them)")


def _gpu(name: str, knobs: str) -> Device:
    """Open an NVIDIA GPU with a runner: of the emulated card, where this process was told to see one."""
    if knobs not in ("clocks", "power"):
        raise Refused(f"nvml:{name} has no knobs {knobs!r}; write knobs=clocks, or knobs=power for the limit alone")
    which, card = _which(name), emulated.folder()
    if card is None:
        raise Refused(
            f"nvml:{which} cannot run networks yet: plan on a simulated chip and use --script for the clocks, or try "
            f"an emulated card: python -m amble.devices.emulated v100 FOLDER"
        )
    board = nvml.Board(which)
    known = emulated.read(card)
    compute, clock = onnx.OnnxRunner().run, emulated.CardClock(card)
    calibration = f"emulated: {board.name}, card {known.seed}, {known.slower:g} times slower"
    sleeping = emulated.EmulatedRunner(card, compute)
    kind: nvml.Knobs = "power" if knobs == "power" else "clocks"
    found = _owning(nvml.open(which, sleeping, clock=clock, calibration=calibration, knobs=kind))
    runner = emulated.EmulatedRunner(
        card, compute, clocks=found.actuator.current, throttled=lambda: bool(board.throttled())
    )
    return replace(found, runner=runner, precisions=tuple(known.true_chip().precisions))


def _metered(device: Device, which: str) -> Device:
    """Return a GPU whose energy is its own (``gpu``), or that with the CPU's and its memory's (``gpu+cpu``), named."""
    if which == "gpu":
        return device
    if which not in ("gpu+cpu", "gpu cpu"):  # a plus is a blank in a query
        raise Refused(f"{device.name} has no meter {which!r}; write meter=gpu, or meter=gpu+cpu for the sum")
    beside = host.RaplMeter(device.clock, host.zones(Path("/")))
    if not beside.name:
        raise Refused(f"{device.name}: {host.rights()[0]}; leave out meter={which}")
    summed = SummedMeter(device.clock, {device.name: device.meter, beside.name: beside})
    return replace(device, meter=summed, calibration=f"{device.calibration}; energy of {summed.name}")


def _owning(device: Device) -> Device:
    """Return the device with its clocks in good hands: the guard's, where one runs and this user has no right of its
    own (or named it by ``AMBLE_GUARD``), else a lease's of this process.
    """
    socket = guarded.found_socket()
    if socket is None or (os.geteuid() == 0 and not os.environ.get(guarded.VARIABLE)):
        return lease.guarded(device)
    return replace(device, actuator=guarded.GuardedActuator(device.name, socket))


def actuator(uri: str, folder: Path) -> LeasedActuator:
    """Open the clocks of a device alone, owned by a lease in a folder; Refused for one without real clocks."""
    address, _, query = uri.partition("?")
    scheme, _, name = address.partition(":")
    root = Path(dict(parse_qsl(query)).get("root", "/"))
    clock = host.MonotonicClock()
    found: Actuator
    match scheme:
        case "nvml":
            found = nvml.NvmlActuator(nvml.Board(_which(name)))
        case "sysfs":
            found = sysfs.open(onnx.OnnxRunner(), clock, host.Unmetered(clock), node=name or "gpu", root=root).actuator
        case "host":
            found = host.open(onnx.OnnxRunner(), sysfs_root=root).actuator
        case _:
            raise Refused(f"{uri} has no clocks of this machine; write nvml:0, sysfs:gpu or host")
    assert isinstance(found, lease.Ownable), "every real actuator can say what it found"
    return LeasedActuator(found, uri, folder)


def _which(name: str) -> int | str:
    return int(name) if name.isdecimal() else name or 0


@door
def load(
    model: str | Path,
    *,
    batch: int = 1,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    device: str | None = None,
) -> Graph:
    """Read a network: an ONNX file, the bundled ``fashion-resnet``, ``synthetic:NUM_OPERATORS``.

    On a ``recorded:`` device the name is one of its workloads, or ``all``.
    """
    name = str(model)
    if device is not None and device.startswith("recorded:"):
        return _as_it_is(recorded.graph(device.partition(":")[2], name), batch, shapes)
    if name == BUNDLED:
        return onnx.load(bundled.model_path(), batch=batch, shapes=shapes)
    if name.startswith("synthetic:"):
        number = name.partition(":")[2]
        if not number.isdecimal() or int(number) < 1:
            raise Refused(f"{name!r} is not like synthetic:20, a made-up network of 20 operators")
        return _as_it_is(replace(synthetic.chain(int(number), seed=0, batch=batch), source=name), batch, shapes)
    return onnx.load(Path(model).absolute(), batch=batch, shapes=shapes)


def _as_it_is(graph: Graph, batch: int, shapes: Mapping[str, tuple[int, ...]] | None) -> Graph:
    """Return a network that takes no shapes, and no batch but its own; Refused for others."""
    given = dict(shapes or {})
    if given and given != graph.shapes:
        raise Refused(f"{graph.name} takes no shapes; leave out --shape {next(iter(given))}:…")
    if batch not in (1, graph.batch):
        raise Refused(f"{graph.name} is replayed as it was recorded; leave out --batch {batch}")
    return graph


@door
def labelled(name: str, graph: Graph) -> Examples:
    """Read labelled data: an ``.npz`` file, or ``bundled`` for the bundled test images."""
    if name != "bundled":
        return accuracy.read_labelled(Path(name), graph)
    images, labels = bundled.fashion_mnist("test")
    return Examples({graph.inputs[0].name: bundled.model_input(images)}, labels.astype(np.int64))


def restore(*, dry_run: bool = False) -> tuple[Restored, ...]:
    """Put back every clock that a killed run left changed; with ``dry_run`` only say which."""
    return lease.restorable() if dry_run else lease.restore()
