"""A result of a bench -> what documents tell of it: counts, shares and ranges as text.

A module `told.py` of a bench holds `NUMBERS`, what can be told by name, and `SOURCES`, the results it is told from. The
part of a name before the point is the result: `pit.no_more_energy` is told from the document of `pit`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from bench.kit import places

__all__ = ["Numbers", "Record", "Result", "between", "count", "mean", "percent", "plain", "read", "signed"]

Record = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """The document of a bench."""

    records: list[Record]
    targets: list[Record]

    def where(self, **fields: object) -> list[Record]:
        """Return the records that have all of these values."""
        return [each for each in self.records if all(each.get(name) == value for name, value in fields.items())]

    def column(self, name: str, **fields: object) -> list[Any]:
        """Return one field of the records that have it and all of these values."""
        return [each[name] for each in self.where(**fields) if each.get(name) is not None]

    def judged(self, *parts: str) -> list[Record]:
        """Return the targets whose name holds all parts; there must be one."""
        found = [each for each in self.targets if all(part in each["target"] for part in parts)]
        assert found, f"no target is named like {parts}"
        return found

    def met(self, *parts: str) -> str:
        """Count the targets met: '106 of 108'."""
        found = self.judged(*parts)
        return f"{sum(each['met'] is True for each in found)} of {len(found)}"

    def value(self, *parts: str) -> float:
        """Return the value of the one target that is named like this, or of the one that begins so."""
        found, *more = sorted(self.judged(*parts), key=lambda each: not each["target"].startswith(parts[0]))
        starts = found["target"].startswith(parts[0])
        assert all(starts and not each["target"].startswith(parts[0]) for each in more), f"several are like {parts}"
        return float(found["value"])

    def values(self, *parts: str) -> list[float]:
        """Return the values of all targets that are named like this."""
        return [float(each["value"]) for each in self.judged(*parts) if each["value"] is not None]


Numbers = dict[str, Callable[[Result], str]]


@cache
def read(name: str) -> Result:
    """Return the last result of a bench, such as `pit@sim`."""
    found = json.loads(places.result(name).read_text(encoding="utf-8"))
    return Result(found["results"], found["targets"])


def percent(share: float, digits: int = 0) -> str:
    """Tell a share: '28 %'."""
    return f"{100 * share:.{digits}f} %"


def plain(value: float, digits: int = 0) -> str:
    """Tell a number."""
    return f"{value:.{digits}f}"


def signed(value: float, digits: int = 1) -> str:
    """Tell a difference, with a true minus: '+0.9', '−0.6'."""
    return f"{value:+.{digits}f}".replace("-", "−")


def between(values: Iterable[float], digits: int = 0, *, scale: float = 1.0, unit: str = "") -> str:
    """Tell a range: '24 to 31 %'; one number where both ends read alike."""
    found = sorted(round(scale * each, digits) for each in values)
    low, high = (f"{each + 0.0:.{digits}f}".replace("-", "−") for each in (found[0], found[-1]))
    told = low if low == high else f"{low} to {high}"
    return f"{told} {unit}".strip()


def count(flags: Iterable[bool]) -> str:
    """Count: '74 of 90'."""
    found = list(flags)
    return f"{sum(found)} of {len(found)}"


def mean(values: Sequence[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)
