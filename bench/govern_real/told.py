"""What is told of a governor beside real servers: from `govern_real`.

And from `govern` (`govern_sim`): of the cells in which maximum clocks do not keep the objectives either, of cold starts
and the governor's own cost. These are here since the study of `govern` names its own `told.py`, which is part of it.
"""

from __future__ import annotations

from functools import partial

from bench.kit.told import Numbers, Record, Result, between, percent, plain

SOURCES = {"govern_real": "govern_real@host", "govern_sim": "govern@sim"}
COLUMNS = (
    "server",
    "requests/s, limit",
    "least static quota",
    "mean quota, of the least",
    "the same, learning included",
    "late in all (allowed with chance)",
    "late as found",
    "periods to the highest in a burst",
)


def _servers(result: Result) -> str:
    """Lay real servers out: a line for each that was governed."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    for run in result.where(policy="amble"):
        static = result.where(policy="static", server=run["server"])
        kept = [each["share"] for each in static if each["late"] <= 0.01]
        found = [percent(each["late"], 1) for each in result.where(policy="as found", server=run["server"])]
        lines.append("| " + " | ".join(_cells(run, min(kept) if kept else None, *found[:1])) + " |")
    return "\n".join(lines)


def _cells(run: Record, least: float | None, as_found: str = "–") -> tuple[str, ...]:
    def over(share: float) -> str:
        return "–" if least is None else f"{share / least:.2f}"

    whole, periods = run["whole"], run["periods_to_highest"]
    return (
        run["server"],
        f"{run['rate_hz']:.0f}/s, {1e3 * run['limit_s']:.0f} ms",
        "none" if least is None else f"{least:g} CPU",
        over(run["share"]),
        over(run["share_whole"]),
        f"{percent(whole['late'], 2)} ({percent(whole['allowed'], 2)})",
        as_found,
        "never" if periods is None else str(periods),
    )


def _faults(result: Result) -> str:
    faults = result.where(part="faults")
    return f"{sum(each['as_found'] for each in faults)} of {len(faults)}"


def _slowest(result: Result) -> str:
    return f"{max(result.column('took_s', part='faults'), default=0.0):.2f} s"


def _quotas(result: Result, part: str) -> str:
    return between(result.values(part), 2)


def _beyond(result: Result) -> list[Record]:
    """Return the cells in which maximum clocks miss the objectives themselves."""
    return result.where(policy="amble", maximum_keeps=False)


def _look_ms(result: Result) -> str:
    """Tell how long a look with its decision takes: its share of a core at a look a second, and at four."""
    shares = (result.value("own cost, period 1 s"), result.value("own cost, period 250 ms") / 4)
    return between(shares, 1, scale=1e3)


NUMBERS: Numbers = {
    "govern_real.faults": _faults,
    "govern_real.slowest": _slowest,
    "govern_real.quotas": partial(_quotas, part="mean quota over least static"),
    "govern_real.quotas_whole": partial(_quotas, part="learning included"),
    "govern_real.quotas_met": lambda r: r.met("mean quota over least static"),
    "govern_real.whole_met": lambda r: r.met("learning included"),
    "govern_sim.cold": lambda r: percent(max(map(abs, r.values("cold start", "energy after ten minutes"))), 1),
    "govern_sim.look_ms": _look_ms,
    "govern_sim.cells": lambda r: f"{len(_beyond(r))} of {len(r.where(policy='amble'))}",
    "govern_sim.late": lambda r: plain(100 * max((each["late_more"] for each in _beyond(r)), default=0.0), 2),
    "govern_sim.saving": lambda r: between((each["saving"] for each in _beyond(r)), scale=100, unit="%"),
}
TABLES: Numbers = {"govern_real.servers": _servers}
