"""What is told of reading with bit errors: from `injection`."""

from __future__ import annotations

from functools import partial

from bench.kit.told import Numbers, Result, between, percent

SOURCES = {
    "injection": "injection@cpu",
    "injection_xeon": "injection@xeon",
}  # the second: without MRFI, of this version


def _injection(result: Result, selector: str) -> str:
    return between(result.values(f"{selector} selector over ours"), 1 if "usual" in selector else 0)


NUMBERS: Numbers = {
    "injection.share": lambda r: between(
        [each["value"] for each in r.judged("injection over forward pass") if each["met"]], scale=100, unit="%"
    ),
    "injection.worst": lambda r: percent(max(r.values("injection over forward pass"))),
    "injection.exact": partial(_injection, selector="MRFI's exact"),
    "injection.usual": partial(_injection, selector="MRFI's usual, inexact"),
    "injection.met": lambda r: r.met("MRFI's exact selector over ours"),
    "injection_xeon.met": lambda r: r.met("injection over forward pass"),
    "injection_xeon.all": lambda r: between(r.values("injection over forward pass"), scale=100, unit="%"),
}
TABLES: Numbers = {}
