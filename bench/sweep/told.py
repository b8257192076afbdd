"""What is told of sweeps over a cluster: from `sweep`."""

from __future__ import annotations

from functools import partial

from bench.kit.told import Numbers, Result, count, plain

SOURCES = {"sweep": "sweep@host"}


def _quick(result: Result, sweep: str) -> str:
    return plain(result.value(f"{sweep}: times as quick"), 2)


NUMBERS: Numbers = {
    "sweep.errors": partial(_quick, sweep="errors in memory"),
    "sweep.devices": partial(_quick, sweep="simulated devices"),
    "sweep.same": lambda r: count(each["identical"] for each in r.records),
}
TABLES: Numbers = {}
