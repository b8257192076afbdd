"""What is told of clocks that are put back: from `guard`."""

from __future__ import annotations

from bench.kit.told import Numbers, Result, count, percent, plain

SOURCES = {"guard": "guard@cpu"}


def _virtual(result: Result) -> str:
    """Count the faults on virtual time after which clocks were as found."""
    faults = result.where(what="virtual")
    return f"{sum(each['as_found'] for each in faults):,} of {sum(each['tried'] for each in faults):,}"


NUMBERS: Numbers = {
    "guard.virtual": _virtual,
    "guard.real": lambda r: count(each["as_found"] for each in r.where(what="real")),
    "guard.slowest": lambda r: plain(max(r.column("back_s", what="real")), 2),
    "guard.wrong": lambda r: plain(r.value("wrong energies reported as right")),
    "guard.lies": lambda r: str(sum(each["lie"] != "none" for each in r.where(what="energy"))),
    "guard.metering": lambda r: percent(r.value("metering's share: NVML"), 1),
    "guard.over_echo": lambda r: plain(r.value("guard over echo"), 1),
}
TABLES: Numbers = {}
