"""What is told of a governor beside real servers: from `govern_real`.

And of the cells of `govern` in which maximum clocks do not keep the objectives either (`beyond`): these are here since
the study of `govern` names its own `told.py`, which thereby is part of it.
"""

from __future__ import annotations

from functools import partial

from bench.kit.told import Numbers, Record, Result, between, percent, plain

SOURCES = {"govern_real": "govern_real@host", "beyond": "govern@sim"}
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


NUMBERS: Numbers = {
    "govern_real.faults": _faults,
    "govern_real.slowest": _slowest,
    "govern_real.quotas": partial(_quotas, part="mean quota over least static"),
    "govern_real.quotas_whole": partial(_quotas, part="learning included"),
    "govern_real.quotas_met": lambda r: r.met("mean quota over least static"),
    "govern_real.whole_met": lambda r: r.met("learning included"),
    "beyond.cells": lambda r: f"{len(_beyond(r))} of {len(r.where(policy='amble'))}",
    "beyond.late": lambda r: plain(100 * max((each["late_more"] for each in _beyond(r)), default=0.0), 2),
    "beyond.saving": lambda r: between((each["saving"] for each in _beyond(r)), scale=100, unit="%"),
}
TABLES: Numbers = {"govern_real.servers": _servers}
