"""Records of the bench of ``amble govern`` → its targets, each cell by its name, with the cause of what is missed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bench.kit import document

__all__ = ["targets"]

Record = dict[str, Any]
_LATE = "answers late while slower settings were tried, or in the first moments of a burst, before it was seen"
_ABOVE = "tries slower settings from nothing within the run, while the best fixed clock knows the load beforehand"
_HINDSIGHT = "hindsight slows down exactly as far as the next arrivals allow; a watcher sees a queue when it is there"
_PATHS = ("hindsight", "best fixed, known load", "maximum")  # the cheapest path known: what is fixed is a path as well
_COLD = "still tries settings that it closed before"
_IDLE = (
    "clocks are all that is parked: the chip idles at 35.8 W at its fastest and 28.8 W at its slowest, of 38 to 46 "
    "W as found, so that parking all 20 gaps but the 3 s that tell one would save 13, 12 and 11 %, and the slowest "
    "clock all the time, its percentile 3.5 times as long, 21 %; waking makes answers late until a look sees the "
    "first request (0.1 s at most), about as many as may be late at all, so that 1 to 6 gaps pass at the fastest "
    "clock; on the seeds of the tuning 13, 10 and 7 %; tried: parking at the fastest clock that has seven tenths of "
    "the saving (12, 9 and 10 %)"
)
_ONE = "one answer, which of so few is more than 0.1 points"
_CROWD = (
    "a crowd that asks for nearly all that the chip can do, or more, found it at a slow clock: what waits after the "
    "looks that it takes to see it is late, whatever the clock is then"
)
_TOKENS = (
    "minutes at limits faster than the best one: few first tokens say little of a limit, those slower than one that a "
    "crowd was met at are closed for a while, gaps between tokens that the slowest limit made late overdraw the "
    "account; and seconds at the fastest to drive crowds away"
)
_UNKEPT = (
    "a judge's error: clocks were as found by lot, so that nobody asked for any, while the card ran others for 5.1 s; "
    "the first clock asked for after that was judged at once, before a look could see it. Found in this run, and left"
)


def targets(records: Sequence[Record]) -> Iterator[document.Target]:
    """Judge every cell and every part, and name the pieces that were not run."""
    for name in [name for each in records if each.get("part") == "about" for name in each["left_out"]]:
        yield document.target(f"{name}: run", want=">= 1", value=None, unit="1")
    cells = [each for each in records if each.get("policy") == "amble" and each["maximum_keeps"]]
    for cell in cells:
        yield from _of_cell(cell, [each for each in records if "policy" in each and _same(each, cell)])
    low = [each["saving"] for each in cells if each["load"] <= 0.7]
    saving = float(np.mean(low)) if low else None
    yield document.target("mean saving against maximum, loads to 0.7", want=">= 0.2", value=saving, unit="1")
    yield from _of_proof([each for each in records if each.get("part") == "proof"])
    yield from _of_faults([each for each in records if each.get("part") == "faults"])
    for each in records:
        yield from _of_part(each)


def _of_cell(cell: Record, beside: Sequence[Record]) -> Iterator[document.Target]:
    name = f"{cell['plant']} {cell['trace']} at {cell['load']:g}"
    more = 100.0 * cell["late_more"]
    late = _ONE if cell["late_more"] * cell["finished"] < 1.5 else _LATE if cell["server"] == "engine" else _CROWD
    yield document.target(f"{name}: late above maximum", want="<= 0.1", value=more, unit="points", cause=late)
    others = [
        each["energy_j"] for each in beside if each["keeps"] and each["policy"] not in ("amble", "maximum", "hindsight")
    ]
    if others:
        above = cell["energy_j"] / min(others) - 1.0
        yield document.target(
            f"{name}: energy over best that keeps",
            want="<= 0.02",
            value=above,
            unit="1",
            cause=_TOKENS if cell["server"] == "engine" else _ABOVE,
        )
    paths = [each["energy_j"] for each in beside if each["keeps"] and each["policy"] in _PATHS]
    if any(each["policy"] == "hindsight" for each in beside) and paths:
        above = cell["energy_j"] / min(paths) - 1.0
        yield document.target(f"{name}: energy over hindsight", want="<= 0.1", value=above, unit="1", cause=_HINDSIGHT)


def _same(one: Record, other: Record) -> bool:
    return all(one[key] == other[key] for key in ("plant", "trace", "load"))


def _of_proof(runs: Sequence[Record]) -> Iterator[document.Target]:
    stated = [each for each in runs if each["held"] is not None]
    share = sum(each["held"] for each in stated) / len(stated) if stated else None
    yield document.target("stated saving holds the truth", want=">= 0.93", value=share, unit="1")
    yield document.target("runs with a stated saving", want=">= 200", value=len(stated), unit="1")
    false = sum(each["false"] for each in runs) if runs else None
    yield document.target("false savings", want="== 0", value=false, unit="1")


def _of_faults(runs: Sequence[Record]) -> Iterator[document.Target]:
    count, wrong = sum(each["faults"] for each in runs), sum(each["not_as_found"] for each in runs)
    yield document.target("injected faults", want=">= 2000", value=count, unit="1")
    yield document.target(
        "faults with clocks not as found", want="== 0", value=wrong if runs else None, unit="1", cause=_UNKEPT
    )
    false = sum(each["false"] for each in runs) if runs else None
    yield document.target("false savings under faults", want="== 0", value=false, unit="1")


def _of_part(each: Record) -> Iterator[document.Target]:
    match each.get("part"):
        case "cost":
            yield document.target("own cost, period 1 s", want="<= 0.01", value=each["look_s"], unit="cores")
            yield document.target("own cost, period 250 ms", want="<= 0.03", value=4.0 * each["look_s"], unit="cores")
        case "cold":
            name, more = f"cold start at {each['load']:g}", each["second_over_last"] - 1.0
            yield document.target(
                f"{name}: energy after ten minutes", want="<= 0.05", value=more, unit="1", cause=_COLD
            )
            late = each["late_first_minute"]
            yield document.target(
                f"{name}: late in the first minute", want="<= 0.01", value=late, unit="1", cause=_LATE
            )
        case "loaded idle":
            name = f"loaded idle at {each['load']:g}"
            yield document.target(f"{name}: power saved", want=">= 0.34", value=each["saved"], unit="1", cause=_IDLE)
            yield document.target(f"{name}: p95 longer", want="<= 0.1", value=each["p95_longer"], unit="1", cause=_LATE)
