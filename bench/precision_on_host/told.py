"""What is told of switching precisions under load: from `precision_on_host`."""

from __future__ import annotations

from functools import partial

from bench.kit.told import Numbers, Record, Result, between, percent, plain

SOURCES = {"precision": "precision_on_host@host"}


def _run(result: Result, clock: str, governor: str) -> list[Record]:
    """Return the steps up to the highest that was held."""
    found = []
    for each in result.where(clock=clock, governor=governor):
        if not each["held"]:
            break
        found.append(each)
    return found


def _held(result: Result, clock: str, governor: str) -> str:
    return plain(result.value("rate held over", f", {governor}, {clock} clock"), 1)


def _int8(result: Result, governor: str) -> str:
    """Return the share of INT8 at the steps of both clocks, held or not."""
    return between(result.column("int8_share", governor=governor), scale=100, unit="%")


def _alone_later(result: Result) -> str:
    """Count the steps, in real time, that FP32 alone held above the first that it did not."""
    return str(
        sum(each["held"] for each in result.where(clock="wall", governor="max")) - len(_run(result, "wall", "max"))
    )


def _wall_highest(result: Result) -> str:
    """Return the rate held in real time over s times the highest of any step that FP32 alone held."""
    alone = max(each["rate_hz"] for each in result.where(clock="wall", governor="max") if each["held"])
    mine = _run(result, "wall", "amble")[-1]
    return plain(mine["rate_hz"] / (mine["speedup"] * alone), 1)


def _bound_held(result: Result) -> str:
    """Return the rate that is held where the budget binds, over FP32's alone on the same clock."""
    alone, bound = (_run(result, "cpu", each)[-1]["rate_hz"] for each in ("max", "amble-bound"))
    return plain(bound / alone, 1)


def _accuracy(result: Result, governor: str) -> str:
    return percent(min(result.values("accuracy over FP32's", f", {governor}, ")), 2)


NUMBERS: Numbers = {
    "precision.amble_cpu": partial(_held, clock="cpu", governor="amble"),
    "precision.amble_wall": partial(_held, clock="wall", governor="amble"),
    "precision.alone_later": _alone_later,
    "precision.wall_highest": _wall_highest,
    "precision.rates_met": lambda r: r.met("rate held over"),
    "precision.pit_cpu": partial(_held, clock="cpu", governor="pit"),
    "precision.pit_wall": partial(_held, clock="wall", governor="pit"),
    "precision.accuracy": partial(_accuracy, governor="amble"),
    "precision.int8": partial(_int8, governor="amble"),
    "precision.int8_bound": partial(_int8, governor="amble-bound"),
    "precision.bound_ratio": lambda r: plain(r.value("rate held over", ", amble-bound, cpu clock"), 2),
    "precision.bound_held": _bound_held,
    "precision.bound_accuracy": partial(_accuracy, governor="amble-bound"),
    "precision.speedup": lambda r: plain(r.records[0]["speedup"], 1),
}
TABLES: Numbers = {}
