"""The governors, one file each: fixed rungs, clocks only, PIT, and amble's own."""

from amble.stages.control.governors.adaptive import Amble, AmbleState, Tuning
from amble.stages.control.governors.budget import Budget
from amble.stages.control.governors.dvfs import Dvfs, DvfsState
from amble.stages.control.governors.fixed import Fixed, best_fixed, int8_max, max_clocks
from amble.stages.control.governors.pit import Pit, PitState

__all__ = [
    "Amble",
    "AmbleState",
    "Budget",
    "Dvfs",
    "DvfsState",
    "Fixed",
    "Pit",
    "PitState",
    "Tuning",
    "best_fixed",
    "int8_max",
    "max_clocks",
]
