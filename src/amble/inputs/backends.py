"""URI → the kind of device it names: amble's own, in one table, and those that other packages registered."""

from __future__ import annotations

from collections.abc import Mapping

from amble.core.address import Address
from amble.core.backend import BackEnd, Computing, Description, Layers, Opening, is_back_end
from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.layers import Probe
from amble.core.ports import Device
from amble.core.registered import DEVICES, names, registered
from amble.devices import emulated, host, knobs, lease, named, nvml, recorded, simulated, sysfs
from amble.devices.simulated import chip
from amble.devices.simulated.paced import paced
from amble.inputs import clocks, hardware
from amble.runtimes import onnx
from amble.runtimes.onnx.layers import OnnxLayers
from amble.runtimes.probing import DeviceLayers

__all__ = ["BACK_ENDS", "BOUND", "back_end", "back_ends"]

BOUND = frozenset({"nvml", "sysfs"})
"""Kinds that serve by a runtime that binds a network to one batch size, opened as they are for measuring."""


def _simulated(wanted: Opening) -> Device:
    options = wanted.address.options
    return simulated.open(
        wanted.address.name,
        compute=wanted.runner.run,
        seed=_number(wanted),
        governor=options.get("governor", "performance"),
    )


def _number(wanted: Opening) -> int:
    text = wanted.address.options.get("seed", str(wanted.seed))
    if not text.isdecimal():
        raise Refused(f"{wanted.address}: {text!r} is no seed; write a whole number, as in ?seed=3")
    return int(text)


def _simulated_for_clients(address: Address, runner: Computing) -> Device:
    return paced(simulated.open(address.name, compute=runner.compute))


def _chips() -> tuple[Description, ...]:
    return tuple(simulated.describe(each) for each in simulated.chips())


def _baselines(address: Address) -> tuple[str, ...]:
    """Return the governor that a chip ships with, and where memory has more than one clock one like SysScale."""
    loaded = chip.load(address.name)
    return (loaded.core_governor, "sysscale") if len(loaded.memory_mhz) > 1 else (loaded.core_governor,)


def _layers_of(device: Device, wanted: Layers) -> Probe:
    return DeviceLayers(device, device.actuator.current(), wanted.batch)


def _recorded(wanted: Opening) -> Device:
    return recorded.open(wanted.address.name, workload=wanted.workload, compute=wanted.runner)


def _tables() -> tuple[Description, ...]:
    return tuple(recorded.describe(path) for path in recorded.tables().values())


def _workload(address: Address, name: str) -> Graph:
    return recorded.graph(address.name, name)


def _real(wanted: Opening) -> Device:
    """Open this machine's CPU or GPU, or the emulated card that this process was told to see."""
    address = wanted.address
    execution = hardware.execution(str(address))
    found = clocks.emulated_card(address) if execution is None else clocks.owning(hardware.real(address, execution))
    return clocks.metered(found, address.options.get("meter", "gpu"))


def _board(wanted: Opening) -> Device:
    return hardware.board_over_ssh(str(wanted.address), wanted.address.name, dict(wanted.address.options))


def _host_for_clients(address: Address, runner: Computing) -> Device:
    return lease.guarded(host.open(runner))


def _gpu_for_clients(address: Address, runner: Computing) -> Device:
    """Open a GPU as for measuring it: its own runtime runs what is served, bound to one batch size at a time."""
    if hardware.execution(str(address)) is None:
        card = emulated.folder()
        assert card is not None, "only an emulated card is run by itself"
        if emulated.read(card).slower != 1.0:
            raise Refused(
                f"{address}: the emulated card of {card} does not keep this machine's time, which clients live in; "
                f"make it with --slower 1"
            )
    return _real(Opening(address, runner))


def _host_layers(device: Device, wanted: Layers) -> Probe:
    return OnnxLayers(wanted.batch, wanted.between_bytes, "int8" if wanted.precision == "int8" else "fp32")


BACK_ENDS: Mapping[str, BackEnd] = {
    each.scheme: each
    for each in (
        BackEnd(
            "host",
            "host",
            _real,
            options=(*onnx.OPTIONS, *named.OPTIONS["host"]),
            describe=lambda: (host.describe(),),
            serve=_host_for_clients,
            put_back=knobs.put_back,
            layers=_host_layers,
            layer_precisions=("fp32", "int8"),
            here=True,
        ),
        BackEnd(
            "nvml",
            "nvml:0",
            _real,
            (*onnx.OPTIONS, *named.OPTIONS["nvml"], "meter"),
            describe=nvml.describe,
            serve=_gpu_for_clients,
            put_back=nvml.put_back,
        ),
        BackEnd(
            "sysfs",
            "sysfs:NODE",
            _real,
            (*onnx.OPTIONS, *named.OPTIONS["sysfs"], "rails"),
            describe=sysfs.describe,
            serve=_gpu_for_clients,
            put_back=knobs.put_back,
        ),
        BackEnd("ssh", "ssh:user@board/host", _board, ("provider", "precision", "threads", "python")),
        BackEnd(
            "sim",
            "sim:CHIP",
            _simulated,
            options=("governor", "seed"),
            describe=_chips,
            serve=_simulated_for_clients,
            by_size=True,
            layers=_layers_of,
            governors=_baselines,
            simulated=True,
        ),
        BackEnd("recorded", "recorded:TABLE", _recorded, describe=_tables, graph=_workload, simulated=True),
    )
}
"""In the order in which ``amble devices`` lists them."""


def back_end(uri: str) -> BackEnd:
    """Return the kind of device that a URI names. Refused, with what may be written, for one that nobody knows, and for
    options without a value.
    """
    named.refuse_empty(uri)
    address = Address.parse(uri)
    found = registered(DEVICES, address.scheme, BACK_ENDS, is_back_end)
    if found is None:
        ours = ("sim:CHIP", "recorded:TABLE", "host", "nvml:0", "sysfs:gpu", "ssh:user@board/host")
        known = (*ours, *(each.example for each in back_ends()[len(BACK_ENDS) :]))
        raise Refused(
            f"unknown device {uri!r}; write {', '.join(known[:-1])} or {known[-1]} (amble devices lists them)"
        )
    return found


def back_ends() -> tuple[BackEnd, ...]:
    """Return every kind of device: amble's own, then those that other packages brought."""
    others = (registered(DEVICES, name, BACK_ENDS, is_back_end) for name in names(DEVICES))
    return (*BACK_ENDS.values(), *(each for each in others if each is not None))
