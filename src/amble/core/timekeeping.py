"""What the times of a device are times of, in words: on this machine its threads' CPU time, else the device's own."""

from __future__ import annotations

from amble.core.address import Address

__all__ = ["caution", "measure_of"]

_CAUTION = (
    "times predicted for this machine are CPU time of the thread, which other load does not lengthen; answers are "
    "given by the clock on the wall, and the margin for that was measured while the machine was as busy as it was "
    "then: on a busier one they come later, however short the prediction"
)


def measure_of(device: str) -> str:
    """Return what a predicted or measured time of a device counts.

    >>> measure_of("host")
    'CPU time of the thread'
    >>> measure_of("host?threads=4")
    'the clock on the wall, other load included'
    """
    if _is_thread(device):
        return "CPU time of the thread"
    if Address.parse(device).scheme == "host":
        return "the clock on the wall, other load included"
    return "the device's own time"


def caution(device: str) -> tuple[str, ...]:
    """Return what whoever plans with a device's times must know; nothing where they are those of its answers."""
    return (_CAUTION,) if _is_thread(device) else ()


def _is_thread(device: str) -> bool:
    """Tell whether a device is this machine's CPU and does all its work in the thread that asks for it."""
    address = Address.parse(device)
    given = address.options
    one = given.get("threads", "1") == "1" and ("threads" in given or given.get("cpus", "0").isdecimal())
    return address.scheme == "host" and one
