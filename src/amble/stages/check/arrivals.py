"""A load as people write it (``poisson:35/s:60s``) → arrival times.

The grammar. TIME is ``30ms``, ``60s``, ``5min``; RATE is ``35/s`` or ``600/min``; EXTENT is a TIME (the requests that
arrive before it) or a whole number of requests.

=============================  ==============================================================================
``periodic:TIME:EXTENT``       one request every TIME (a RATE may stand in its place)
``poisson:RATE:EXTENT``        independent users
``burst:RATE:SIZE:EXTENT``     SIZE requests at once, at independent moments; RATE counts requests, not bursts
``ramp:RATE:RATE:TIME``        independent users whose rate goes straight from one value to the other
``onoff:RATE:TIME:TIME:TIME``  independent users for the first TIME, none for the second, repeated; the third ends it
``file:PATH[@RATE][:EXTENT]``  recorded: times [s], or requests in each second. ``@RATE`` keeps a random share
=============================  ==============================================================================

All are open loops: nobody waits for an answer before sending the next request.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from amble.core.errors import Refused
from amble.core.ports import FloatArray
from amble.core.quantity import parse_time_s

__all__ = ["GRAMMAR", "Arrivals", "Burst", "Load", "OnOff", "Periodic", "Ramp", "Recorded", "parse_load"]

GRAMMAR = (
    "periodic:30ms:1000, poisson:35/s:60s, burst:35/s:8:60s, ramp:5/s:50/s:60s, onoff:50/s:2s:8s:60s "
    "or file:PATH[@RATE][:EXTENT]"
)
_MAX_REQUESTS = 50_000_000


class Arrivals(Protocol):
    """Makes arrival times."""

    def times_s(self, random: np.random.Generator) -> FloatArray:
        """Return arrival times [s], not decreasing: [request]."""
        ...


@dataclass(frozen=True, slots=True)
class Extent:
    """How long a load lasts: until a time [s], or for a number of requests."""

    time_s: float = float("inf")
    requests: int = _MAX_REQUESTS

    def cut(self, times_s: FloatArray) -> FloatArray:
        """Keep the requests within: [request]."""
        return times_s[times_s < self.time_s][: self.requests]

    def expect(self, rate_hz: float) -> float:
        """Return how many requests this is at a rate [1/s]."""
        return min(self.time_s * rate_hz, float(self.requests))


@dataclass(frozen=True, slots=True)
class Periodic:
    """One request every ``period_s`` [s], the first at 0."""

    period_s: float
    extent: Extent

    def times_s(self, random: np.random.Generator) -> FloatArray:
        """Return the multiples of the period: [request]."""
        count = int(np.ceil(self.extent.expect(1 / self.period_s) - 1e-9))
        return self.period_s * np.arange(count, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Burst:
    """Bursts of ``size`` requests, independent of each other; size 1 is a Poisson process of ``rate_hz`` requests/s."""

    rate_hz: float
    size: int
    extent: Extent

    def times_s(self, random: np.random.Generator) -> FloatArray:
        """Return exponential gaps, summed, each moment ``size`` times: [request]."""
        mean = self.extent.expect(self.rate_hz) / self.size
        draws = int(mean + 10 * np.sqrt(mean) + 20)
        moments_s = np.cumsum(random.exponential(self.size / self.rate_hz, draws))
        return self.extent.cut(np.repeat(moments_s, self.size))


@dataclass(frozen=True, slots=True)
class Ramp:
    """A Poisson process whose rate goes straight from ``first_hz`` to ``last_hz`` in ``time_s``."""

    first_hz: float
    last_hz: float
    time_s: float

    def times_s(self, random: np.random.Generator) -> FloatArray:
        """Return uniform draws through the inverse of the integrated rate, sorted: [request]."""
        change = self.last_hz - self.first_hz
        total = (self.first_hz + self.last_hz) / 2 * self.time_s
        share = np.sort(random.random(random.poisson(total)))
        root = np.sqrt(self.first_hz**2 + 2 * change * total * share / self.time_s)
        times_s: FloatArray = 2 * total * share / (self.first_hz + root)
        return times_s


@dataclass(frozen=True, slots=True)
class OnOff:
    """A Poisson process of ``rate_hz`` for ``on_s``, then nothing for ``off_s``, and so on until ``time_s``."""

    rate_hz: float
    on_s: float
    off_s: float
    time_s: float

    def times_s(self, random: np.random.Generator) -> FloatArray:
        """Return a Poisson process in busy time, with the silences put in: [request]."""
        rounds = np.ceil(self.time_s / (self.on_s + self.off_s))
        busy_s = Burst(self.rate_hz, 1, Extent(rounds * self.on_s)).times_s(random)
        times_s = busy_s + np.floor(busy_s / self.on_s) * self.off_s
        return Extent(self.time_s).cut(times_s)


@dataclass(frozen=True, slots=True)
class Recorded:
    """Arrivals from a file: times [s] or requests in each second, of which ``rate_hz`` keeps a random share."""

    path: Path
    rate_hz: float | None
    extent: Extent

    def times_s(self, random: np.random.Generator) -> FloatArray:
        """Return the file's times, from 0 on; a count's requests spread over its second at random: [request]."""
        name, numbers = _column(self.path)
        times_s = _spread(numbers, random) if _counts(name, numbers) else np.sort(numbers - numbers.min())
        times_s = times_s[times_s < self.extent.time_s]
        if self.rate_hz is not None:
            times_s = self._thin(times_s, random)
        return self.extent.cut(times_s)

    def _thin(self, times_s: FloatArray, random: np.random.Generator) -> FloatArray:
        length_s = min(self.extent.time_s, float(times_s[-1])) if times_s.size else 0.0
        have_hz = times_s.size / max(length_s, 1e-9)
        assert self.rate_hz is not None
        if self.rate_hz > have_hz:
            raise Refused(f"{self.path} has {have_hz:.3g} requests/s; @RATE can only keep fewer than that")
        return times_s[random.random(times_s.size) < self.rate_hz / have_hz]


@dataclass(frozen=True, slots=True)
class Load:
    """A load: how it was written, and what makes its arrivals."""

    spec: str
    arrivals: Arrivals

    def times_s(self, seed: int) -> FloatArray:
        """Return arrival times [s] from 0 on, not decreasing; the same seed gives the same ones: [request].

        Raises Refused when a file cannot be read, or when nothing arrives.
        """
        times_s = self.arrivals.times_s(np.random.default_rng(seed))
        if not times_s.size:
            raise Refused(f"load {self.spec!r} has no request in it; make it longer or its rate higher")
        return times_s


def parse_load(spec: str) -> Load:
    """Read a load such as ``poisson:35/s:60s``; ValueError with the grammar when it is not one.

    >>> parse_load("periodic:30ms:3").times_s(seed=0).tolist()
    [0.0, 0.03, 0.06]
    """
    kind, _, rest = spec.strip().partition(":")
    try:
        read, fields = _KINDS[kind]
    except KeyError:
        raise ValueError(f"load {spec!r} is of no known kind; write {GRAMMAR}") from None
    words = [rest] if kind == "file" else rest.split(":")
    if len(words) != fields or not all(words):
        raise ValueError(f"load {spec!r} has not {fields} fields after {kind!r}; write {GRAMMAR}")
    try:
        arrivals = read(*words)
    except ValueError as error:
        raise ValueError(f"load {spec!r}: {error}; write {GRAMMAR}") from error
    return Load(spec.strip(), arrivals)


def _periodic(every: str, extent: str) -> Periodic:
    period_s = 1 / _rate_hz(every) if "/" in every else _time_s(every)
    return Periodic(period_s, _limited(1 / period_s, _extent(extent)))


def _poisson(rate: str, extent: str) -> Burst:
    return _bursts(_rate_hz(rate), 1, _extent(extent))


def _burst(rate: str, size: str, extent: str) -> Burst:
    return _bursts(_rate_hz(rate), _whole(size, "burst size"), _extent(extent))


def _ramp(first: str, last: str, time: str) -> Ramp:
    return Ramp(_rate_hz(first), _rate_hz(last), _time_s(time))


def _onoff(rate: str, on: str, off: str, time: str) -> OnOff:
    return OnOff(_rate_hz(rate), _time_s(on), _time_s(off), _time_s(time))


def _file(text: str) -> Recorded:
    pattern = r"(?P<path>.+?)(?:@(?P<rate>[\d.e+-]+/\w+))?(?::(?P<extent>\d[\w.]*))?"
    match = re.fullmatch(pattern, text)
    assert match, "the pattern takes any text"
    rate, extent = match["rate"], match["extent"]
    return Recorded(Path(match["path"]), _rate_hz(rate) if rate else None, _extent(extent) if extent else Extent())


_KINDS: dict[str, tuple[Callable[..., Arrivals], int]] = {
    "periodic": (_periodic, 2),
    "poisson": (_poisson, 2),
    "burst": (_burst, 3),
    "ramp": (_ramp, 3),
    "onoff": (_onoff, 4),
    "file": (_file, 1),
}


def _bursts(rate_hz: float, size: int, extent: Extent) -> Burst:
    return Burst(rate_hz, size, _limited(rate_hz, extent))


def _limited(rate_hz: float, extent: Extent) -> Extent:
    if extent.time_s < float("inf") and rate_hz * extent.time_s > _MAX_REQUESTS:
        raise ValueError(f"that is more than {_MAX_REQUESTS:.0e} requests")
    return extent


def _time_s(text: str) -> float:
    if (time_s := parse_time_s(text)) <= 0:
        raise ValueError(f"a time must be positive, not {text!r}")
    return time_s


def _rate_hz(text: str) -> float:
    number, slash, unit = text.partition("/")
    if not slash:
        raise ValueError(f"rate {text!r} has no unit")
    per_s = parse_time_s(f"1{unit}")
    try:
        rate_hz = float(number) / per_s
    except ValueError:
        raise ValueError(f"{text!r} is not a rate") from None
    if not 0 < rate_hz < float("inf"):
        raise ValueError(f"a rate must be positive, not {text!r}")
    return rate_hz


def _extent(text: str) -> Extent:
    return Extent(requests=_whole(text, "number of requests")) if text.isdigit() else Extent(time_s=_time_s(text))


def _whole(text: str, what: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= _MAX_REQUESTS:
        raise ValueError(f"{text!r} is not a {what} between 1 and {_MAX_REQUESTS:.0e}")
    return int(text)


def _column(path: Path) -> tuple[str, FloatArray]:
    """Return the first column of a .csv or .txt file, .gz or not, and its header (empty without one)."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise Refused(f"cannot read arrivals from {path}: {error}") from error
    cells = [line.partition(",")[0].strip() for line in text.splitlines() if line.strip() and line[0] != "#"]
    header = cells[0] if cells and not _is_number(cells[0]) else ""
    try:
        numbers = np.array([float(cell) for cell in cells[bool(header) :]])
    except ValueError as error:
        raise Refused(f"{path} is no list of arrivals: {error}; its first column must be numbers") from error
    if not numbers.size or not np.isfinite(numbers).all():
        raise Refused(f"{path} is no list of arrivals: its first column must be finite numbers")
    return header.lower(), numbers


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _counts(name: str, numbers: FloatArray) -> bool:
    """Tell counts from times: by the header, else counts are whole, not negative, and fall somewhere."""
    if name:
        return any(word in name for word in ("count", "requests", "per_second"))
    whole = bool((numbers == np.floor(numbers)).all() and (numbers >= 0).all())
    return whole and bool((np.diff(numbers) < 0).any())


def _spread(counts: FloatArray, random: np.random.Generator) -> FloatArray:
    if counts.min() < 0 or counts.sum() > _MAX_REQUESTS:
        raise Refused(f"requests in each second must be 0 or more, and {_MAX_REQUESTS:.0e} at most in all")
    seconds = np.repeat(np.arange(counts.size, dtype=np.float64), counts.astype(np.int64))
    return np.sort(seconds + random.random(seconds.size))
