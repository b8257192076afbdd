"""A ladder that states a wrong loss of accuracy -> what `amble` keeps of its budget then, in virtual time.

INT8 loses 0.6 % in truth; the ladder that the governor plans with states half of it, the truth, or twice as much. A
server does not see whether an answer was right, so nothing corrects the statement: the account is kept in its terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amble.core.ladder import Rung
from amble.core.schedule import Deadline
from amble.stages.control.governors import Amble
from bench.kit import document
from bench.pit.traffic import INT8_LOSS, ladder, run, trace, with_int8

__all__ = ["STATED", "misstated", "misstated_targets"]

STATED = (INT8_LOSS / 2, INT8_LOSS, INT8_LOSS * 2)
FACTOR, REQUESTS, SEEDS = 2.0, 1200, 3
_CAUSE = "the account counts what the ladder states; the governor does not see what answers are worth"

Record = dict[str, Any]


def misstated(fp32: Sequence[Rung], network: str, stated: float) -> list[Record]:
    """Serve four cells with a ladder that states this loss; `accuracy` is the truth, `told` what the ladder says."""
    rungs = with_int8(fp32, FACTOR, loss=stated)
    steps = ladder(rungs, network)
    fastest = steps.levels[0].rungs[0]
    objective = Deadline(10.0 * fastest.latency_s[0], 0.95)
    governor, found = Amble(steps, objective), []
    for kind in ("poisson", "bursts"):
        for load in (0.5, 0.9):
            outcomes = [
                run(
                    governor,
                    rungs,
                    trace(kind, load * fastest.capacity_hz, REQUESTS, seed=100 + seed, data=Path()),
                    deadline_s=objective.latency_s,
                    seed=seed,
                )
                for seed in range(SEEDS)
            ]
            means = {
                name: float(np.mean([getattr(each, name) for each in outcomes]))
                for name in ("energy_j", "missed", "int8")
            }
            about = {"part": "misstated", "network": network, "factor": FACTOR, "trace": kind, "load": load}
            told = float(np.mean([each.accuracy for each in outcomes]))
            truth = {"stated": stated, "told": told, "accuracy": 1.0 - INT8_LOSS * means["int8"]}
            found.append({**about, **truth, **means})
    return found


def misstated_targets(records: Sequence[Record], floor: float) -> Iterator[document.Target]:
    """The floor, in truth, at the worst of the cells, for every stated loss."""
    for stated in STATED:
        mine = [each["accuracy"] for each in records if each["part"] == "misstated" and each["stated"] == stated]
        title = f"stated loss {stated:.1%} of true {INT8_LOSS:.1%}: accuracy of FP32's in truth"
        yield document.target(title, want=f">= {floor:g}", value=min(mine, default=None), unit="1", cause=_CAUSE)
