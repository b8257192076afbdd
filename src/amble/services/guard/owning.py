"""A device's name → its clocks, owned by a lease in the guard's folder. No runtime is loaded for that."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl

from amble.core.errors import Refused
from amble.devices import host, nvml, sysfs
from amble.devices.lease import LeasedActuator, Ownable, leased

__all__ = ["owned"]


def owned(uri: str, folder: Path) -> LeasedActuator:
    """Open the clocks of ``nvml:0``, ``sysfs:gpu`` or ``host``; Refused for a device without real clocks.

    ``?root=FOLDER`` looks for the files of sysfs elsewhere, ``?cpu=1`` adds a board's CPU clock, ``?knobs=power`` takes
    a GPU's power limit alone.
    """
    address, _, query = uri.partition("?")
    options = dict(parse_qsl(query))
    scheme, _, name = address.partition(":")
    root = Path(options.get("root", "/"))
    found: Ownable
    match scheme:
        case "nvml":
            board = nvml.Board(int(name) if name.isdecimal() else name or 0)
            found = nvml.NvmlActuator(board, "power" if options.get("knobs") == "power" else "clocks")
        case "sysfs":
            found = sysfs.actuator(name or "gpu", root, cpu=options.get("cpu") == "1")
        case "host":
            found = host.actuator(root)
        case _:
            raise Refused(f"{uri} has no clocks of this machine; write nvml:0, sysfs:gpu or host")
    return leased(found, uri, folder)
