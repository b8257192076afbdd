"""A simulated device's time, energy, heat and clocks: work goes in, seconds and joules come out.

Everything that happens between two operators is an event on one time line: a clock that was asked for takes effect, a
governor samples, a background load starts or stops. Work and sleep are cut at the events; between two of them nothing
changes, so a whole segment of a network is priced as one array. Noise comes from one stream per device, in the order
the operators run, so a run depends on the seed and on what was asked, and on nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from amble.core.cost import Reading
from amble.core.point import DOMAINS, Clocks, Domain
from amble.core.ports import FloatArray
from amble.devices.simulated.chip import Chip
from amble.devices.simulated.governors import Governor
from amble.devices.simulated.physics import Physics, Table, cooled_c

__all__ = ["Background", "Done", "Machine", "Scenario"]

_HEAT_STEP_S = 1.0
_SAME_S = 1e-9  # times closer than this are one: a day of virtual time has a resolution of 1e-11 s
_THROTTLE_PERIOD_S = 0.1
_NOISE_BLOCK = 1 << 14
_PARETO_SHAPE = 2.5


@dataclass(frozen=True, slots=True)
class Background:
    """Somebody else's load, in bursts: it takes ``share`` of the device for ``on_s``, then rests for ``off_s``.

    Both times are means of exponential distributions [s]. Its own energy is not counted.
    """

    share: float
    on_s: float = 0.050
    off_s: float = 0.200


@dataclass(frozen=True, slots=True)
class Scenario:
    """Circumstances, all declared: ambient temperature, power cap, background load, noise, a slow meter.

    ``noise`` scales the chip's jitter and spikes (0 switches them off); ``meter_period_s`` is how often the meter's
    counter moves (0: always). None keeps the chip's own value.
    """

    ambient_c: float | None = None
    cap_w: float | None = None
    background: Background | None = None
    noise: float = 1.0
    meter_period_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Done:
    """Time [s] and energy [J] that each operator of a run took; both [operator]."""

    latency_s: FloatArray
    energy_j: FloatArray


@dataclass(slots=True)
class _Pending:
    at_s: float
    clock_hz: float


@dataclass(slots=True)
class Machine:
    """The state of one simulated device, and the only thing that changes it."""

    chip: Chip
    physics: Physics
    scenario: Scenario
    rng: np.random.Generator
    held: Clocks
    governor: Governor | None
    now_s: float = 0.0
    energy_j: float = 0.0
    temperature_c: float = 0.0
    _latched: Reading = field(default_factory=lambda: Reading(0.0, 0.0))
    _pending: dict[Domain, _Pending] = field(default_factory=dict)
    _cap: int = 0
    _checked_s: float = 0.0
    _busy_s: float = 0.0
    _dram_s: float = 0.0
    _noise: FloatArray = field(default_factory=lambda: np.empty(0))
    _noise_at: int = 0
    _background_s: float = math.inf
    _stolen: float = 0.0

    def __post_init__(self) -> None:
        """Start cool and idle, with the background resting."""
        self.temperature_c = self._ambient_c
        self._cap = len(self.chip.core_mhz) - 1
        if self.scenario.background is not None:
            self._background_s = float(self.rng.exponential(self.scenario.background.off_s))

    # --- clocks -----------------------------------------------------------------------------------------------------

    @property
    def running(self) -> Clocks:
        """Return the clocks that run now: those in effect, less what heat takes from the core."""
        if self._cap == len(self.chip.core_mhz) - 1 or self.held.core_hz is None:
            return self.held
        return replace(self.held, core_hz=min(self.held.core_hz, float(self.chip.ladder("core")[self._cap])))

    @property
    def throttled(self) -> bool:
        """Tell whether heat keeps the core below what was asked for."""
        return self.running != self.held

    def ask(self, clocks: Clocks) -> None:
        """Ask for other clocks: the work stalls, and each change takes effect after its own delay."""
        self.governor = None
        for domain in DOMAINS:
            wanted, pending = clocks.of(domain), self._pending.get(domain)
            asked = pending.clock_hz if pending else self.held.of(domain)
            if wanted is not None and wanted != asked:
                self._change(domain, wanted)

    def _change(self, domain: Domain, clock_hz: float) -> None:
        cost = self.chip.switching[domain]
        self._pass(cost.stall_s, dynamic_j=cost.energy_j)
        self._pending.pop(domain, None)
        if clock_hz != self.held.of(domain):
            self._pending[domain] = _Pending(self.now_s + cost.settle_s - cost.stall_s, clock_hz)

    # --- time -------------------------------------------------------------------------------------------------------

    def sleep(self, duration_s: float) -> None:
        """Do nothing for a while: idle power, cooling, and whatever the governor makes of it."""
        end_s = self.now_s + duration_s
        while self.now_s < end_s:
            self._fire()
            quiet = self.governor is not None and self.governor.quiet(self.held) and not self._pending
            until_s = min(end_s, self._next_s(asleep=quiet), self.now_s + _HEAT_STEP_S)
            self._pass(until_s - self.now_s)
            if until_s == end_s:
                self.now_s = end_s
        self._fire()

    def work(self, price: Callable[[Clocks], tuple[Clocks, Table]], count: int) -> Done:
        """Run ``count`` operators in a row; ``price`` takes the clocks, lowers them where the power cap says so, and
        gives those and the operators' table."""
        if self.governor is not None:
            self.governor.wake(self.now_s, busy_s=self._busy_s, dram_s=self._dram_s)
        noise = self._draw(count)
        latency_s, energy_j = np.zeros(count), np.zeros(count)
        start, left = 0, 1.0  # the first operator not finished, and the share of it that is left
        while start < count:
            self._fire()
            clocks, table = price(self.running)
            time_s = table.time_s[start:] * noise[start:]
            time_s[0] *= left / (1.0 - self._stolen)
            time_s[1:] /= 1.0 - self._stolen
            share, finished = self._until_next_event(time_s)
            spent_s = time_s * share
            share[0] *= left  # from here on shares of whole operators
            dynamic_j = table.dynamic_j[start:] * share
            watts = self._pass(
                float(spent_s.sum()),
                clocks=clocks,
                dynamic_j=float(dynamic_j.sum()),
                dram_s=float(table.dram_s[start:] @ share),
            )
            latency_s[start:] += spent_s
            energy_j[start:] += dynamic_j + watts * spent_s
            if finished < len(time_s):
                left = (1.0 if finished else left) - float(share[finished])
            start += finished
        return Done(latency_s, energy_j)

    def _until_next_event(self, time_s: FloatArray) -> tuple[FloatArray, int]:
        """The share of each of these operators done before anything happens, and how many are done whole."""
        share, limit_s = np.ones(len(time_s)), self._next_s() - self.now_s
        if float(time_s.sum()) <= limit_s:
            return share, len(time_s)
        ends_s = np.cumsum(time_s)
        finished = min(int(np.searchsorted(ends_s, limit_s, side="right")), len(time_s) - 1)
        share[finished + 1 :] = 0.0
        share[finished] = min(1.0, (limit_s - (ends_s[finished] - time_s[finished])) / max(time_s[finished], 1e-300))
        return share, finished

    def read(self) -> Reading:
        """Return the meter's counter; with a slow meter the energy is that of its last update."""
        energy_j = self._latched.energy_j if self.scenario.meter_period_s > 0 else self.energy_j
        return Reading(self.now_s, energy_j)

    def _pass(
        self, duration_s: float, *, clocks: Clocks | None = None, dynamic_j: float = 0.0, dram_s: float = 0.0
    ) -> float:
        """Let time pass, at work at these clocks or (None) at rest; return the power that is not the work's own [W]."""
        busy = clocks is not None
        watts = (
            self.physics.busy_w(clocks, self.temperature_c)
            if clocks is not None
            else self.physics.idle_w(self.running, self.temperature_c)
        )
        spent_j = watts * duration_s + dynamic_j
        self._latch(duration_s, spent_j)
        self.energy_j += spent_j
        self.now_s += duration_s
        if busy:
            self._busy_s += duration_s
            self._dram_s += dram_s
        if duration_s > 0:
            self._warm(spent_j / duration_s, duration_s)
        return watts

    def _latch(self, duration_s: float, spent_j: float) -> None:
        period_s = self.scenario.meter_period_s
        if period_s <= 0 or duration_s <= 0:
            return
        tick_s = math.floor((self.now_s + duration_s) / period_s) * period_s
        if tick_s > self._latched.time_s:
            share = min(1.0, max(0.0, (tick_s - self.now_s) / duration_s))
            self._latched = Reading(tick_s, self.energy_j + share * spent_j)

    # --- heat -------------------------------------------------------------------------------------------------------

    @property
    def _ambient_c(self) -> float:
        ambient_c = self.scenario.ambient_c
        return self.chip.thermal.ambient_c if ambient_c is None else ambient_c

    def _warm(self, power_w: float, duration_s: float) -> None:
        """Follow the temperature; once a period, lower or raise the highest clock allowed by one step.

        As the kernel's step_wise thermal governor: down while too hot and still warming, up when cool again.
        """
        thermal = self.chip.thermal
        settled_c = self._ambient_c + thermal.resistance_c_per_w * power_w
        self.temperature_c = cooled_c(
            self.temperature_c, settled_c, time_constant_s=thermal.time_constant_s, duration_s=duration_s
        )
        if self.now_s - self._checked_s < _THROTTLE_PERIOD_S:
            return
        self._checked_s = self.now_s
        if self.temperature_c > thermal.throttle_c and settled_c > self.temperature_c:
            self._cap = max(0, self._cap - 1)
        elif self.temperature_c < thermal.resume_c:
            self._cap = min(len(self.chip.core_mhz) - 1, self._cap + 1)

    # --- events -----------------------------------------------------------------------------------------------------

    def _next_s(self, *, asleep: bool = False) -> float:
        due_s = [each.at_s for each in self._pending.values()]
        governed_s = math.inf if self.governor is None or asleep else self.governor.next_s
        return max(self.now_s, min([*due_s, governed_s, self._background_s]))

    def _fire(self) -> None:
        """Let everything happen that is due by now."""
        for domain in [name for name, each in self._pending.items() if each.at_s <= self.now_s + _SAME_S]:
            self._set(domain, self._pending.pop(domain).clock_hz)
        if self._background_s <= self.now_s + _SAME_S:
            self._toggle_background()
        if self.governor is not None and self.governor.next_s <= self.now_s + _SAME_S:
            changes = self.governor.sample(self.now_s, self.held, busy_s=self._busy_s, dram_s=self._dram_s)
            for domain, clock_hz in changes.items():
                self._change(domain, clock_hz)

    def _set(self, domain: Domain, clock_hz: float) -> None:
        clocks = {each: self.held.of(each) for each in DOMAINS} | {domain: clock_hz}
        self.held = Clocks(clocks["core"], clocks["memory"], clocks["cpu"])

    def _toggle_background(self) -> None:
        load = self.scenario.background
        assert load is not None
        self._stolen = 0.0 if self._stolen else load.share
        self._background_s += float(self.rng.exponential(load.on_s if self._stolen else load.off_s))

    # --- noise ------------------------------------------------------------------------------------------------------

    def _draw(self, count: int) -> FloatArray:
        """The next factors on operators' times: log-normal with mean one, a few far above, and one the run shares."""
        if self._noise_at + count > len(self._noise):
            self._noise = self._factors(max(_NOISE_BLOCK, count))
            self._noise_at = 0
        factors = self._noise[self._noise_at : self._noise_at + count]
        self._noise_at += count
        sigma = self.chip.noise.run_sigma * self.scenario.noise
        return np.asarray(factors * math.exp(sigma * float(self.rng.standard_normal()) - sigma**2 / 2))

    def _factors(self, count: int) -> FloatArray:
        noise, scale = self.chip.noise, self.scenario.noise
        sigma = noise.sigma * scale
        jitter = np.exp(sigma * self.rng.standard_normal(count) - sigma**2 / 2)
        hit = self.rng.random(count) < noise.spike_rate * scale
        spikes = noise.spike_share * (1.0 + self.rng.pareto(_PARETO_SHAPE, count))
        return np.asarray(jitter + np.where(hit, spikes, 0.0))
