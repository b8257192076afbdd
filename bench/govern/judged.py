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
    "clock; before parking had a share of what may be late it saved 9, 8 and 6 % on the seeds of the tuning, 11, 10"
    " and 8 % with it; tried: parking at the fastest clock that has seven tenths of the saving (12, 9 and 10 %)"
)
_POWER = (
    "; the power learnt differs by 0.0 to 1.1 % between the slow clocks where the true one does by 2 to 8 %, as the "
    "fastest is seen for seconds only, and a change must promise 1 %: found in this run and left, so as not to tune on "
    "what is reported"
)
_CREDIT = (
    "a visit to the slowest power limit made {} gaps between tokens late, all that ten minutes of so few may have: {}"
)
_BEST_OF = {
    "v100 poisson at 0.5": (
        "the best is the ladder, late by 0.08 points where this is by 0.02; 2 % more than the best fixed clock: 21 "
        "s at the fastest clock to drive queues away, and two minutes at clocks faster than the best" + _POWER
    ),
    "v100 bursts at 0.3": (
        "the best is the ladder, late by 0.08 points where this is by 0.03; 1.6 % more than the best fixed clock"
        + _POWER
    ),
    "rtx3090 azure at 0.1": _CREDIT.format(9, "for three of the ten minutes none slower than the fastest was tried"),
    "rtx3090 azure at 0.3": _CREDIT.format(
        8, "three minutes passed at the seventh to ninth limit, and the rest at the tenth of eleven, the best fixed one"
    ),
}


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
    yield document.target(f"{name}: late above maximum", want="<= 0.1", value=more, unit="points", cause=_LATE)
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
            cause=_BEST_OF.get(name, _ABOVE),
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
    yield document.target("faults with clocks not as found", want="== 0", value=wrong if runs else None, unit="1")
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
