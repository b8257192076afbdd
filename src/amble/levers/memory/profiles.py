"""What is known of a kind of memory module: bit error rates at timings, voltages and temperatures, bank by bank.

A profile is fitted to measurements of several modules of one vendor (`tools/memories.py`) and ships as JSON. It
answers for one module: the rate of a bank at a point, how sure that is, and the `DramErrors` that make such errors.
What was not measured is refused: lower voltages or shorter timings than tested, and both together.

`ones` is the share of stored bits that are 1. Letters: B banks, V stored values (all 0, half 1, all 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from amble.core.dram import Bitline, DataDependent, DramErrors, ErrorModel, Layout, Uniform
from amble.core.draws import hashed, key_of
from amble.core.errors import Refused
from amble.core.files import Format

__all__ = [
    "FORMAT",
    "BankRates",
    "MemoryPoint",
    "MemoryProfile",
    "RetentionCurve",
    "Source",
    "VoltageCurve",
    "line_rates",
]

Floats = NDArray[np.float64]

_LOWEST = 1e-18  # rates below are none
_HIGHEST = 0.5
_SAFE_S = 9.999e-9  # no bank of any module was wrong at 10 ns or more

Shape = Literal["uniform", "bitline", "data"]


@dataclass(frozen=True, slots=True, order=True)
class MemoryPoint:
    """How a memory is run: supply over nominal, the two timings that may be short, temperature, refresh interval."""

    voltage_ratio: float = 1.0
    trcd_s: float = 13.75e-9
    trp_s: float = 13.75e-9
    temperature_c: float = 20.0
    refresh_s: float = 0.064

    def __str__(self) -> str:
        """Write ``V 0.85, tRCD 10 ns, tRP 10 ns, 20 °C``."""
        refresh = "" if self.refresh_s == 0.064 else f", refresh {self.refresh_s * 1e3:.4g} ms"
        return (
            f"V {self.voltage_ratio:.3g}, tRCD {self.trcd_s * 1e9:.4g} ns, tRP {self.trp_s * 1e9:.4g} ns, "
            f"{self.temperature_c:g} °C{refresh}"
        )


@dataclass(frozen=True, slots=True)
class Source:
    """Where numbers come from: what was measured, by whom, under which licence, and what to beware of."""

    measured: str
    by: str
    licence: str
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BankRates:
    """Rates at one pair of timings at nominal voltage and 20 °C.

    log10_ber: [V, B] of a typical module, no errors at or below ``floor``. The spreads are standard deviations of
    log10: of a bank of an unseen module (``module_spread``), of an unseen bank of a seen one (``bank_spread``).
    """

    trcd_s: float
    trp_s: float
    log10_ber: tuple[tuple[float, ...], ...]
    module_spread: float
    bank_spread: float
    num_modules: int
    floor: float


@dataclass(frozen=True, slots=True)
class VoltageCurve:
    """log10 of the rate: -9 at the onset, rising by ``decades_per_ratio`` as V/V_nominal falls.

    ``counted`` tells what was: ``bits``, or ``lines`` with an error, which gives a lower bound of the rate of bits.
    ``onset_spread`` is the standard deviation of the onset between modules, ``residual_spread`` what remains, in
    decades; nothing is known below ``lowest_ratio``. The timings [s] are those of the test, 0 where there are none.
    """

    counted: Literal["bits", "lines"]

    onset_ratio: float
    onset_spread: float
    decades_per_ratio: float
    residual_spread: float
    lowest_ratio: float
    num_modules: int
    trcd_s: float
    trp_s: float

    def ber(self, voltage_ratio: float, *, factor: float, spreads: float = 0.0) -> float:
        """Return the rate, ``factor`` times a lower bound, of a module so many spreads worse than the typical one."""
        onset = self.onset_ratio + spreads * self.onset_spread
        exponent = -9.0 + self.decades_per_ratio * (onset - voltage_ratio)
        return _bounded((factor if self.counted == "lines" else 1.0) * 10.0 ** min(exponent, 0.0))


@dataclass(frozen=True, slots=True)
class RetentionCurve:
    """Rate of bits lost between two refreshes: a power of the interval, exponential in temperature.

    ``log10_ber`` is that at the longest interval tested and 20 °C; up to ``clean_s`` no module lost a bit.
    """

    log10_ber: float
    exponent: float
    decades_per_c: float
    clean_s: float
    longest_s: float
    hottest_c: float

    def ber(self, refresh_s: float, temperature_c: float) -> float:
        """Return the rate; Refused beyond what was tested."""
        if refresh_s <= self.clean_s:
            return 0.0
        if refresh_s > self.longest_s * (1 + 1e-9) or temperature_c > self.hottest_c:
            raise Refused(f"retention was measured up to {self.longest_s:g} s and {self.hottest_c:g} °C; choose less")
        exponent = self.log10_ber + self.exponent * math.log10(refresh_s / self.longest_s)
        return _bounded(10.0 ** min(exponent + self.decades_per_c * (temperature_c - 20.0), 0.0))


@dataclass(frozen=True, slots=True)
class MemoryProfile:
    """Rates of a vendor's modules over timings, voltage and temperature, with their uncertainty and sources.

    ``decades_per_c`` scales rates away from 20 °C (``decades_per_c_error``: its standard error); ``line_shape`` is the
    shape of the Gamma distribution of rates over bitlines (small: few bad lines; None: not known).
    """

    name: str
    vendor: str
    kind: Literal["ddr3", "sram"]
    nominal_v: float
    banks: tuple[BankRates, ...]
    voltage: VoltageCurve | None
    decades_per_c: float
    decades_per_c_error: float
    line_shape: float | None
    sources: tuple[Source, ...]
    retention: RetentionCurve | None = None

    @property
    def num_banks(self) -> int:
        """Return how many banks rates are given for."""
        return len(self.banks[0].log10_ber[0]) if self.banks else 1

    def points(self, *, voltage_step: float = 0.0185) -> tuple[MemoryPoint, ...]:
        """Return the points that measurements cover: nominal, timings, then voltages in steps (25 mV of 1.35 V)."""
        timed = [MemoryPoint(1.0, each.trcd_s, each.trp_s) for each in self.banks]
        lowered = []
        if self.voltage is not None:
            count = math.floor((1.0 - self.voltage.lowest_ratio) / voltage_step + 1e-9)
            at = self.voltage.trcd_s, self.voltage.trp_s
            lowered = [MemoryPoint(1.0 - step * voltage_step, *at) for step in range(1, count + 1)]
        kept = []
        if self.retention is not None:
            kept = [MemoryPoint(refresh_s=0.064 * 2**step) for step in range(1, 6)]
        return (MemoryPoint(), *timed, *lowered, *kept)

    def ber(self, point: MemoryPoint, bank: int, *, ones: float, factor: float = 10.0, spreads: float = 0.0) -> float:
        """Return the bit error rate of a bank of data with this share of ones.

        ``factor`` is how far rates lie above the lower bound that voltage data give (1, 10 or 100; decision 3).
        ``spreads``: standard deviations between modules by which this module is worse than the typical one.
        Refused where nothing was measured.
        """
        lost = self._lost(point)
        if point.voltage_ratio < 1.0:
            return _bounded(lost + self._ber_at_voltage(point, factor, spreads))
        return _bounded(lost + self._ber_at_timings(point, bank, ones, spreads))

    def _ber_at_timings(self, point: MemoryPoint, bank: int, ones: float, spreads: float) -> float:
        rates = self._timed(point)
        if rates is None:
            return 0.0
        exponent = float(np.interp(ones, (0.0, 0.5, 1.0), [row[bank % len(row)] for row in rates.log10_ber]))
        if exponent <= rates.floor:
            return 0.0
        exponent += spreads * rates.module_spread + self.decades_per_c * (point.temperature_c - 20.0)
        return _bounded(10.0 ** min(exponent, 0.0))

    def errors(self, point: MemoryPoint, bank: int, *, shape: Shape, flip: float, module: int = 0) -> DramErrors:
        """Return errors of a bank in the shape of model 0, 1 or 3, at the central rate.

        ``flip`` is F, which these data cannot tell: 1 for persistent errors, the smaller the more transient.
        """
        layout = Layout(num_banks=self.num_banks)
        rate = self.ber(point, bank, ones=0.5)
        if shape == "data":
            by_bit = [self.ber(point, bank, ones=share) for share in (1.0, 0.0)]
            share = min(max(by_bit) / flip, 1.0)
            one, zero = ((each / share if share else 0.0) for each in by_bit)
            return DramErrors(DataDependent(share, one, zero), layout, module)
        model: ErrorModel = Uniform(min(rate / flip, 1.0), flip)
        if shape == "bitline":
            if self.line_shape is None:
                raise Refused(f"{self.name} does not say how errors spread over bitlines; use the uniform shape")
            lines = line_rates(min(rate / flip, 1.0), self.line_shape, num_lines=layout.row_bits, module=module)
            model = Bitline(lines, np.full(len(lines), flip))
        return DramErrors(model, layout, module)

    def _lost(self, point: MemoryPoint) -> float:
        """Return the rate of bits lost to a long refresh interval."""
        if point.refresh_s <= 0.064:
            return 0.0
        if self.retention is None:
            raise Refused(f"{self.name} was measured at nominal refresh only; choose 64 ms")
        if point.voltage_ratio < 1.0 and point.refresh_s > self.retention.clean_s:
            raise Refused(f"{self.name}: nothing tells errors at low voltage and long refresh together; choose one")
        return self.retention.ber(point.refresh_s, point.temperature_c)

    def _timed(self, point: MemoryPoint) -> BankRates | None:
        """Return the rates at these timings, those of the shorter tested ones between two; None at safe timings."""
        if point.voltage_ratio > 1.0:
            raise Refused(f"{self.name} was measured up to nominal voltage; choose a ratio of 1 or less")
        if min(point.trcd_s, point.trp_s) >= _SAFE_S:
            return None
        if max(point.trcd_s, point.trp_s) < _SAFE_S:
            raise Refused(f"{self.name} was measured with one short timing at a time; lengthen tRCD or tRP to 10 ns")
        short = [each for each in self.banks if _covers(each, point)]
        if not short:
            raise Refused(f"{self.name} was not measured at {point}; choose longer timings")
        return max(short, key=lambda each: (each.trcd_s, each.trp_s))

    def _ber_at_voltage(self, point: MemoryPoint, factor: float, spreads: float) -> float:
        curve = self.voltage
        if curve is None:
            raise Refused(f"{self.name} was measured at nominal voltage only; choose a ratio of 1")
        if point.voltage_ratio < curve.lowest_ratio - 1e-9:
            raise Refused(f"{self.name} was measured down to {curve.lowest_ratio:.3f} of its voltage; choose more")
        if min(point.trcd_s, point.trp_s) < min(curve.trcd_s, curve.trp_s) - 1e-12:
            raise Refused(f"{self.name}: nothing tells errors at low voltage and short timings together; choose one")
        rate = curve.ber(point.voltage_ratio, factor=factor, spreads=spreads)
        return _bounded(rate * 10.0 ** (self.decades_per_c * (point.temperature_c - 20.0)))


def line_rates(rate: float, shape: float, *, num_lines: int, module: int) -> Floats:
    """Return a rate for each bitline [line] with this mean: Gamma distributed with this shape, none above 1.

    Lines keep their order as the mean grows, so weak cells stay nested.
    """
    if not (0.0 <= rate <= 1.0 and shape > 0.0 and num_lines > 0):
        raise ValueError("line rates need a mean in [0, 1], a shape above 0 and at least one line")
    order = np.argsort(hashed(key_of("line", module), np.arange(num_lines)))
    rates = np.empty(num_lines)
    rates[order] = _ascending_rates(rate, shape, num_lines)
    return rates


@lru_cache(maxsize=64)
def _ascending_rates(rate: float, shape: float, num_lines: int) -> Floats:
    """Return the rates of all lines [line], lowest first: the same for every module."""
    if rate == 0.0:
        return np.zeros(num_lines)
    logs = np.log(np.maximum(gammaincinv(shape, (np.arange(num_lines) + 0.5) / num_lines), 1e-300))
    low, high = -80.0, 720.0  # natural log of the factor that gives the mean
    for _ in range(60):
        middle = (low + high) / 2.0
        mean = np.exp(np.minimum(logs + middle, 0.0)).mean()
        low, high = (middle, high) if mean < rate else (low, middle)
    rates = np.exp(np.minimum(logs + high, 0.0))
    return np.where(rates < _LOWEST, 0.0, rates)


def _covers(rates: BankRates, point: MemoryPoint) -> bool:
    """Tell whether the tested timings are no longer than the asked ones, and short on the same side."""
    if (rates.trcd_s < _SAFE_S, rates.trp_s < _SAFE_S) != (point.trcd_s < _SAFE_S, point.trp_s < _SAFE_S):
        return False
    return rates.trcd_s <= point.trcd_s + 1e-12 and rates.trp_s <= point.trp_s + 1e-12


def _bounded(rate: float) -> float:
    return 0.0 if rate < _LOWEST else min(rate, _HIGHEST)


FORMAT = Format("memory", 1, MemoryProfile)
