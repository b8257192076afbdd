"""The governors, one file each: fixed rungs, a schedule, clocks only, PIT, and amble's own."""

from amble.stages.control.governors.amble import Amble, AmbleState, Tuning
from amble.stages.control.governors.budget import Budget
from amble.stages.control.governors.dvfs import Dvfs, DvfsState
from amble.stages.control.governors.fixed import Fixed, best_fixed, int8_max, max_clocks
from amble.stages.control.governors.pit import Pit, PitState
from amble.stages.control.governors.planned import Planned

__all__ = [
    "Amble",
    "AmbleState",
    "Budget",
    "Dvfs",
    "DvfsState",
    "Fixed",
    "Pit",
    "PitState",
    "Planned",
    "Tuning",
    "best_fixed",
    "int8_max",
    "max_clocks",
]
