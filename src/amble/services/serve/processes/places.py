"""Devices as they were named → the places where engines run: a device each, and the CPUs that are its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from amble.core.address import Address
from amble.core.errors import Refused

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
    own = [each for each in found if Address.parse(each.uri).scheme == "host"]
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
    if address.scheme != "host":
        return Place(device, device)
    options = dict(address.options)
    text = options.pop("cpus", address.name)
    cpus = _cpus(text, device) if text else ()
    if missing := sorted(set(cpus) - os.sched_getaffinity(0)):
        raise Refused(f"--device {device}: CPU {missing[0]} is not there, or not for this process")
    return Place(device, str(replace(address, name="", options=options)), cpus)


def _cpus(text: str, device: str) -> tuple[int, ...]:
    """Read CPUs as in ``0-3,8``."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise Refused(f"--device {device}: {part!r} are no CPUs; write them as in host:0-3,8")
        found |= set(range(int(first), int(last or first) + 1))
    if not found:
        raise Refused(f"--device {device}: {text!r} are no CPUs; write them as in host:0-3,8")
    return tuple(sorted(found))
