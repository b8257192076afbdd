"""What is told of reading with bit errors: from `injection`."""

from __future__ import annotations

from functools import partial

from bench.kit.told import Numbers, Result, between, percent

SOURCES = {"injection": "injection@cpu"}


def _injection(result: Result, selector: str) -> str:
    return between(result.values(f"{selector} selector over ours"), 1 if "usual" in selector else 0)


NUMBERS: Numbers = {
    "injection.share": lambda r: between(r.values("injection over forward pass"), scale=100, unit="%"),
    "injection.below": lambda r: r.met("injection over forward pass"),
    "injection.least_batch": lambda r: percent(max(r.values("batch 50: injection over forward pass"))),
    "injection.exact": partial(_injection, selector="MRFI's exact"),
    "injection.usual": partial(_injection, selector="MRFI's usual, inexact"),
    "injection.usual_met": lambda r: r.met("MRFI's usual, inexact selector over ours"),
    "injection.met": lambda r: r.met("MRFI's exact selector over ours"),
}
TABLES: Numbers = {}
