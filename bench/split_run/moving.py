"""A moving cut beside fixed ones, over recorded 5G traces: in virtual time on many, in real time on one.

Rules of steering were chosen on every other trace (`TUNED`), what is told is of the others. A fixed cut is a plan with
that one pair and the whole network on the device, steered like the moving one: it, too, answers alone where the link
fails it. The best of them is chosen in hindsight, after all of them were tried on the same rates: nobody could know it
before. Energies are the phone's, predicted by its plan, and the radio's; what it takes while it waits is told apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from amble.core import files
from amble.levers.split.near import Near
from amble.levers.split.results import FORMAT, Split
from amble.levers.split.running import options_of
from amble.levers.split.steering import Option
from bench.split_run.traces import rates
from bench.split_run.virtual import Load, Played, Rates, clairvoyant, played

__all__ = [
    "DEADLINE_S",
    "LINK",
    "RADIO",
    "ROUND_TRIP_S",
    "fixed",
    "held_out",
    "in_virtual_time",
    "judged",
    "options",
    "parts",
]

Record = dict[str, Any]

LINK, RADIO, ROUND_TRIP_S, DEADLINE_S = "20Mbit/s", "0.1W", 0.005, 0.05
_SECONDS = 60
_LOCAL = "everything here"


def held_out(known: dict[str, list[float]], *, tuned: bool = False) -> list[str]:
    """Name the traces that nothing was chosen on; with ``tuned`` the others."""
    return sorted(known)[0 if tuned else 1 :: 2]


def options(plan: Split) -> tuple[Option, ...]:
    """Return the pairs of a plan as steering sees them."""
    return options_of([Near(each, each.paces) for each in plan.pairs])


def fixed(path: Path, name: str) -> Path:
    """Write the plan of a fixed cut beside the one that it is a part of."""
    plan = files.load(path, FORMAT)
    pairs = tuple(each for each in plan.pairs if each.name in ("", name))
    other = path.with_name("fixed.json")
    files.save(replace(plan, pairs=pairs), other, FORMAT)
    return other


def in_virtual_time(plan: Split, path: Path, *, each: int, tuned: bool = False) -> Iterator[Record]:
    """Play so many minutes of each trace with the moving cut and with every fixed one."""
    for name, start_s, part in parts(path, each=each, tuned=tuned):
        yield {"what": "virtual", "trace": name, "start_s": start_s} | judged(plan, part)


def parts(path: Path, *, each: int, tuned: bool = False) -> Iterator[tuple[str, int, list[float]]]:
    """Draw so many minutes from each trace, the first of each → the trace, where it begins [s], and its rates."""
    known = rates(path)
    random = np.random.default_rng(0)
    for name in held_out(known, tuned=tuned):
        for _ in range(each):
            start_s = int(random.integers(0, max(1, len(known[name]) - _SECONDS)))
            part = known[name][start_s : start_s + _SECONDS]
            if max(part) > 0:
                yield name, start_s, part


def judged(plan: Split, part: Sequence[float]) -> Record:
    """Play one part of a trace in all ways."""
    link = Rates(part, ROUND_TRIP_S)
    load = Load(round(len(part) / DEADLINE_S), DEADLINE_S, DEADLINE_S)
    every = options(plan)
    wait_j = min(of.paces[0][1] for of in every if of.paces[0][0] == 0.0)
    planned, radio = (plan.link.rate_bit_s, plan.link.round_trip_s), plan.link.radio

    def tried(some: tuple[Option, ...]) -> Played:
        return played(some, link, load, planned=planned, radio=radio, wait_j=wait_j)

    moved = tried(every)
    others = {of.name: tried(tuple({every[0].name: every[0], of.name: of}.values())) for of in every}
    best = min(others, key=lambda name: others[name].above_j + others[name].radio_j)
    bound = clairvoyant(every, link, load, radio=radio, wait_j=wait_j)
    told = {"moving": moved, "best fixed": others[best], "local": others[every[0].name], "clairvoyant": bound}
    return {
        "best": best or _LOCAL,
        "requests": load.count,
        "wait_j": wait_j * load.count,
        "moves": moved.moves,
        "fallen_back": moved.fallen_back,
        **{f"{way}: above_j": of.above_j + of.radio_j for way, of in told.items()},
        **{f"{way}: late": of.late for way, of in told.items()},
    }
