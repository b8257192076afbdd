"""Names → devices and networks; what can be opened, and clocks put back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from amble import bundled
from amble.core.address import Address
from amble.core.backend import BackEnd, Description, Layers, Opening, is_back_end
from amble.core.errors import Refused
from amble.core.examples import Examples
from amble.core.graph import Graph
from amble.core.layers import Probe
from amble.core.ports import Device
from amble.core.registered import DEVICES, registered
from amble.devices import lease
from amble.devices.lease import Restored
from amble.inputs import hardware
from amble.inputs.backends import BACK_ENDS, BOUND, back_end, back_ends
from amble.inputs.examples import images
from amble.runtimes import onnx, synthetic
from amble.runtimes.onnx.batched import BatchedRunner
from amble.runtimes.onnx.refusals import door
from amble.stages.measure import accuracy

__all__ = [
    "BUNDLED",
    "devices",
    "execution",
    "governed",
    "labelled",
    "load",
    "open",
    "open_for_serving",
    "probe",
    "quickest",
    "refuse_layers",
    "restore",
    "timer",
    "twin",
]

BUNDLED = "fashion-resnet"


def devices() -> tuple[Description, ...]:
    """Describe what can be opened here, its clocks and meters, and which right is missing."""
    return tuple(found for each in back_ends() for found in each.describe())


@door
def open(uri: str, *, seed: int = 0, workload: str = "all") -> Device:  # noqa: A001
    """Open a device by its URI: ``sim:CHIP``, ``recorded:TABLE`` (for one ``workload``), ``host``, ``nvml:0``,
    ``sysfs:gpu``, ``ssh:user@board/host``, others' own.

    Options follow a question mark: ``sim:jetson-tx2?governor=schedutil&seed=3``, ``nvml:0?provider=tensorrt``,
    ``host?threads=4&cpus=0-3``. Real clocks are put back even after the process is killed.
    """
    kind, address = back_end(uri), Address.parse(uri)
    _refuse_others(kind, address)
    return kind.open(Opening(address, onnx.OnnxRunner(), seed, workload))


@door
def open_for_serving(
    uri: str, *, threads: int = 1, make: Callable[[int], BatchedRunner] = BatchedRunner
) -> tuple[Device, BatchedRunner, bool]:
    """Open a device for real clients, in this machine's time, with a runtime that takes any batch size.

    ``make`` makes the runtime, for so many threads.

    The third tells whether the device wants the operators of every batch size.
    """
    kind, address, runner = back_end(uri), Address.parse(uri), make(threads)
    if kind.serve is None:
        able = ", or ".join(each.example for each in back_ends() if each.serve is not None)
        raise Refused(f"{uri!r} cannot serve clients; use {able}")
    bound = kind.scheme in BOUND
    _refuse_others(kind, address, serving=not bound)
    return kind.serve(address, runner), runner, kind.by_size or bound


def twin(uri: str) -> Device | None:
    """Open another chip like a simulated one, in a time of its own; of a real machine there is no other."""
    return open(uri) if back_end(uri).by_size else None


def _refuse_others(kind: BackEnd, address: Address, *, serving: bool = False) -> None:
    """Refuse options that a device does not know; those of opening have no meaning for a server's device."""
    known = () if serving else kind.options
    if others := [name for name in address.options if name not in known]:
        rest = f"; it knows {', '.join(known)}" if known else ""
        raise Refused(f"{address} has no option {others[0]!r}{' when it serves' if serving else ''}{rest}")


def probe(uri: str, device: Device, wanted: Layers) -> Probe:
    """Return what times single layers on an opened device. Refused where none can be timed, or not so."""
    refuse_layers(uri, wanted.precision)
    found = back_end(uri).layers
    assert found is not None
    return found(device, wanted)


def refuse_layers(uri: str, precision: str = "fp32") -> None:
    """Refuse a device on which no layers can be timed, or none in this precision."""
    kind = back_end(uri)
    able = [each for each in back_ends() if each.layers is not None]
    if kind.layers is None:
        examples = " or ".join(each.example for each in able)
        raise Refused(f"layers cannot be timed on {uri}; prune on {examples} (amble devices lists them)")
    if precision not in kind.layer_precisions:
        examples = " or ".join(each.example for each in able if precision in each.layer_precisions)
        raise Refused(f"layers in {precision.upper()} are timed on {examples} only; leave --precision out for {uri}")


def timer(uri: str, device: Device) -> Callable[[], float]:
    """Return the clock that runs on a device are timed by: on this machine the thread's own, whatever else runs."""
    return time.thread_time if back_end(uri).here else device.clock.now_s


def governed(uri: str) -> tuple[tuple[str, str], ...]:
    """Return the governors of the operating system to compare a plan with on a device, and the URI that has each."""
    address = Address.parse(uri)
    return tuple((name, str(address.having(governor=name))) for name in back_end(uri).governors(address))


def execution(uri: str) -> onnx.Execution | None:
    """Return how networks are run on a device that serves by its own runtime; None for the others."""
    return hardware.execution(uri) if back_end(uri).scheme in BOUND else None


@door
def quickest(
    model: str | Path, device: str, *, batch: int = 1, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> str:
    """Return the device with ``provider=auto`` made definite: the provider that runs this network quickest here."""
    path = bundled.model_path() if str(model) == BUNDLED else Path(model).absolute()
    return hardware.quickest(device, path, batch=batch, shapes=shapes)


@door
def load(
    model: str | Path,
    *,
    batch: int = 1,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    device: str | None = None,
) -> Graph:
    """Read a network: an ONNX file, the bundled ``fashion-resnet``, ``synthetic:NUM_OPERATORS``.

    On a ``recorded:`` device the name is one of its workloads, or ``all``. Devices that fuse operators themselves are
    given those of the standard: name the ``device`` that it is loaded for, unless ONNX Runtime's CPU kernels run it.
    """
    name = str(model)
    kept = _back_end_of(device)
    if kept is not None and kept.graph is not None and device is not None:
        return _as_it_is(kept.graph(Address.parse(device), name), batch, shapes)
    if name == BUNDLED:
        return onnx.load(bundled.model_path(), batch=batch, shapes=shapes, execution=hardware.execution(device or ""))
    if name.startswith("synthetic:"):
        number = name.partition(":")[2]
        if not number.isdecimal() or int(number) < 1:
            raise Refused(f"{name!r} is not like synthetic:20, a made-up network of 20 operators")
        return _as_it_is(replace(synthetic.chain(int(number), seed=0, batch=batch), source=name), batch, shapes)
    return onnx.load(Path(model).absolute(), batch=batch, shapes=shapes, execution=hardware.execution(device or ""))


def _back_end_of(device: str | None) -> BackEnd | None:
    """Return the kind of a device; None for a name that nobody opens, as of a profile that was read from elsewhere."""
    if device is None:
        return None
    return registered(DEVICES, Address.parse(device).scheme, BACK_ENDS, is_back_end)


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
    return images("test", graph.inputs[0].name)


def restore(*, dry_run: bool = False) -> tuple[Restored, ...]:
    """Put back every clock that a killed run left changed; with ``dry_run`` only say which."""
    return lease.restorable() if dry_run else lease.restore()
