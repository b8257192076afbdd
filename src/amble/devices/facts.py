"""What back ends tell about themselves: what can be opened here, and what they found before they changed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Description", "Found"]


@dataclass(frozen=True, slots=True)
class Description:
    """One device that can be opened here, for people: every field is a text, ``missing`` one line a right.

    ``clocks`` says which knobs there are and how many levels they have; ``meter`` what counts energy.
    """

    name: str
    calibration: str
    clocks: str
    meter: str
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """The settings that were in force before amble changed them, in a form that outlives the process.

    ``values`` are (where, what) pairs: path and text for sysfs, knob and value for NVML, in the order to put them back.
    """

    backend: Literal["sysfs", "nvml"]
    values: tuple[tuple[str, str], ...]
