"""Devices as they were named → the places where engines run: a device each, and the CPUs that are its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from amble.core.address import Address, cpu_list
from amble.core.errors import Refused
from amble.inputs.backends import back_end

__all__ = ["Place", "places"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one engine runs: the device as it was named and as it is opened, and its CPUs (empty: any).

    ``shared``: others of its kind run on the same machine, so that no meter and no clock is its own.
    """

    name: str
    uri: str
    cpus: tuple[int, ...] = ()
    shared: bool = False


def places(devices: Sequence[str]) -> tuple[Place, ...]:
    """Read devices: ``host:0-7`` and ``host?cpus=0-7`` are the CPUs 0 to 7 of this machine.

    Refused where a group is empty, has CPUs that this process may not use, or shares some with another.
    """
    found = [_place(each) for each in devices]
    own = [each for each in found if back_end(each.uri).here]
    for at, first in enumerate(own):
        for second in own[at + 1 :]:
            if not first.cpus or not second.cpus or set(first.cpus) & set(second.cpus):
                raise Refused(
                    f"--device {first.name} and --device {second.name} share CPUs: name them apart, "
                    "as in host:0-3 and host:4-7"
                )
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise Refused(f"--device {name} is named twice; once is enough")
    return tuple(replace(each, shared=each in own and len(own) > 1) for each in found)


def _place(device: str) -> Place:
    address = Address.parse(device)
    if not back_end(device).here:
        return Place(device, device)
    options = dict(address.options)
    text = options.pop("cpus", address.name)
    cpus = cpu_list(text) if text else ()
    if missing := sorted(set(cpus) - os.sched_getaffinity(0)):
        raise Refused(f"--device {device}: CPU {missing[0]} is not there, or not for this process")
    return Place(device, str(replace(address, name="", options=options)), cpus)
