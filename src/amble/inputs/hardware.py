"""The URI of real hardware → a Device with a runner: this machine, a board over ssh, or an emulated card.

Meter and clocks are opened first: the runner is told of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from amble.core.address import Address
from amble.core.errors import Refused, how_to_install
from amble.core.ports import Device, Runner
from amble.devices import board, emulated, host, named, nvml, rails
from amble.devices.throttling import WatchedRunner
from amble.runtimes import onnx, processors

__all__ = ["board_over_ssh", "execution", "quickest", "real"]

_UNSEEN = onnx.OnnxRunner()
"""Stands in until the runner is made, which is told of the device's meter and clocks."""


def execution(uri: str) -> onnx.Execution | None:
    """Return how networks are run on a real device; None for the others, and where the device is an emulated card."""
    address = Address.parse(uri)
    place = _PLACES.get(address.scheme)
    if place == "far":
        return onnx.far_form(address.options.get("precision", "fp32"))
    given = {name: value for name, value in address.options.items() if name in onnx.OPTIONS}
    if place is None or (_OPENERS.get(address.scheme) is _gpu and not given and emulated.folder() is not None):
        return None
    onnx.refuse_mixture()
    index = int(address.name) if address.name.isdecimal() else 0
    return onnx.execution(given, "cpu" if place == "cpu" else "cuda", index=index)


def quickest(uri: str, path: Path, *, batch: int = 1, shapes: Mapping[str, tuple[int, ...]] | None = None) -> str:
    """Return a URI with ``provider=auto`` made definite: the provider that runs this network quickest here."""
    address = Address.parse(uri)
    given = dict(address.options)
    if given.get("provider") != "auto":
        return uri
    if _PLACES.get(address.scheme) != "cpu":
        raise Refused(
            f"provider=auto is for host; a GPU takes its quickest provider by itself: leave it out of {uri!r}"
        )
    onnx.refuse_mixture()
    ways = [onnx.execution(given | {"provider": each.name}, "cpu") for each in onnx.installed("cpu")]
    chosen = onnx.quickest(path, ways, batch=batch, shapes=shapes)
    return str(address.having(provider=chosen.provider.name))


def real(address: Address, chosen: onnx.Execution) -> Device:
    """Open a machine's own CPU, GPU or board, with a runner that is told of its meter and its clocks."""
    found = _OPENERS[address.scheme](address, chosen)
    runner, reasons = _runner(chosen, found), named.reasons(address)
    watched = runner if reasons is None else WatchedRunner(runner, reasons)
    return replace(found, name=str(address), runner=watched, precisions=(chosen.precision,))


def _cpu(address: Address, chosen: onnx.Execution) -> Device:
    found = host.open(_UNSEEN, sysfs_root=named.root_of(address), cpus=chosen.cpus, name=str(address))
    return replace(found, actuator=named.owned_by_name(address), machine=processors.here())


def _gpu(address: Address, chosen: onnx.Execution) -> Device:
    return nvml.open(named.which(address.name), _UNSEEN, knobs=named.knobs_of(address))


def _devfreq(address: Address, chosen: onnx.Execution) -> Device:
    clock = host.MonotonicClock()
    meter = rails.metered(clock, named.root_of(address), address.options.get("rails"))
    calibration = "real" if meter is None else f"real; energy of {meter.name}"
    actuator = named.owned_by_name(address)
    return Device(str(address), clock, meter or host.Unmetered(clock), actuator, _UNSEEN, calibration)


_PLACES = {"host": "cpu", "nvml": "gpu", "sysfs": "gpu", "ssh": "far"}
_OPENERS: dict[str, Callable[[Address, onnx.Execution], Device]] = {"host": _cpu, "nvml": _gpu, "sysfs": _devfreq}


def _runner(chosen: onnx.Execution, found: Device) -> Runner:
    """Return what runs networks: one of ONNX Runtime's providers, or torch."""
    if chosen.provider is not onnx.TORCH:
        return onnx.OnnxRunner(chosen, meter=found.meter, clocks=found.actuator.current)
    try:
        from amble.runtimes.torch.runner import TorchRunner
    except ImportError as error:
        raise Refused(
            f"{found.name} has nothing that runs networks: {how_to_install('cuda')} for ONNX Runtime's CUDA and "
            f"TensorRT, or the extra torch with a build of torch for CUDA; or try an emulated card: "
            f"python -m amble.devices.emulated v100 FOLDER"
        ) from error
    place = f"cuda:{chosen.index}"
    return TorchRunner(chosen.precision, place=place, meter=found.meter, clocks=found.actuator.current)


def board_over_ssh(uri: str, name: str, given: dict[str, str]) -> Device:
    """Open a board over ssh: ``ssh:user@board/sysfs:gpu?provider=tensorrt``, ``ssh:user@board/host?threads=4``."""
    address, _, part = name.partition("/")
    unknown = given.keys() - {"provider", "precision", "threads", "python"}
    threads = given.get("threads", "1")
    if unknown or not threads.isdecimal() or int(threads) < 1:
        raise Refused(f"cannot read the options of {uri!r}; a board takes provider, precision, threads=N and python")
    link = board.over_ssh(address, python=given.get("python", "python3"))
    gpu = Address.parse(part).name == "gpu"
    try:
        if not link.hello["runtime"] and given.get("provider") != "trtexec":
            raise Refused(
                f"{address} has no ONNX Runtime for its {link.hello['python']}: install it there, or use trtexec"
            )
        chosen = onnx.far_execution(
            given.get("provider"),
            link.hello["providers"],
            gpu=gpu,
            threads=int(threads),
            precision=given.get("precision", "fp32"),
        )
        found = board.open(link, "gpu" if gpu else part, _UNSEEN, name=uri, precisions=(chosen.precision,))
    except BaseException:
        link.close()
        raise
    return replace(found, runner=onnx.RemoteRunner(link, chosen, clocks=found.actuator.current))
