"""Names → devices and networks; what can be opened, and clocks put back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl

from amble import bundled
from amble.core.errors import Refused
from amble.core.examples import Examples
from amble.core.graph import Graph
from amble.core.ports import Device
from amble.devices import host, lease, nvml, recorded, simulated, sysfs
from amble.devices.facts import Description
from amble.devices.lease import Restored
from amble.inputs.examples import images
from amble.runtimes import onnx, processors, synthetic
from amble.runtimes.onnx.refusals import door
from amble.stages.measure import accuracy

__all__ = ["BUNDLED", "devices", "labelled", "load", "open", "restore"]

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
        case "host", []:
            found = host.open(onnx.OnnxRunner())
            runner = onnx.OnnxRunner(meter=found.meter, clocks=found.actuator.current)
            return lease.guarded(replace(found, runner=runner, machine=processors.here()))
        case "quota", _:
            raise Refused(f"{address} runs no networks: it slows a server down, for amble govern --device {address}")
        case (("nvml" | "sysfs"), _):
            raise Refused(
                f"{address} cannot run networks yet: plan on a simulated chip and use --script for the clocks"
            )
    raise Refused(f"unknown device {uri!r}; write sim:CHIP, recorded:TABLE or host (amble devices lists them)")


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
    return images("test", graph.inputs[0].name)


def restore(*, dry_run: bool = False) -> tuple[Restored, ...]:
    """Put back every clock that a killed run left changed; with ``dry_run`` only say which."""
    return lease.restorable() if dry_run else lease.restore()
