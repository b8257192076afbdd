"""Quantities with units, as people write them → SI floats, and back."""

from __future__ import annotations

import re

__all__ = ["format_energy", "format_excess", "format_time", "parse_hz", "parse_time_s"]

_TIME_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}
_FREQUENCY_HZ = {"hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9}


def parse_time_s(text: str) -> float:
    """Read a time with its unit → seconds; a bare number is refused.

    >>> parse_time_s("30ms")
    0.03
    """
    return _parse(text, _TIME_S, "time", "30ms or 0.5s")


def parse_hz(text: str) -> float:
    """Read a frequency with its unit → Hz; a bare number is refused.

    >>> parse_hz("1.3GHz")
    1300000000.0
    """
    return _parse(text.lower(), _FREQUENCY_HZ, "frequency", "1300MHz or 1.3GHz")


def format_time(time_s: float) -> str:
    """Write a time with the unit that suits it.

    >>> format_time(0.0123)
    '12.3 ms'
    """
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(time_s) >= scale:
            return f"{time_s / scale:.3g} {unit}"
    return f"{time_s / 1e-9:.3g} ns"


def format_energy(energy_j: float | None) -> str:
    """Write an energy with the unit that suits it; ``unknown`` where there is none.

    >>> format_energy(0.0123)
    '12.3 mJ'
    """
    if energy_j is None:
        return "unknown"
    for unit, scale in (("kJ", 1e3), ("J", 1.0), ("mJ", 1e-3), ("µJ", 1e-6)):
        if abs(energy_j) >= scale:
            return f"{energy_j / scale:.3g} {unit}"
    return f"{energy_j / 1e-9:.3g} nJ"


def format_excess(ratio: float) -> str:
    """Write how much longer something takes than allowed: what it takes over what it may.

    >>> format_excess(1.14), format_excess(20.0)
    ('14 % too long', '20 times what is allowed')
    """
    return f"{100 * (ratio - 1):.2g} % too long" if ratio < 1.99 else f"{ratio:.3g} times what is allowed"


def _parse(text: str, units: dict[str, float], what: str, example: str) -> float:
    told = text.replace("\N{GREEK SMALL LETTER MU}", "µ")  # the two look alike, and keyboards have either
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)\s*([a-zµ]*)\s*", told)
    if not match:
        raise ValueError(f"{text!r} is not a {what}; write {example}")
    number, unit = match.groups()
    if unit not in units:
        why = "has no unit" if not unit else f"has an unknown unit {unit!r}"
        raise ValueError(f"{what} {text!r} {why}; write {example} (units: {', '.join(units)})")
    return round(float(number) * units[unit], 15)
