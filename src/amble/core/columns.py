"""The names of a table's columns, as people write them → columns of the recorded schema, with the factor to SI.

A name is cut into words and units (`Latency [ms]`, `gpuClock_MHz`, `power_w [W]`). One that says both what it holds and
its unit, and nothing that we do not know, is taken; anything else is left for its owner to rename, with what it likely
means. Nothing is guessed from values.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from amble.core.errors import Refused

__all__ = ["ENERGY", "Claim", "assigned", "claim", "is_unit", "notes_of"]

ENERGY = "energy_j"  # no column of the schema: power is it over the time

_UNITS: dict[str, tuple[str, float]] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), ("time", 1.0)),
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"), ("time", 0.001)),
    **dict.fromkeys(("us", "μs", "usec", "micros", "microsecond", "microseconds"), ("time", 1e-06)),
    **dict.fromkeys(("ns", "nsec", "nanosecond", "nanoseconds"), ("time", 1e-09)),
    "hz": ("clock", 1.0),
    "khz": ("clock", 1e3),
    "mhz": ("clock", 1e6),
    "ghz": ("clock", 1e9),
    **dict.fromkeys(("w", "watt", "watts"), ("power", 1.0)),
    **dict.fromkeys(("mw", "milliwatt", "milliwatts"), ("power", 0.001)),
    "uw": ("power", 1e-6),
    "μw": ("power", 1e-6),
    "kw": ("power", 1e3),
    **dict.fromkeys(("j", "joule", "joules"), ("energy", 1.0)),
    **dict.fromkeys(("mj", "millijoule", "millijoules"), ("energy", 0.001)),
    "uj": ("energy", 1e-6),
    "μj": ("energy", 1e-6),
    "kj": ("energy", 1e3),
    "wh": ("energy", 3600.0),
    "mwh": ("energy", 3.6),
}
_TIME = {"latency", "lat", "time", "duration", "runtime", "elapsed", "inference", "infer", "forward", "execution"}
_POWER = {"power", "pwr", "draw"}
_LIMIT = {"limit", "cap", "tdp"}
_CLOCK = {"clock", "clocks", "clk", "freq", "frequency"}
_CORE = {"core", "gpu", "sm", "graphics", "gfx", "npu", "sclk", "gpc"}
_MEMORY = {"memory", "mem", "emc", "dram", "ddr", "vram", "mclk"}
_CPU = {"cpu"}
_ASKED = {"requested", "request", "asked", "target", "set", "locked", "desired"}
_ENERGY = {"energy"}
_SYMBOLS = {"power": ("p", "power"), "clock": ("f", "freq"), "energy": ("e", "energy")}  # beside their units only
_MIDDLE = {"mean", "avg", "average", "median", "med", "p50"}
_NEUTRAL = {
    *_MIDDLE,
    *("board", "total", "exec", "wall", "kernel", "run", "device", "chip", "module", "in", "of", "the", "observed"),
    *("actual", "measured", "current", "running", "each", "one"),
}
_PER = {"inference", "image", "run", "frame", "request", "sample", "execution"}
_SPREAD = {"std", "stddev", "sd", "var", "min", "max", "minimum", "maximum", "peak", "p90", "p95", "p99", "error"}
_RATES = {"fps", "qps", "ips", "throughput", "rps"}
_KNOWN = _TIME | _POWER | _LIMIT | _CLOCK | _CORE | _MEMORY | _CPU | _ASKED | _ENERGY | _NEUTRAL | _SPREAD | _RATES
_TEXTS = {
    **dict.fromkeys(("device name", "gpu name", "board", "board name", "hardware", "hw", "machine"), "device"),
    **dict.fromkeys(("model", "network", "net", "model name", "network name", "workload name", "program"), "workload"),
    **dict.fromkeys(("op", "operator", "layer", "kernel name", "op name"), "kernel"),
    **dict.fromkeys(("dtype", "data type", "datatype", "prec"), "precision"),
    **dict.fromkeys(("batch size", "batchsize", "bs"), "batch"),
    **dict.fromkeys(("rep", "repetition", "trial", "run", "repeat id", "run id"), "repeat"),
}
_PERHAPS = {"gpu": "device", "name": "workload", "memory": "memory_hz", "core": "core_hz", "cpu": "cpu_hz"}
_SECOND = {"latency_s": "latency_ms", "power_w": "power_mw", "power_limit_w": "power_limit_mw", ENERGY: "energy_mj"}


@dataclass(frozen=True, slots=True)
class Claim:
    """What a column's name says: the ``column`` of the schema it likely is ("" for none), and the ``factor`` to SI.

    ``advice`` says what to rename where that is not certain enough to be taken; ``meant`` tells that the column can be
    nothing else, and only its unit is in doubt.
    """

    name: str
    column: str = ""
    factor: float = 1.0
    advice: str = ""
    meant: bool = False

    @property
    def certain(self) -> bool:
        """Tell whether the column may be read as what it claims to be."""
        return bool(self.column) and not self.advice


def assigned(names: Sequence[str], schema: Sequence[str]) -> tuple[dict[str, Claim], tuple[Claim, ...]]:
    """Return the claim behind each column of the schema (and energy), and those that are not read.

    Refused where two names could be the same column.
    """
    claims = [claim(name, schema) for name in names if name]
    taken: dict[str, Claim] = {}
    for column in (*schema, ENERGY):
        mine = [each for each in claims if each.certain and each.column == column]
        mine = [each for each in mine if each.name == column] or mine
        mine = [each for each in mine if each.name.lower() == column] or mine
        mine = [each for each in mine if _middle(each)] or mine
        if len(mine) > 1:
            both = " and ".join(each.name for each in mine[:2])
            raise Refused(f"the columns {both} could both be {column}; name the one that is meant {column}")
        if mine:
            taken[column] = mine[0]
    left = tuple(each for each in claims if each not in taken.values())
    return taken, left


def claim(name: str, schema: Sequence[str]) -> Claim:
    """Read one name; see the module's text."""
    if name in schema or name.lower() in schema:
        return Claim(name, name.lower())
    words, units = _parts(name)
    text = " ".join(words)
    if not units and text in _TEXTS:
        return Claim(name, _TEXTS[text])
    rate = _rate(name, words, units)
    if rate is not None:
        return rate
    if set(words) & _SPREAD:
        return Claim(name)
    if len({_UNITS[unit] for unit in units}) > 1:
        return _two_units(name, words, units)
    symbol, meaning = _SYMBOLS.get(_UNITS[units[0]][0], ("", "")) if units else ("", "")
    words = [meaning if word == symbol else word for word in words]
    unknown = [word for word in words if word not in _KNOWN]
    unknown += ["total"] if "total" in words and not set(words) & _POWER else []  # of how many runs?
    if not units:
        return _without_unit(name, words, schema) if not unknown else _misspelt(name, words, schema)
    kind, factor = _UNITS[units[0]]
    column = _column(kind, set(words))
    if column and not unknown:
        return Claim(name, column, factor)
    likely = column or {"time": "latency_s", "power": "power_w", "clock": "core_hz", "energy": ENERGY}[kind]
    close = get_close_matches(name.lower(), schema, 1, 0.8)
    likely = close[0] if close else likely
    return Claim(name, likely, factor, f"if it is {likely}{_times(factor)}, name it {_named(likely, units[0])}")


def is_unit(text: str, column: str) -> bool:
    """Tell whether a text is a unit of what is in a column of the schema."""
    small, its = text.lower().replace("µ", "μ"), column.rpartition("_")[2]
    return small in _UNITS and its in _UNITS and _UNITS[small][0] == _UNITS[its][0]


def _rate(name: str, words: Sequence[str], units: Sequence[str]) -> Claim | None:
    """Return what a rate claims: energy per run is energy; images per second are no time."""
    if set(words) & _RATES:
        return Claim(name, "latency_s", 1.0, "it is a rate; latency_s would be the batch over it, one batch at a time")
    if "/" not in name and "per" not in words:
        return None
    kinds = {_UNITS[unit][0] for unit in units}
    per = set(words) - {"per"} - _ENERGY - _MIDDLE
    if kinds == {"energy"} and per and per <= _PER:
        return Claim(name, ENERGY, _UNITS[units[0]][1])
    return Claim(name)


def _two_units(name: str, words: Sequence[str], units: Sequence[str]) -> Claim:
    column = _column(_UNITS[units[0]][0], set(words))
    both = " and ".join(dict.fromkeys(units))
    return Claim(name, column, 1.0, f"it names two units, {both}; keep the right one", meant=bool(column))


def _without_unit(name: str, words: Sequence[str], schema: Sequence[str]) -> Claim:
    """Return what a name claims that tells what is in the column, but not in which unit."""
    if len(words) == 1 and words[0] in _PERHAPS:
        likely = _PERHAPS[words[0]]
        return Claim(name, likely, 1.0, f"if it is {likely}, name it so") if likely in schema else Claim(name)
    said = set(words)
    kinds = [
        kind for kind, of in (("energy", _ENERGY), ("power", _POWER), ("clock", _CLOCK), ("time", _TIME)) if said & of
    ]
    column = _column(kinds[0], said) if kinds else ""
    if not column and said & _LIMIT and not said - _LIMIT - _NEUTRAL:
        column = "power_limit_w"
    if not column:
        return Claim(name)
    other = _SECOND.get(column, column.replace("_hz", "_mhz"))
    return Claim(name, column, 1.0, f"it has no unit; name it {column}, or {other} and the like", meant=True)


def _misspelt(name: str, words: Sequence[str], schema: Sequence[str]) -> Claim:
    """Return what a name claims that is nearly one of the schema."""
    joined = "_".join(words)
    close = [each for each in get_close_matches(joined, schema, 1, 0.82) if each[0] == joined[0]]
    return Claim(name, close[0], 1.0, f"did you mean {close[0]}?") if close else Claim(name)


def _column(kind: str, words: set[str]) -> str:
    """Return the column of the schema that a kind of quantity and these words name; "" for none."""
    match kind:
        case "clock":
            if words & _CPU:
                return "cpu_hz"
            if words & _MEMORY:
                return "memory_hz"
            if words & (_CORE | _CLOCK):
                return "requested_core_hz" if words & _ASKED else "core_hz"
        case "power" if not words & (_CPU | _MEMORY):
            return "power_limit_w" if words & (_LIMIT | _ASKED) else "power_w"
        case "time" if words & _TIME and not words & (_CPU | _MEMORY):
            return "latency_s"
        case "energy" if not words & (_CPU | _MEMORY):
            return ENERGY
    return ""


def _parts(name: str) -> tuple[list[str], list[str]]:
    """Cut a name into words and units, in small letters."""
    pieces = [piece for segment in re.findall(r"\w+", _plain(name)) for piece in _pieces(segment)]
    small = [piece.lower() for piece in pieces]
    return [piece for piece in small if piece not in _UNITS], [piece for piece in small if piece in _UNITS]


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).replace("_", " ").replace("%", " percent ")


def _pieces(segment: str) -> list[str]:
    """Cut `latencyMs`, `powerw` and `coreMHz` into a word and its unit."""
    small = segment.lower()
    if small in _KNOWN or small in _UNITS:
        return [segment]
    for size in range(min(len(small) - 1, 5), 0, -1):
        if small[-size:] in _UNITS and small[:-size] in _KNOWN:
            return [segment[:-size], segment[-size:]]
    camel = re.findall(r"[A-Z]+[a-z0-9μ]*|[a-z0-9μ]+", segment)
    if len(camel) < 2:
        return [segment]
    for first in range(1, len(camel)):  # the unit at the end may itself be cut: m W, k Hz
        if "".join(camel[first:]).lower() in _UNITS:
            return [*camel[:first], "".join(camel[first:])]
    return camel


def _middle(each: Claim) -> bool:
    return bool(set(_parts(each.name)[0]) & {"median", "med", "p50"})


def _times(factor: float) -> str:
    return "" if factor == 1 else f" (x {factor:g})"


def _named(column: str, unit: str) -> str:
    stem = column.rpartition("_")[0]
    return f"{stem}_{unit}"


def notes_of(taken: Mapping[str, Claim], left: Sequence[Claim]) -> tuple[str, ...]:
    """Say which names were read as which columns, which were not, and what they likely mean."""
    renamed = [
        f"{each.name} as {column}{_times(each.factor)}"
        for column, each in taken.items()
        if each.name != column and column != ENERGY
    ]
    notes = [f"read {', '.join(renamed)}"] if renamed else []
    notes += [f"column {each.name} is not read: {each.advice}" for each in left if each.advice]
    extra = [each.name for each in left if not each.advice]
    notes += [f"columns that are not read: {', '.join(extra)}"] if extra else []
    return tuple(notes)
