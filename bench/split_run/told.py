"""What is told of a split that runs: from `split_run`."""

from __future__ import annotations

from bench.kit.told import Numbers, percent, plain

SOURCES = {"split_run": "split_run@host"}


NUMBERS: Numbers = {
    "split_run.relay_ms": lambda r: plain(1e3 * r.value("round trip over"), 1),
    "split_run.rate_off": lambda r: percent(r.value("relay: rate off"), 1),
    "split_run.together": lambda r: plain(sum(r.column("together", what="run"))),
    "split_run.lost": lambda r: plain(sum(each["asked"] - each["answered"] for each in r.where(what="run"))),
    "split_run.wrong": lambda r: plain(sum(r.column("different", what="run"))),
    "split_run.requests": lambda r: plain(sum(r.column("asked", what="run"))),
}
TABLES: Numbers = {}
