"""The governors, one file each: fixed rungs, clocks only, PIT, and amble's own."""

from amble.control.governors.adaptive import Amble, AmbleState, Tuning
from amble.control.governors.budget import Budget
from amble.control.governors.dvfs import Dvfs, DvfsState
from amble.control.governors.fixed import Fixed, best_fixed, int8_max, max_clocks
from amble.control.governors.pit import Pit, PitState

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
