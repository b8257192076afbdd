"""What a user says of a link → its rate, round trip, and what its radio takes.

Theory of operation: sending ``d`` bits at rate R takes d / R; between question and answer lies one round trip. A radio
takes a base power as long as it is on, from the first bit sent until the answer is in, and an energy for each bit:
P = base + alpha R, so E = base t + alpha d. The coefficients are those of Huang et al., "A Close Examination of
Performance and Power Characteristics of 4G LTE Networks", MobiSys 2012, table 4 (phones of that year): whatever comes
of them is a prediction, and said to be one. They are quoted as the literature on offloading repeats them and were not
compared with the printed table: `--radio 0.8W` states one's own. What the radio takes after the answer (its tail) is
not counted.

*Uncertain rates.* Where a mean and a standard deviation are stated, a link is planned for at the rate R - z σ that a
normal rate exceeds with the probability of the deadline's percentile (a one-sided normal bound; Cantelli's, which holds
for every distribution, would ask for 10 σ at p99, which leaves most links nothing). The quantiles of device, link and
server are added. That is what happens where all are bad at once, and more than enough where they are independent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from scipy.special import ndtri

from amble.core.errors import Refused
from amble.core.quantity import format_time

__all__ = ["RADIOS", "Link", "Radio", "format_rate", "parse_radio", "parse_rate", "parse_uncertain"]

_SCALES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
_LEAST_BIT_S, _MOST_BIT_S = 1e3, 1e12
_EXAMPLE = "write 20Mbit/s"
_NUMBER = r"\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+"


@dataclass(frozen=True, slots=True)
class Radio:
    """Power [W] while it is on, and energy [J/bit] of what is sent and received."""

    name: str
    base_w: float
    sent_j: float = 0.0
    received_j: float = 0.0

    def energy_j(self, on_s: float, sent_bit: float, received_bit: float) -> float:
        """Return what an exchange takes [J]."""
        return self.base_w * on_s + self.sent_j * sent_bit + self.received_j * received_bit


RADIOS = {
    each.name: each
    for each in (
        Radio("lte", 1.28804, 438.39e-9, 51.97e-9),
        Radio("3g", 0.81788, 868.98e-9, 122.12e-9),
        Radio("wifi", 0.13286, 283.17e-9, 137.01e-9),
    )
}


@dataclass(frozen=True, slots=True)
class Link:
    """A link of one rate [bit/s] both ways, or of a mean rate whose standard deviation is ``spread`` of the mean."""

    rate_bit_s: float
    round_trip_s: float
    radio: Radio
    spread: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no link can be."""
        if not 0 < self.rate_bit_s < float("inf"):
            raise ValueError(f"a link needs a rate above 0, not {self.rate_bit_s} bit/s")
        if not 0 <= self.round_trip_s < float("inf"):
            raise ValueError(f"a round trip takes 0 s or more, not {self.round_trip_s} s")
        if not 0 <= self.spread < float("inf"):
            raise ValueError(f"a standard deviation is 0 or more, not {self.spread} of the mean")

    def at(self, percentile: float) -> Link:
        """Return a link of the rate that this one has or exceeds with a probability, one-sided normal.

        Refused where that rate is not above 0: a normal rate spread so widely says nothing of so rare a case.
        """
        if self.spread == 0:
            return self
        share = 1.0 - float(ndtri(percentile)) * self.spread
        if share <= 0:
            raise Refused(
                f"--link {self} is too uncertain for p{percentile * 100:g}: a normal rate would be below 0 then; "
                f"ask for a lower percentile, or state the rate that can be relied on"
            )
        return replace(self, rate_bit_s=self.rate_bit_s * share, spread=0.0)

    def exchange_s(self, sent_bytes: int, received_bytes: int) -> float:
        """Return the time [s] in which a question goes and its answer comes, without the server's own."""
        return self.round_trip_s + 8.0 * (sent_bytes + received_bytes) / self.rate_bit_s

    def __str__(self) -> str:
        """Write it as a part of a sentence."""
        uncertain = f" ± {100 * self.spread:.3g} %" if self.spread else ""
        rate = f"{format_rate(self.rate_bit_s)}{uncertain}"
        return f"{rate}, round trip {format_time(self.round_trip_s)}, radio {self.radio.name}"


def format_rate(rate_bit_s: float) -> str:
    """Write a rate with the unit that suits it.

    >>> format_rate(2.5e6)
    '2.5 Mbit/s'
    """
    for unit, scale in (("Gbit/s", 1e9), ("Mbit/s", 1e6), ("kbit/s", 1e3)):
        if rate_bit_s >= scale:
            return f"{rate_bit_s / scale:.3g} {unit}"
    return f"{rate_bit_s:.3g} bit/s"


def parse_rate(text: str) -> float:
    """Read a rate with its unit → bit/s; Refused for none, for bytes, and for what is likely another unit.

    >>> parse_rate("20Mbit/s")
    20000000.0
    """
    if text.strip().lower().endswith((".csv", ".csv.gz")):
        raise Refused(f"--link {text}: a trace of rates cannot be planned for yet; give one rate, as in 20Mbit/s")
    match = re.fullmatch(rf"\s*({_NUMBER})\s*([A-Za-z/]*)\s*", text)
    if not match:
        raise Refused(f"--link {text!r} is not a rate; {_EXAMPLE}")
    number, unit = float(match[1]), match[2]
    if not unit:
        raise Refused(f"--link {text!r} has no unit, bits or bytes; {_EXAMPLE}")
    parts = re.fullmatch(r"([kKMGmg]?)(bit|bits|b|B|byte|bytes|Byte|Bytes)(/s|ps)", unit)
    if not parts:
        raise Refused(f"--link {text!r} has an unknown unit {unit!r}; {_EXAMPLE}")
    prefix, what = parts[1], parts[2]
    if what[0] == "B" or what.startswith("byte"):
        in_bits = f"{8 * number:g}{prefix.upper().replace('K', 'k')}bit/s"
        raise Refused(f"--link {text!r} counts bytes, links are told in bits: write {in_bits} if bytes are meant")
    if prefix not in _SCALES:
        raise Refused(f"--link {text!r}: the prefix {prefix!r} is not {prefix.upper()!r}; {_EXAMPLE}")
    rate_bit_s = number * _SCALES[prefix]
    if rate_bit_s == 0:
        raise Refused("--link has a rate of 0: nothing can be sent; plan it for the device alone: amble plan")
    if not _LEAST_BIT_S <= rate_bit_s <= _MOST_BIT_S:
        raise Refused(f"--link {text!r} is {rate_bit_s:g} bit/s, which no link is; is the unit right? {_EXAMPLE}")
    return rate_bit_s


def parse_uncertain(text: str) -> tuple[float, float]:
    """Read a rate, or a mean rate and its standard deviation in the same unit → bit/s, and the deviation's share of it.

    >>> parse_uncertain("20±5Mbit/s")
    (20000000.0, 0.25)
    >>> parse_uncertain("20Mbit/s")
    (20000000.0, 0.0)
    """
    match = re.fullmatch(rf"\s*({_NUMBER})\s*(?:±|\+-|\+/-)\s*({_NUMBER})\s*(.*)", text)
    if not match:
        return parse_rate(text), 0.0
    rate_bit_s = parse_rate(f"{match[1]}{match[3]}")
    return rate_bit_s, float(match[2]) / float(match[1])


def parse_radio(text: str) -> Radio:
    """Read a radio's name, or the power that it takes while it is on.

    >>> parse_radio("0.8W").base_w
    0.8
    """
    if text in RADIOS:
        return RADIOS[text]
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(m?)W\s*", text)
    if not match:
        raise Refused(f"--radio {text!r} is none of {', '.join(RADIOS)} and no power; write --radio wifi or 0.8W")
    return Radio(text.strip(), float(match[1]) * (1e-3 if match[2] else 1.0))
