"""A recorded link (rates over time) → its rate at any share of the time; units that are likely others are refused.

A trace is a table with a column of rates whose name tells the unit (``rate_bit_s``, ``rate_kbit_s``, ``rate_Mbit_s``)
and a column ``time_s``, without which each row stands for one second. A rate of 0 is an outage and stays one. Links are
told in bits: bytes are refused with the factor, and so are names without a unit, since a rate that is eight or a
thousand times another is as plausible.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amble.core.delimited import read_delimited
from amble.core.errors import Refused
from amble.core.ports import FloatArray
from amble.levers.split.link import format_rate

__all__ = ["Trace", "is_trace", "read_trace"]

_TIME = "time_s"
_OTHER_TIME = re.compile(r"time(_\w+)?", re.IGNORECASE)
_SCALES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
_UNIT = re.compile(r"(?:\w*_)?([kKMGmg]?)(bits?|b|[Bb]ytes?|B)(?:ps|_?s|_per_s)")
_RATE = re.compile(r"rate|bitrate|throughput|bandwidth|capacity", re.IGNORECASE)
_LEAST_BIT_S, _MOST_BIT_S = 1e3, 1e11  # of a median that is believed


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Rates [bit/s], each for so long [s]: [row]."""

    rate_bit_s: FloatArray
    lasts_s: FloatArray

    def exceeded(self, share: float) -> float:
        """Return the rate that the link has or exceeds in this share of the time."""
        order = np.argsort(-self.rate_bit_s)
        passed = np.cumsum(self.lasts_s[order]) / self.lasts_s.sum()
        return float(self.rate_bit_s[order][min(int(np.searchsorted(passed, share - 1e-12)), len(order) - 1)])

    @property
    def typical_bit_s(self) -> float:
        """Return the rate of half the time in which there is any."""
        some = self.rate_bit_s > 0
        return Trace(self.rate_bit_s[some], self.lasts_s[some]).exceeded(0.5)

    def share(self, slowest_bit_s: float, fastest_bit_s: float) -> float:
        """Return the share of the time with rates from one up to, and without, another."""
        inside = (self.rate_bit_s >= slowest_bit_s) & (self.rate_bit_s < fastest_bit_s)
        return float(self.lasts_s[inside].sum() / self.lasts_s.sum())

    def __str__(self) -> str:
        """Write it as a part of a sentence."""
        low, middle, high = (format_rate(self.exceeded(share)) for share in (0.9, 0.5, 0.1))
        return f"{low} to {high} in most of the time, {middle} or more in half of it"


def is_trace(text: str) -> bool:
    """Tell a trace's file from a rate."""
    return text.strip().lower().endswith((".csv", ".csv.gz", ".tsv", ".txt"))


def read_trace(path: Path | str) -> Trace:
    """Read a trace. Refused for rates without a unit, in bytes, negative, unknown, or all zero; for times that fall."""
    found = read_delimited(Path(path), lambda names: sum(bool(_RATE.search(each)) or each == _TIME for each in names))
    if len(found.rows) < 2:
        raise Refused(f"--link {path} holds no rates: it needs a header, and a row for each moment")
    header = [cell.strip() for cell in found.rows[0][1]]
    column, scale = _rate_column(path, header)
    rates = np.array([_number(path, number, row, column, header) for number, row in found.rows[1:]]) * scale
    if (rates < 0).any():
        line = found.rows[1 + int(np.argmax(rates < 0))][0]
        raise Refused(f"--link {path}, line {line}: a rate below 0; leave the row out, or write 0 for an outage")
    lasts_s = _lasts_s(path, header, found.rows[1:])
    trace = Trace(rates, lasts_s)
    if not rates.any():
        raise Refused(f"--link {path}: every rate is 0: nothing can be sent; plan it for the device alone: amble plan")
    median = float(np.median(rates[rates > 0]))
    if not _LEAST_BIT_S <= median <= _MOST_BIT_S:
        name = header[column]
        raise Refused(
            f"--link {path}: the median of {name} would be {format_rate(median)}, which no link is; is it rather in "
            f"{'kbit/s or Mbit/s' if median < _LEAST_BIT_S else 'bit/s'}? Name the column by its unit (rate_kbit_s)"
        )
    return trace


def _rate_column(path: Path | str, header: list[str]) -> tuple[int, float]:
    """Find the column of rates and its unit."""
    units = [(at, match[1], match[2]) for at, name in enumerate(header) if (match := _UNIT.fullmatch(name))]
    if len(units) > 1:
        named = " and ".join(header[at] for at, *_ in units)
        raise Refused(f"--link {path} has several rates, {named}; keep the one that the device sends at")
    for at, prefix, what in units:
        good = f"rate_{prefix.upper().replace('K', 'k')}bit_s"
        if what[0] == "B" or what.startswith("byte"):
            raise Refused(
                f"--link {path}: {header[at]} looks like bytes; links are told in bits: multiply by 8, name it {good}"
            )
        if prefix not in _SCALES:
            raise Refused(f"--link {path}: {header[at]} has the prefix {prefix!r}; name it {good} if that is meant")
        return at, _SCALES[prefix]
    suspects = [name for name in header if _RATE.search(name)]
    if suspects:
        raise Refused(
            f"--link {path}: {suspects[0]} has no unit, and bits and bytes, k and M look alike; rename it rate_bit_s, "
            f"rate_kbit_s or rate_Mbit_s (bytes: multiply by 8)"
        )
    raise Refused(f"--link {path} has no column of rates, such as rate_Mbit_s; it has {', '.join(header)}")


def _number(path: Path | str, line: int, row: list[str], column: int, header: list[str]) -> float:
    text = row[column].strip() if column < len(row) else ""
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise Refused(f"--link {path}, line {line}: {header[column]} is {text!r}, not a number; leave the row out")
    return value


def _lasts_s(path: Path | str, header: list[str], rows: tuple[tuple[int, list[str]], ...]) -> FloatArray:
    """Return how long each rate lasts: until the next one, the last as long as the one before."""
    if _TIME not in header:
        if others := [name for name in header if _OTHER_TIME.fullmatch(name)]:
            raise Refused(f"--link {path}: {others[0]} may be in any unit; tell it in seconds, and name it {_TIME}")
        return np.ones(len(rows))
    if len(rows) == 1:
        return np.ones(1)
    column = header.index(_TIME)
    times_s = np.array([_number(path, number, row, column, header) for number, row in rows])
    gaps_s = np.diff(times_s)
    if (gaps_s <= 0).any():
        line = rows[1 + int(np.argmax(gaps_s <= 0))][0]
        raise Refused(f"--link {path}, line {line}: {_TIME} does not rise; sort the rows, one trace a file")
    return np.append(gaps_s, gaps_s[-1])
