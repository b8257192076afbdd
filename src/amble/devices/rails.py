"""INA sensors of boards → a meter: their rails by name, power added up over time.

Boards tell power itself (kernels before 5) or voltage and current. One rail feeds the whole board (``VDD_IN``,
``POM_5V_IN``, ``VIN_SYS_5V0``); the others are parts of it, and adding them to it would count twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from weakref import ref

from amble.core.cost import Reading
from amble.core.errors import Refused
from amble.core.ports import Clock
from amble.devices.knobs import read_text

__all__ = ["Rail", "RailMeter", "drawn_on", "metered", "rails", "whole"]

_IIO = "sys/bus/i2c/drivers/ina3221x"
_HWMON = "sys/bus/i2c/drivers/ina3221"
_WHOLE = ("VDD_IN", "POM_5V_IN", "VIN_SYS_5V0")
_DRAWN = 0.05  # of the rise of all rails
_PERIOD_S = 0.02  # a reading takes this machine 0.1 ms in all: half a percent of what is metered
_SHORT_S = 0.1


@dataclass(frozen=True, slots=True)
class Rail:
    """A rail: the files whose product is its power, in ``unit_w``."""

    name: str
    files: tuple[Path, ...]
    unit_w: float

    def power_w(self) -> float:
        """Return the power now [W]; Refused when the sensor does not tell."""
        power = self.unit_w
        for path in self.files:
            text = read_text(path)
            try:
                power *= float(text)
            except ValueError as error:
                raise Refused(f"{path} holds {text!r}, which is no reading of rail {self.name}") from error
        return power


def rails(root: Path = Path("/")) -> tuple[Rail, ...]:
    """Return every rail that a board's sensors name."""
    found = []
    for name in sorted((root / _IIO).glob("*/iio:device*/rail_name_*")):
        number = name.name.rpartition("_")[2]
        found.append(Rail(read_text(name), (name.with_name(f"in_power{number}_input"),), 1e-3))
    for label in sorted((root / _HWMON).glob("*/hwmon/hwmon*/in*_label")):
        number = label.name.removeprefix("in").removesuffix("_label")
        files = (label.with_name(f"in{number}_input"), label.with_name(f"curr{number}_input"))
        if all(each.exists() for each in files):
            found.append(Rail(read_text(label), files, 1e-6))
    return tuple(found)


def whole(found: tuple[Rail, ...]) -> tuple[Rail, ...]:
    """Return the rail that feeds the whole board; all of them where none does."""
    feeding = tuple(rail for rail in found if rail.name in _WHOLE)
    return feeding[:1] or found


def metered(clock: Clock, root: Path = Path("/"), names: str | None = None) -> RailMeter | None:
    """Return a meter of the rail that feeds the whole board, or of those that are named (``VDD_GPU_SOC,VDD_CPU_CV``).

    None where the board has no rail. Refused for names it has not.
    """
    found = rails(root)
    if names is None:
        return RailMeter(clock, whole(found)) if found else None
    known = {rail.name: rail for rail in found}
    wanted = [each.strip() for each in names.split(",")]
    if unknown := [each for each in wanted if each not in known]:
        raise Refused(
            f"rails={names}: this board has no rail {', '.join(unknown)} (it has: {', '.join(known) or 'none'})"
        )
    return RailMeter(clock, tuple(known[each] for each in dict.fromkeys(wanted)))


def drawn_on(found: tuple[Rail, ...], work: Callable[[], object], clock: Clock, *, looks: int = 20) -> tuple[str, ...]:
    """Return the rails that the work draws on: whose power rises when it runs, most first."""
    rise_w = {}
    rest_w = _mean_w(found, looks, lambda: clock.sleep(0.01))
    work_w = _mean_w(found, looks, work)
    for name in rest_w:
        rise_w[name] = work_w[name] - rest_w[name]
    total_w = sum(max(0.0, each) for each in rise_w.values())
    rising = [name for name, each in rise_w.items() if total_w > 0 and each > _DRAWN * total_w]
    return tuple(sorted(rising, key=lambda name: -rise_w[name]))


def _mean_w(found: tuple[Rail, ...], looks: int, between: Callable[[], object]) -> dict[str, float]:
    sums_w = {rail.name: 0.0 for rail in found}
    for _ in range(looks):
        between()
        for rail in found:
            sums_w[rail.name] += rail.power_w() / looks
    return sums_w


class RailMeter:
    """Adds up the power of rails a period [s] apart, in a thread of its own, from the first reading on.

    Energy is unknown from the first reading that fails, or comes so late that what happened meanwhile is unknown.
    """

    def __init__(
        self, clock: Clock, chosen: tuple[Rail, ...], *, period_s: float = _PERIOD_S, latest_s: float = 0.5
    ) -> None:
        if not chosen:
            raise Refused("this board has no INA rail to read; its energy is unknown")
        self._clock = clock
        self._rails = chosen
        self._latest_s = latest_s
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._last: tuple[float, float] | None = None
        self._total_j = 0.0
        self._why = ""
        self._thread = threading.Thread(
            target=_poll, args=(ref(self), self._stop, period_s), daemon=True, name="amble rails"
        )

    @property
    def name(self) -> str:
        """Return the rails that are summed, by name."""
        return " + ".join(rail.name for rail in self._rails)

    @property
    def why(self) -> str:
        """Return why the energy is unknown."""
        return self._why

    def read(self) -> Reading:
        """Take a reading now, and return time and energy since the first one; energy None once it is unknown."""
        with self._guard:
            if self._thread.ident is None:
                self._thread.start()
            self._sample()
            return Reading(self._clock.now_s(), None if self._why else self._total_j)

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()

    def sample(self) -> None:
        """Add up what was drawn since the last reading."""
        with self._guard:
            self._sample()

    def _sample(self) -> None:
        if self._why:
            return
        try:
            now = (self._clock.now_s(), sum(rail.power_w() for rail in self._rails))
        except Refused as reason:
            self._why = str(reason)
            return
        if self._last is not None:
            passed_s = now[0] - self._last[0]
            if passed_s > self._latest_s:
                self._why = f"no reading for {passed_s:.2g} s: this process did not run"
                return
            self._total_j += passed_s * (now[1] + self._last[1]) / 2
        self._last = now


def _poll(meter: ref[RailMeter], stop: threading.Event, period_s: float) -> None:
    """Take readings until the meter is closed, or nobody has it any more.

    Short pauses are slept: to be woken by an event costs processor time of its own.
    """
    pause = time.sleep if period_s <= _SHORT_S else stop.wait
    while not stop.is_set():
        pause(period_s)
        reading = meter()
        if reading is None or stop.is_set():
            return
        reading.sample()
        del reading
