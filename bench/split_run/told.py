"""What is told of a split that runs: from `split_run`."""

from __future__ import annotations

from bench.kit.told import Numbers, Record, Result, percent, plain

SOURCES = {"split_run": "split_run@host"}


def whole_j(of: Record, way: str) -> float:
    """Return what a way takes on a part of a trace, waiting included."""
    return float(of["wait_j"] + of[f"{way}: above_j"])


def _virtual(result: Result) -> list[tuple[float, float]]:
    """Return the energy of the moving cut over the best fixed one's, of all and above waiting, part by part."""
    return [
        (whole_j(each, "moving") / whole_j(each, "best fixed"), each["moving: above_j"] / each["best fixed: above_j"])
        for each in result.where(what="virtual")
    ]


def _mean(values: list[float]) -> str:
    return percent(sum(values) / len(values)) if values else "?"


def _late(result: Result) -> str:
    """Say how many requests of the traces in real time were late with the moving cut, and with the fixed one."""
    runs = [result.where(trial=f"5G trace, {way} cut") for way in ("moving", "fixed")]
    moving, fixed = (plain(sum(each["late"] for each in run)) for run in runs)
    return f"{moving} and {fixed} of {plain(sum(each['asked'] for each in runs[0]))}"


NUMBERS: Numbers = {
    "split_run.relay_ms": lambda r: plain(1e3 * r.value("round trip over"), 1),
    "split_run.rate_off": lambda r: percent(r.value("relay: rate off"), 1),
    "split_run.together": lambda r: plain(sum(r.column("together", what="run"))),
    "split_run.lost": lambda r: plain(sum(each["asked"] - each["answered"] for each in r.where(what="run"))),
    "split_run.wrong": lambda r: plain(sum(r.column("different", what="run"))),
    "split_run.requests": lambda r: plain(sum(r.column("asked", what="run"))),
    "split_run.virtual_ratio": lambda r: _mean([whole for whole, _ in _virtual(r)]),
    "split_run.virtual_above": lambda r: _mean([above for _, above in _virtual(r)]),
    "split_run.virtual_late": lambda r: plain(r.value("5G traces, virtual time: more late")),
    "split_run.real_late": _late,
    "split_run.real_ratio": lambda r: percent(r.value("5G trace: energy of the moving cut")),
    "split_run.virtual_share": lambda r: _mean([float(whole <= 1) for whole, _ in _virtual(r)]),
}
TABLES: Numbers = {}
