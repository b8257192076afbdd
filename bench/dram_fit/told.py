"""What is told of the fit of error rates: from `dram_fit`."""

from __future__ import annotations

import statistics

from bench.kit.told import Numbers, Result, between, plain

SOURCES = {"fit": "dram_fit@cpu"}


def _ratios(result: Result, left_out: str) -> list[float]:
    return [float(each) for each in result.column("ratio", left_out=left_out)]


NUMBERS: Numbers = {
    "fit.modules": lambda r: r.met("unseen modules"),
    "fit.banks": lambda r: r.met("unseen banks"),
    "fit.modules_ratio": lambda r: plain(statistics.median(_ratios(r, "module")), 2),
    "fit.modules_range": lambda r: between(_ratios(r, "module"), 2),
    "fit.banks_ratio": lambda r: plain(statistics.median(_ratios(r, "bank")), 2),
}
TABLES: Numbers = {}
