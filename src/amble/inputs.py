"""Names → devices and networks; what can be opened, and clocks put back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np

from amble import bundled
from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.ports import Device, Runner
from amble.devices import board, emulated, host, lease, nvml, recorded, simulated, sysfs
from amble.devices.facts import Description
from amble.devices.lease import Restored
from amble.runtimes import onnx, synthetic
from amble.stages.measure import accuracy
from amble.stages.measure.accuracy import Examples

__all__ = ["BUNDLED", "devices", "labelled", "load", "open", "restore"]

BUNDLED = "fashion-resnet"


def devices() -> tuple[Description, ...]:
    """Describe what can be opened here, its clocks and meters, and which right is missing."""
    simulations = tuple(simulated.describe(chip) for chip in simulated.chips())
    tapes = tuple(recorded.describe(path) for path in recorded.tables().values())
    return (host.describe(), *nvml.describe(), *sysfs.describe(), *simulations, *tapes)


def open(uri: str, *, seed: int = 0, workload: str = "all") -> Device:  # noqa: A001
    """Open a device by its URI: ``sim:CHIP``, ``recorded:TABLE`` (for one ``workload``), ``host``,
    ``nvml:0``, ``sysfs:gpu``.

    Options follow a question mark: ``sim:jetson-tx2?governor=schedutil&seed=3``, ``nvml:0?provider=tensorrt``,
    ``host?threads=4&cpus=0-3``. Real clocks are put back even after the process is killed.
    """
    address, _, query = uri.partition("?")
    options = _options(uri, query)
    scheme, _, name = address.partition(":")
    if scheme == "ssh":
        return _board(uri, name, options)
    if (execution := _execution(uri)) is not None:
        return lease.guarded(_real(uri, scheme, name, execution))
    match scheme, sorted(options.keys() - {"seed"}):
        case "sim", [] | ["governor"]:
            number = int(options.get("seed", seed))
            return simulated.open(
                name, compute=onnx.OnnxRunner().run, seed=number, governor=options.get("governor", "performance")
            )
        case "recorded", []:
            return recorded.open(name, workload=workload, compute=onnx.OnnxRunner())
        case "nvml", []:
            return lease.guarded(_emulated(_which(name)))
    raise Refused(
        f"unknown device {uri!r}; write sim:CHIP, recorded:TABLE, host, nvml:0 or sysfs:gpu, with options such as "
        f"?provider=openvino (amble devices lists them)"
    )


def _options(uri: str, query: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(query, strict_parsing=True)) if query else {}
    except ValueError as error:
        raise Refused(f"cannot read the options of {uri!r} ({error}); write them as ?name=value&name=value") from error


def _execution(uri: str) -> onnx.Execution | None:
    """Return how networks are run on a real device; None for the others, and where the device is an emulated card."""
    address, _, query = uri.partition("?")
    scheme, _, name = address.partition(":")
    options = _options(uri, query)
    if scheme == "ssh":
        return onnx.far_form(options.get("precision", "fp32"))
    if scheme not in ("host", "nvml", "sysfs") or options.keys() - {*onnx.OPTIONS}:
        return None
    if scheme == "nvml" and not options and emulated.folder() is not None:
        return None
    onnx.refuse_mixture()
    if scheme == "host":
        return onnx.execution(options, "cpu")
    return onnx.execution(options, "cuda", index=int(name) if name.isdecimal() else 0)


def _real(uri: str, scheme: str, name: str, execution: onnx.Execution) -> Device:
    """Open a machine's own CPU, GPU or board, with a runner that is told of its meter and its clocks."""
    if scheme == "host":
        found = host.open(_UNSEEN, cpus=execution.cpus, name=uri)
    elif scheme == "nvml":
        found = nvml.open(_which(name), _UNSEEN)
    else:
        clock = host.MonotonicClock()
        found = sysfs.open(_UNSEEN, clock, host.Unmetered(clock), node=name or "gpu")
    runner = _runner(execution, found)
    return replace(found, name=uri, runner=runner, precisions=(execution.precision,))


def _runner(execution: onnx.Execution, found: Device) -> Runner:
    """Return what runs networks: one of ONNX Runtime's providers, or torch."""
    if execution.provider is not onnx.TORCH:
        return onnx.OnnxRunner(execution, meter=found.meter, clocks=found.actuator.current)
    try:
        from amble.runtimes.torch.runner import TorchRunner
    except ImportError as error:
        raise Refused(
            f"{found.name} has nothing that runs networks: pip install 'amble[cuda]' (ONNX Runtime's CUDA and "
            f"TensorRT) or 'amble[torch]' (a build of torch for CUDA); or try an emulated card: "
            f"python -m amble.devices.emulated v100 FOLDER"
        ) from error
    place = f"cuda:{execution.index}"
    return TorchRunner(execution.precision, place=place, meter=found.meter, clocks=found.actuator.current)


def _board(uri: str, name: str, options: dict[str, str]) -> Device:
    """Open a board over ssh: ``ssh:user@board/sysfs:gpu?provider=tensorrt``, ``ssh:user@board/host?threads=4``."""
    address, _, part = name.partition("/")
    unknown = options.keys() - {"provider", "precision", "threads", "python"}
    threads = options.get("threads", "1")
    if unknown or not threads.isdecimal() or int(threads) < 1:
        raise Refused(f"cannot read the options of {uri!r}; a board takes provider, precision, threads=N and python")
    link = board.over_ssh(address, python=options.get("python", "python3"))
    gpu = part.partition(":")[0] == "sysfs"
    try:
        if not link.hello["runtime"] and options.get("provider") != "trtexec":
            raise Refused(
                f"{address} has no ONNX Runtime for its {link.hello['python']}: install it there, or use trtexec"
            )
        execution = onnx.far_execution(
            options.get("provider"),
            link.hello["providers"],
            gpu=gpu,
            threads=int(threads),
            precision=options.get("precision", "fp32"),
        )
        found = board.open(link, "gpu" if gpu else part, _UNSEEN, name=uri, precisions=(execution.precision,))
    except BaseException:
        link.close()
        raise
    return replace(found, runner=onnx.RemoteRunner(link, execution, clocks=found.actuator.current))


_UNSEEN = onnx.OnnxRunner()
"""Stands in until the runner is made, which is told of the device's meter and clocks."""


def _which(name: str) -> int | str:
    return int(name) if name.isdecimal() else name or 0


def _emulated(which: int | str) -> Device:
    """Open the emulated card that this process was told to see, with its runner."""
    card = emulated.folder()
    if card is None:
        raise Refused(f"nvml:{which} has no such option; write nvml:{which}?provider=tensorrt, cuda or torch")
    gpu = nvml.Board(which)
    known = emulated.read(card)
    compute, clock = onnx.OnnxRunner().run, emulated.CardClock(card)
    calibration = f"emulated: {gpu.name}, card {known.seed}, {known.slower:g} times slower"
    found = nvml.open(which, emulated.EmulatedRunner(card, compute), clock=clock, calibration=calibration)
    runner = emulated.EmulatedRunner(
        card, compute, clocks=found.actuator.current, throttled=lambda: bool(gpu.throttled())
    )
    return replace(found, runner=runner, precisions=tuple(known.true_chip().precisions))


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
    if device is not None and device.startswith("recorded:"):
        return _as_it_is(recorded.graph(device.partition(":")[2], name), batch, shapes)
    if name == BUNDLED:
        return onnx.load(bundled.model_path(), batch=batch, shapes=shapes, execution=_execution(device or ""))
    if name.startswith("synthetic:"):
        number = name.partition(":")[2]
        if not number.isdecimal() or int(number) < 1:
            raise Refused(f"{name!r} is not like synthetic:20, a made-up network of 20 operators")
        return _as_it_is(replace(synthetic.chain(int(number), seed=0, batch=batch), source=name), batch, shapes)
    return onnx.load(Path(model).resolve(), batch=batch, shapes=shapes, execution=_execution(device or ""))


def _as_it_is(graph: Graph, batch: int, shapes: Mapping[str, tuple[int, ...]] | None) -> Graph:
    """Return a network that takes no shapes, and no batch but its own; Refused for others."""
    given = dict(shapes or {})
    if given and given != graph.shapes:
        raise Refused(f"{graph.name} takes no shapes; leave out --shape {next(iter(given))}:…")
    if batch not in (1, graph.batch):
        raise Refused(f"{graph.name} is replayed as it was recorded; leave out --batch {batch}")
    return graph


def labelled(name: str, graph: Graph) -> Examples:
    """Read labelled data: an ``.npz`` file, or ``bundled`` for the bundled test images."""
    if name != "bundled":
        return accuracy.read_labelled(Path(name), graph)
    images, labels = bundled.fashion_mnist("test")
    return Examples({graph.inputs[0].name: bundled.model_input(images)}, labels.astype(np.int64))


def restore(*, dry_run: bool = False) -> tuple[Restored, ...]:
    """Put back every clock that a killed run left changed; with ``dry_run`` only say which."""
    return lease.restorable() if dry_run else lease.restore()
