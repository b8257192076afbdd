"""A device → hands that set its clocks, tell whether they were kept, and always put back what was found."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from amble.core.address import Address
from amble.core.cost import Reading
from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.core.ports import Clock, Device
from amble.devices import instead

__all__ = ["AS_FOUND", "Hands", "rungs", "slowness"]

AS_FOUND = -1
"""Instead of a setting: the clocks that were found."""

_LOG = logging.getLogger(__name__)
_KEPT = 0.05  # of a clock: as far as a reading may be from what was asked
_RATIO = 1.125  # between two shares of CPU time
_REFUSALS = 3  # after so many the hands rest for good


class Hands:
    """The devices of one server, moved together. Applied settings are counted; ``release`` puts back what was found.

    ``acts`` false only looks. ``floor`` is the fastest setting that somebody above allows: while it is above 0, that
    one stands for the clocks as found, until ``release``. ``lapsed`` tells whether clocks were put back on our behalf,
    because nothing was heard of us. A device that refuses, or keeps other clocks, makes the hands let go, and after the
    third time rest: the server runs as it was found.
    """

    def __init__(self, devices: Sequence[Device], settings: tuple[Clocks, ...], *, acts: bool = True) -> None:
        self.floor: Callable[[], int] = lambda: 0
        self.lapsed: Callable[[], bool] = lambda: False
        self._devices = tuple(devices)
        self.settings = settings
        self.acts = acts
        self.found = self._devices[0].actuator.current()
        self.asked = Clocks()
        self.refusals = 0
        self.changes = 0
        self._owed = False  # something was changed, or not put back yet

    def ask(self, setting: int) -> str:
        """Ask for a setting, or -1 for the clocks as found; return a note when it was refused."""
        setting = max(setting, self.floor() or AS_FOUND)
        if setting < 0 or not self.holds():
            return self.release()
        wanted = self.settings[setting]
        if wanted == self.asked:
            return ""
        self._owed = True
        try:
            for device in self._devices:
                device.actuator.apply(wanted)
        except Refused as reason:
            self.refusals += 1
            return "; ".join(filter(None, (str(reason), self.release())))
        self.asked = wanted
        self.changes += 1
        return ""

    def holds(self) -> bool:
        """Tell whether clocks are set here at all."""
        return self.acts and self.refusals < _REFUSALS

    def rest(self) -> str:
        """Go back to what was found, or to what is allowed of it; return a note when that is refused."""
        return self.ask(AS_FOUND)

    def tried(self, clock: Clock) -> float:
        """Set the two fastest settings and put back what was found; return how long the second change took [s].

        The first one takes the lease and starts its watchdog as well, which no later change does. Refused when clocks
        cannot be set: a right is missing, or another governor holds a device.
        """
        if note := self.ask(0):
            raise Refused(f"{note}{self._instead()}")
        start_s = clock.now_s()
        if note := self.ask(1):
            raise Refused(note)
        took_s = clock.now_s() - start_s
        if note := self.release():
            raise Refused(note)
        return took_s

    def _instead(self) -> str:
        """Say what else may be set on boards whose clocks cannot be locked."""
        limit = next(filter(None, (instead.limited(Address.parse(each.name)) for each in self._devices)), None)
        if limit is None or self.settings[0].power_limit_w is not None:
            return ""
        return f"; where clocks cannot be locked, let the power limit be set: --device {limit}"

    def release(self) -> str:
        """Put back what was found on every device; return a note when one refuses. It is tried again the next time."""
        if not self._owed:
            return ""
        notes = []
        for device in self._devices:
            try:
                device.actuator.apply(self.found)
            except Refused as reason:
                notes.append(f"{device.name}: clocks could not be put back: {reason}; run amble restore")
        self.asked = Clocks()
        self._owed = bool(notes)
        return "; ".join(notes)

    def got(self) -> Clocks:
        """Return the clocks that run, as the first device reports them."""
        return self._devices[0].actuator.current()

    def kept(self, got: Clocks) -> bool:
        """Tell whether the clocks that run are those that were asked for."""
        pairs = zip(self.asked.knobs(), got.knobs(), strict=True)
        return all(want is None or have is None or abs(have - want) <= _KEPT * want for want, have in pairs)

    def read(self) -> Reading:
        """Return the time of the first device, and the energy of all; None when one is unknown."""
        readings = [device.meter.read() for device in self._devices]
        energies = [each.energy_j for each in readings]
        known = [each for each in energies if each is not None]
        return Reading(readings[0].time_s, sum(known) if len(known) == len(energies) else None)


def rungs(available: Sequence[Clocks], most: int = 12) -> tuple[Clocks, ...]:
    """Return settings to choose from, fastest first: the highest memory clock, and core clocks evenly apart.

    Shares of CPU time, where work takes longer without bound as they shrink, are apart by one ratio, and more of them.
    Refused when there is nothing to choose. The highest and the lowest setting are always among them.
    """
    if len(available) < 2:
        raise Refused("this device has no clock that can be set; use --watch to see what it would save elsewhere")
    top = available[-1]
    like_top = [each for each in available if (each.memory_hz, each.cpu_hz) == (top.memory_hz, top.cpu_hz)]
    ladder = like_top if len(like_top) > 1 else list(available)
    shares = [each.cpu_share for each in ladder if each.cpu_share]
    if len(shares) == len(ladder):
        return _by_ratio(ladder, shares)
    steps = min(most, len(ladder))
    chosen = {round(index * (len(ladder) - 1) / (steps - 1)) for index in range(steps)}
    return tuple(ladder[index] for index in sorted(chosen, reverse=True))


def _by_ratio(ladder: Sequence[Clocks], shares: Sequence[float]) -> tuple[Clocks, ...]:
    """Return settings from the top downwards, each the next that is slower by a ratio, and the last."""
    found = [len(ladder) - 1]
    for at in range(len(ladder) - 2, -1, -1):
        if shares[found[-1]] >= _RATIO * shares[at] or at == 0:
            found.append(at)
    return tuple(ladder[at] for at in found)


def slowness(settings: Sequence[Clocks], num_objectives: int) -> tuple[tuple[float, ...], ...]:
    """Return how much longer work takes at each setting at most: the ratio of the clocks, [setting][objective]."""
    found = []
    for each in settings:
        pairs = [(top, mine) for top, mine in zip(settings[0].knobs(), each.knobs(), strict=True) if top and mine]
        ratio = 1.0
        for top, mine in pairs:
            ratio *= top / mine
        found.append((max(1.0, ratio),) * num_objectives)
    return tuple(found)
