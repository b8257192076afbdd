"""Names → clocks and meters that are in good hands: of the guard, of a lease, of an emulated card."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from amble.core.address import Address
from amble.core.errors import Refused
from amble.core.ports import Device
from amble.devices import emulated, guarded, host, lease, named, nvml
from amble.devices.summed import SummedMeter
from amble.devices.throttling import WatchedRunner
from amble.runtimes import onnx

__all__ = ["emulated_card", "metered", "owning"]


def emulated_card(address: Address) -> Device:
    """Open the emulated card that this process was told to see, with its runner and its clocks in good hands."""
    index, card = named.which(address.name), emulated.folder()
    assert card is not None
    board = nvml.Board(index)
    known = emulated.read(card)
    compute, clock = onnx.OnnxRunner().run, emulated.CardClock(card)
    calibration = f"emulated: {board.name}, card {known.seed}, {known.slower:g} times slower"
    sleeping = emulated.EmulatedRunner(card, compute)
    found = owning(nvml.open(index, sleeping, clock=clock, calibration=calibration, knobs=named.knobs_of(address)))
    runner = emulated.EmulatedRunner(
        card, compute, clocks=found.actuator.current, throttled=lambda: bool(board.throttled())
    )
    return replace(
        found,
        runner=WatchedRunner(runner, board.reasons, period_s=None),
        precisions=tuple(known.true_chip().precisions),
    )


def metered(device: Device, which: str) -> Device:
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


def owning(device: Device) -> Device:
    """Return the device with its clocks in good hands: the guard's, where one runs and this user has no right of its
    own (or named it by ``AMBLE_GUARD``), else a lease's of this process.
    """
    socket = guarded.found_socket()
    if socket is None or (os.geteuid() == 0 and not os.environ.get(guarded.VARIABLE)):
        return lease.guarded(device)
    return replace(device, actuator=guarded.GuardedActuator(device.name, socket))
