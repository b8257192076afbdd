"""What is told of a split that runs: from `split_run`."""

from __future__ import annotations

from bench.kit.told import Numbers, Result, percent, plain

SOURCES = {"split_run": "split_run@host"}


def _run(result: Result, trial: str, field: str) -> float:
    (found,) = result.where(what="run", trial=trial)
    return float(found[field])


NUMBERS: Numbers = {
    "split_run.relay_ms": lambda r: plain(1e3 * r.value("round trip over"), 1),
    "split_run.rate_off": lambda r: percent(r.value("relay: rate off"), 1),
    "split_run.median_ms": lambda r: plain(1e3 * _run(r, "steady", "median_s")),
    "split_run.predicted_ms": lambda r: plain(1e3 * _run(r, "steady", "predicted_s")),
    "split_run.lost": lambda r: plain(sum(r.values("requests lost"))),
    "split_run.wrong": lambda r: plain(sum(r.values("answers not the whole network's"))),
    "split_run.requests": lambda r: plain(sum(r.column("asked", what="run"))),
}
TABLES: Numbers = {}
