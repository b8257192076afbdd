"""RAPL limits of this machine's packages → a knob: the watts they may take together, kept by the CPUs themselves.

The limit is the long-term one (``constraint_N_name`` is ``long_term``): an average over seconds, which short bursts may
exceed. A package that is shown twice (``intel-rapl:0`` and ``intel-rapl-mmio:0``) obeys the lower of both, so both are
set. The total is shared out evenly over packages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from amble.core.errors import Refused
from amble.devices.knobs import Kind, read_text, write_text

__all__ = ["Limit", "PowerKnob", "power_knob"]

_POWERCAP = "sys/class/powercap"
_LEVELS = 10
_LEAST = 0.3  # of the highest limit: below it CPUs keep their lowest clock and exceed the limit
_GRAIN_W = 1.0  # hardware keeps limits in eighths of a watt


@dataclass(frozen=True, slots=True)
class Limit:
    """The long-term limit of one package: its file, the file that enforces it if there is one, its highest value."""

    package: str
    file: Path
    enabled: Path | None
    most_w: float

    def files(self) -> Iterator[Path]:
        """Return what is written, in order."""
        if self.enabled is not None:
            yield self.enabled
        yield self.file


@dataclass(frozen=True, slots=True)
class PowerKnob:
    """The watts that all packages may take together [W]; every shown limit of a package is held alike."""

    levels: tuple[float, ...]
    limits: tuple[Limit, ...]
    kind: Kind = "limit"

    def read(self) -> float:
        """Return the limit in force [W]: the lowest of each package, added up."""
        return _together((each.package, _watts(each.file)) for each in self.limits)

    def hold(self, level: float) -> None:
        """Hold this limit [W]; Refused when the right is missing, or firmware keeps another one."""
        each_w = level / len({each.package for each in self.limits})
        for limit in self.limits:
            if limit.enabled is not None and read_text(limit.enabled) == "0":
                write_text(limit.enabled, "1")
            write_text(limit.file, str(round(each_w * 1e6)))
            kept_w = _watts(limit.file)
            if abs(kept_w - each_w) > _GRAIN_W:
                raise Refused(f"{limit.file}: asked for {each_w:g} W, firmware keeps {kept_w:g} W; it may be locked")

    def found(self) -> tuple[tuple[str, str], ...]:
        """Return what stands in all files that ``hold`` writes; whether limits are enforced comes last."""
        paths = [path for limit in self.limits for path in reversed(tuple(limit.files()))]
        return tuple((str(path), read_text(path)) for path in paths)


def power_knob(root: Path = Path("/")) -> PowerKnob | None:
    """Return the limit of a machine's packages in ten even steps up to the highest; None where there is none."""
    limits = tuple(_limits(root))
    most_w = _together((each.package, each.most_w) for each in limits)
    if not limits or most_w <= 0:
        return None
    steps = (_LEAST + (1 - _LEAST) * step / (_LEVELS - 1) for step in range(_LEVELS))
    return PowerKnob(tuple(dict.fromkeys(float(round(most_w * each)) for each in steps)), limits)


def _limits(root: Path) -> Iterator[Limit]:
    for name in sorted((root / _POWERCAP).glob("*/constraint_*_name")):
        package = read_text(name.with_name("name"))
        if not package.startswith("package") or read_text(name) != "long_term":
            continue
        file = name.with_name(name.name.removesuffix("name") + "power_limit_uw")
        most = name.with_name(name.name.removesuffix("name") + "max_power_uw")
        enabled = name.with_name("enabled")
        most_w = _watts(most) if most.exists() else 0.0  # some tell 0
        yield Limit(package, file, enabled if enabled.exists() else None, most_w or _watts(file))


def _together(limits_w: Iterable[tuple[str, float]]) -> float:
    """Add up the limits of packages [W], of each the lowest that is shown."""
    lowest_w: dict[str, float] = {}
    for package, limit_w in limits_w:
        lowest_w[package] = min(limit_w, lowest_w.get(package, limit_w))
    return sum(lowest_w.values())


def _watts(path: Path) -> float:
    text = read_text(path)
    try:
        return int(text) * 1e-6
    except ValueError as error:
        raise Refused(f"{path} holds {text!r}, which is no power; is it another kind of file?") from error
