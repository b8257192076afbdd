"""A chip's name → a folder with an emulated card: a library that answers as NVML does, over that chip's physics."""

from __future__ import annotations

import ctypes
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.devices.emulated.perturbing import SPREAD, perturbed
from amble.devices.emulated.state import CORES, MEMORIES, STATE, State, build, opened
from amble.devices.simulated import chip as catalogue
from amble.devices.simulated.chip import Chip
from amble.devices.simulated.physics import Physics

__all__ = ["Card", "make", "read"]

_CARD = "card.json"
_VOLTA, _AMPERE = 5, 7
_REST_S = 0.1
_CALL_SHARE = 0.4
_LIMIT_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class Card:
    """What makes an emulated card: its chip, the seed of what is off about it, and how it keeps time.

    ``slower`` seconds of this machine are one of the card's; 0: its time moves only when the process that uses it lets
    time pass. The energy counter moves every ``counter_s`` [s] of the card.
    """

    chip: str
    seed: int = 0
    slower: float = 50.0
    counter_s: float = 0.010
    spread: float = SPREAD

    def true_chip(self) -> Chip:
        """Return the chip as it really is, which no one who measures it knows."""
        return perturbed(catalogue.load(self.chip), self.seed, spread=self.spread)


def make(card: Card, place: Path) -> Path:
    """Make a card in a folder, idle and cool; return the folder. An older card there is replaced."""
    if card.slower < 0 or card.counter_s < 0:
        raise ValueError("a card's time cannot run backwards, nor its counter move so")
    true = card.true_chip()
    if len(true.core_mhz) > CORES or len(true.memory_mhz) > MEMORIES:
        raise Refused(f"{card.chip} has more clock levels than a card can have here ({CORES} and {MEMORIES})")
    try:
        place.mkdir(parents=True, exist_ok=True)
        build(place)
        (place / _CARD).write_text(json.dumps(asdict(card)))
        (place / STATE).write_bytes(bytes(ctypes.sizeof(State)))
    except OSError as error:
        raise Refused(f"cannot make a card in {place}: {error.strerror or error}; name another folder") from error
    with opened(place) as state:
        _fill(state, card, true)
    return place


def read(place: Path) -> Card:
    """Read what a folder's card is; Refused when there is none."""
    try:
        return Card(**json.loads((place / _CARD).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise Refused(
            f"{place} holds no emulated card ({error}); make one: python -m amble.devices.emulated CHIP {place}"
        ) from error


def _fill(state: State, card: Card, chip: Chip) -> None:
    _tables(state, chip)
    state.name, state.uuid = f"Emulated {chip.name}".encode(), f"GPU-emulated-{chip.name}-{card.seed}".encode()
    state.architecture = _AMPERE if "memory" in chip.knobs or chip.name != "v100" else _VOLTA
    state.idle_mhz = round(chip.core_mhz[0])
    state.limit_default_mw = state.limit_mw = state.management_mw = state.limit_high_mw = round(chip.power.cap_w * 1e3)
    state.limit_low_mw = round(state.limit_high_mw * _LIMIT_SHARE)
    state.factor, state.period_s, state.rest_s = card.slower, card.counter_s, _REST_S
    state.origin_s = time.clock_gettime(time.CLOCK_MONOTONIC)
    for index, domain in enumerate(("core", "memory")):
        if domain in chip.switching:
            settle_s = chip.switching[domain].settle_s
            state.settle_s[index], state.call_s[index] = settle_s, _CALL_SHARE * settle_s
    thermal = chip.thermal
    state.ambient_c, state.temperature_c = thermal.ambient_c, thermal.ambient_c
    state.resistance_c_per_w, state.time_constant_s = thermal.resistance_c_per_w, thermal.time_constant_s
    state.throttle_c, state.resume_c, state.leak_per_c = thermal.throttle_c, thermal.resume_c, chip.power.leak_per_c
    state.app_core, state.app_memory = round(chip.core_mhz[-1]), round(chip.memory_mhz[-1])
    for ramp, mhz in zip(state.ramp, (state.idle_mhz, state.app_memory), strict=True):
        ramp.from_mhz = ramp.to_mhz = mhz
        ramp.since_s = -1e3
    state.worked_s = -1e3


def _tables(state: State, chip: Chip) -> None:
    """Write the levels and the static power at each of them; NVML counts in whole MHz."""
    physics = Physics(chip)
    state.num_cores, state.num_memories = len(chip.core_mhz), len(chip.memory_mhz)
    for row, core_mhz in enumerate(chip.core_mhz):
        state.core_mhz[row] = round(core_mhz)
        for column, memory_mhz in enumerate(chip.memory_mhz):
            state.memory_mhz[column] = round(memory_mhz)
            clocks = Clocks(core_mhz * 1e6, memory_mhz * 1e6)
            for busy in (False, True):
                fixed_w, leak_w = physics.static_parts_w(clocks, busy=busy)
                state.fixed_w[busy][row][column], state.leak_w[busy][row][column] = fixed_w, leak_w
