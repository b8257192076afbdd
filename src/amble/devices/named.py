"""The URI of real hardware → its clocks, as its options say; nothing is changed, and no runtime is loaded for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from amble.core.address import Address, cpu_list
from amble.core.errors import Refused
from amble.devices import host, nvml, sysfs
from amble.devices.knobs import FileActuator, read_text
from amble.devices.powercap import power_knob
from amble.devices.powermodes import Mode, ModeActuator, current_mode
from amble.devices.throttling import Reason, cooling

__all__ = ["OPTIONS", "knobs_of", "missing", "mode_of", "owned_by_name", "reasons", "refuse_empty", "root_of", "which"]

OPTIONS = {
    "host": ("root", "knobs", "turbo", "preference", "cpus"),
    "nvml": ("knobs",),
    "sysfs": ("root", "cpu", "mode"),
}
"""What the clocks of each scheme may be told."""

_POLICIES = "sys/devices/system/cpu/cpufreq"
_TURBO = (
    (f"{_POLICIES}/boost", {"on": "1", "off": "0"}),
    ("sys/devices/system/cpu/intel_pstate/no_turbo", {"on": "0", "off": "1"}),
)


def owned_by_name(address: Address) -> FileActuator | ModeActuator | nvml.NvmlActuator:
    """Return the clocks of ``nvml:0``, ``sysfs:gpu`` or ``host``. Refused for a device without real clocks.

    ``root=FOLDER`` looks for the files of sysfs elsewhere; ``cpu=1`` adds a board's CPU clock, ``mode=NAME`` holds a
    power mode of it for as long as a clock is held; ``knobs=power`` takes a GPU's power limit alone, or the RAPL limit
    of this machine; ``turbo=off`` and ``preference=NAME`` hold for as long as a clock or limit of this machine is held.
    """
    match address.scheme:
        case "nvml":
            return nvml.NvmlActuator(nvml.Board(which(address.name)), knobs_of(address))
        case "sysfs":
            cpu, mode = _yes(address, "cpu"), address.options.get("mode")
            return sysfs.actuator(address.name or "gpu", root_of(address), cpu=cpu, mode=mode)
        case "host":
            return _host(address)
        case _:
            raise Refused(f"{address} has no clocks of this machine; write nvml:0, sysfs:gpu or host")


def reasons(address: Address) -> Callable[[], tuple[Reason, ...]] | None:
    """Return what tells what takes clocks from ``nvml:0``, a board or this machine; None where nothing does."""
    match address.scheme:
        case "nvml":
            return nvml.Board(which(address.name)).reasons
        case _:
            return cooling(root_of(address))


def mode_of(address: Address) -> Mode | None:
    """Return the power mode in force on the board that a URI names; None for other devices, and boards without."""
    match address.scheme:
        case "sysfs":
            return current_mode(root_of(address))
        case _:
            return None


def missing(address: Address) -> tuple[str, ...]:
    """Return which rights are missing for a device of this machine, whatever its options."""
    match address.scheme:
        case "host":
            return host.rights(root_of(address))
        case "sysfs":
            return sysfs.rights(address.name or "gpu", root_of(address))
        case "nvml":
            name = f"nvml:{address.name or 0}"
            return next((each.missing for each in nvml.describe() if each.name == name), ())
        case _:
            return ()


def refuse_empty(uri: str) -> None:
    """Refuse options without a value, or named twice: one of them would be taken in silence."""
    given = [part.partition("=") for part in uri.partition("?")[2].split("&") if part]
    for index, (name, equals, value) in enumerate(given):
        if equals and not value:
            raise Refused(f"{uri!r}: the option {name}= is empty; give it a value, or leave it out")
        if any(name == other for other, _, _ in given[:index]):
            raise Refused(f"{uri!r}: the option {name}= is given twice; leave one of them out")


def which(name: str) -> int | str:
    """Return a GPU's index, or its UUID."""
    return int(name) if name.isdecimal() else name or 0


def root_of(address: Address) -> Path:
    """Return under which folder the files of sysfs lie."""
    return Path(address.options.get("root", "/"))


def knobs_of(address: Address) -> nvml.Knobs:
    """Return what is to be set: clocks, or a power limit alone."""
    match address.options.get("knobs", "clocks"):
        case "clocks":
            return "clocks"
        case "power":
            return "power"
        case other:
            raise Refused(f"{address} has no knobs {other!r}; write knobs=clocks, or knobs=power for the limit alone")


def _host(address: Address) -> FileActuator:
    root, options = root_of(address), address.options
    beside = (*_turbo(root, options.get("turbo")), *_preference(root, options.get("preference")))
    if knobs_of(address) == "power":
        limit = power_knob(root)
        if limit is None:
            raise Refused(f"{address}: no RAPL limit under {root / 'sys/class/powercap'}; leave out knobs=power")
        return FileActuator([limit], beside=beside)
    found = host.actuator(root, cpu_list(options["cpus"]) if "cpus" in options else (), beside=beside)
    if beside and len(found.available()) < 2:
        raise Refused(f"{address}: there is no clock that turbo or preference could be held with; leave them out")
    return found


def _turbo(root: Path, wanted: str | None) -> Iterator[tuple[Path, str]]:
    if wanted is None:
        return
    if wanted not in ("on", "off"):
        raise Refused(f"turbo={wanted} is neither on nor off")
    found = [(root / file, texts[wanted]) for file, texts in _TURBO if (root / file).exists()]
    if not found:
        raise Refused(f"no turbo that can be set under {root / 'sys/devices/system/cpu'}; leave out turbo={wanted}")
    yield from found


def _preference(root: Path, wanted: str | None) -> Iterator[tuple[Path, str]]:
    if wanted is None:
        return
    files = sorted((root / _POLICIES).glob("policy*/energy_performance_preference"))
    if not files:
        raise Refused(f"no energy preference under {root / _POLICIES}; leave out preference={wanted}")
    for file in files:
        known = ""
        with contextlib.suppress(Refused):
            known = read_text(file.with_name("energy_performance_available_preferences"))
        if known and wanted not in known.split():
            raise Refused(f"preference={wanted} is not one of this CPU's: {', '.join(known.split())}")
        yield file, wanted


def _yes(address: Address, name: str) -> bool:
    text = address.options.get(name, "0")
    if text not in ("0", "1"):
        raise Refused(f"{address}: {name}={text} is neither 0 nor 1")
    return text == "1"
