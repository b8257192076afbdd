"""What an operating system does with clocks that nobody set: loads of the last window → clocks, sampled in time.

Constants are those of the Linux kernel's sources, named beside each. A rule is pure: it takes the load of the window
that just ended and its own state, and gives the clock and the new state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from amble.core.errors import Refused
from amble.core.point import DOMAINS, Clocks, Domain
from amble.core.ports import FloatArray
from amble.devices.simulated.chip import Chip

__all__ = ["GOVERNORS", "Governor", "Load", "Rule", "governor"]

_SAME_S = 1e-9
_UP_THRESHOLD = 0.90  # DFSO_UPTHRESHOLD, drivers/devfreq/governor_simpleondemand.c
_DOWN_DIFFERENTIAL = 0.05  # DFSO_DOWNDIFFERENCTIAL, same file
_DEVFREQ_POLLING_S = 0.050  # polling_ms of panfrost, lima, msm (drivers/gpu/drm/*/..._devfreq.c), and of exynos-bus
_BUS_UP_THRESHOLD = 0.40  # exynos_bus_probe(), drivers/devfreq/exynos-bus.c: a bus is slow long before it is full
_SCHEDUTIL_HEADROOM = 1.25  # map_util_freq(): freq + (freq >> 2), include/linux/sched/cpufreq.h
_SCHEDUTIL_RATE_LIMIT_S = 0.010  # cpufreq_policy_transition_delay_us(): at most 10 ms, drivers/cpufreq/cpufreq.c
_PELT_HALF_LIFE_S = 32 * 1024e-6  # LOAD_AVG_PERIOD of 1,024 us, kernel/sched/pelt.c
_SYSSCALE_PERIOD_S = 0.030  # Haj-Yahya et al., ISCA 2020: decisions about every 30 ms
_SYSSCALE_LOW = 0.5  # assumed: the low memory point runs at half the top clock
_SYSSCALE_UP = 0.60  # assumed: above this share of the low point's bandwidth the high point is taken
_SYSSCALE_DOWN = 0.45  # assumed: below it the low point is taken again


@dataclass(frozen=True, slots=True)
class Load:
    """Shares of a window of ``window_s`` in which the domain was busy, and in which the DRAM was."""

    window_s: float
    busy: float
    memory_busy: float


@dataclass(frozen=True, slots=True)
class Rule:
    """One domain's rule: ``step(load, clock_hz, ladder, state) -> (clock_hz, state)``, every ``period_s``."""

    period_s: float
    step: Callable[[Load, float, FloatArray, float], tuple[float, float]]


class Governor:
    """The rules of a device's domains, each with its own sampling period and state. Time is the caller's."""

    def __init__(self, rules: dict[Domain, Rule], chip: Chip) -> None:
        self._rules = rules
        self._ladders = {domain: chip.ladder(domain) for domain in rules}
        self._due_s = {domain: rule.period_s for domain, rule in rules.items()}
        self._state = dict.fromkeys(rules, 0.0)
        self._since: dict[Domain, tuple[float, float, float]] = dict.fromkeys(rules, (0.0, 0.0, 0.0))

    @property
    def next_s(self) -> float:
        """Return when the next sample is due [s]."""
        return min(self._due_s.values(), default=float("inf"))

    def start(self, top: Clocks) -> Clocks:
        """Return the clocks of a device that has long been idle: the lowest of every governed domain."""
        lowest = {domain: float(ladder[0]) for domain, ladder in self._ladders.items()}
        return Clocks(*(lowest.get(domain, top.of(domain)) for domain in DOMAINS))

    def quiet(self, clocks: Clocks) -> bool:
        """Tell whether idling on would change nothing: every governed clock is at its lowest, every memory faded."""
        lowest = all(clocks.of(domain) == ladder[0] for domain, ladder in self._ladders.items())
        return lowest and all(value < 1e-3 for value in self._state.values())

    def wake(self, now_s: float, *, busy_s: float, dram_s: float) -> None:
        """Start new windows now, after a time without samples."""
        for domain, rule in self._rules.items():
            if self._due_s[domain] < now_s:
                self._due_s[domain] = now_s + rule.period_s
                self._since[domain] = (now_s, busy_s, dram_s)

    def sample(self, now_s: float, clocks: Clocks, *, busy_s: float, dram_s: float) -> dict[Domain, float]:
        """Take the samples that are due, from the running totals of busy time; return the clocks to change to."""
        wanted: dict[Domain, float] = {}
        for domain, rule in self._rules.items():
            if self._due_s[domain] > now_s + _SAME_S:
                continue
            start_s, busy_before_s, dram_before_s = self._since[domain]
            window_s = max(now_s - start_s, 1e-9)
            load = Load(window_s, (busy_s - busy_before_s) / window_s, min(1.0, (dram_s - dram_before_s) / window_s))
            now_hz = clocks.of(domain)
            assert now_hz is not None
            wanted[domain], self._state[domain] = rule.step(load, now_hz, self._ladders[domain], self._state[domain])
            self._since[domain] = (now_s, busy_s, dram_s)
            self._due_s[domain] = now_s + rule.period_s
        return {domain: clock_hz for domain, clock_hz in wanted.items() if clock_hz != clocks.of(domain)}


def governor(name: str, chip: Chip) -> Governor | None:
    """Build a governor by its name; None for ``performance``; Refused for an unknown one.

    ``schedutil`` and ``simple_ondemand`` set the core by that rule and the memory by devfreq's on its bandwidth;
    ``sysscale`` sets the memory to one of two points by bandwidth thresholds, and the core by the chip's usual rule.
    """
    if name not in GOVERNORS:
        raise Refused(f"no governor {name!r}; choose one of {', '.join(GOVERNORS)}")
    core = chip.core_governor if name == "sysscale" else name
    if name == "performance":
        return None
    rules: dict[Domain, Rule] = {}
    if core != "performance" and "core" in chip.knobs:
        rules["core"] = _CORE_RULES[core]
    if "memory" in chip.knobs:
        rules["memory"] = _SYSSCALE if name == "sysscale" else _DEVFREQ_MEMORY
    return Governor(rules, chip)


def _at_least(ladder: FloatArray, wanted_hz: float) -> float:
    """The lowest legal clock that is not below the wanted one, as both frameworks choose it."""
    return float(ladder[min(int(np.searchsorted(ladder, wanted_hz * (1 - 1e-9))), len(ladder) - 1)])


def _ondemand_hz(busy: float, clock_hz: float, ladder: FloatArray, *, threshold: float) -> float:
    """devfreq_simple_ondemand_func(), drivers/devfreq/governor_simpleondemand.c."""
    if busy > threshold:
        return float(ladder[-1])
    if busy > threshold - _DOWN_DIFFERENTIAL:
        return clock_hz
    return _at_least(ladder, busy * clock_hz / (threshold - _DOWN_DIFFERENTIAL / 2))


def _ondemand(load: Load, clock_hz: float, ladder: FloatArray, state: float) -> tuple[float, float]:
    return _ondemand_hz(load.busy, clock_hz, ladder, threshold=_UP_THRESHOLD), state


def _ondemand_memory(load: Load, clock_hz: float, ladder: FloatArray, state: float) -> tuple[float, float]:
    return _ondemand_hz(load.memory_busy, clock_hz, ladder, threshold=_BUS_UP_THRESHOLD), state


def _schedutil(load: Load, clock_hz: float, ladder: FloatArray, state: float) -> tuple[float, float]:
    """get_next_freq(), kernel/sched/cpufreq_schedutil.c, on a utilisation that decays as PELT's and scales with f."""
    decay = 0.5 ** (load.window_s / _PELT_HALF_LIFE_S)
    utilisation = state * decay + (1.0 - decay) * min(1.0, load.busy) * clock_hz / ladder[-1]
    return _at_least(ladder, _SCHEDUTIL_HEADROOM * utilisation * ladder[-1]), float(utilisation)


def _sysscale(load: Load, clock_hz: float, ladder: FloatArray, state: float) -> tuple[float, float]:
    low_hz, demand_hz = _at_least(ladder, _SYSSCALE_LOW * ladder[-1]), load.memory_busy * clock_hz
    if demand_hz > _SYSSCALE_UP * low_hz:
        return float(ladder[-1]), state
    return (low_hz if demand_hz < _SYSSCALE_DOWN * low_hz or clock_hz < low_hz else clock_hz), state


_CORE_RULES = {
    "schedutil": Rule(_SCHEDUTIL_RATE_LIMIT_S, _schedutil),
    "simple_ondemand": Rule(_DEVFREQ_POLLING_S, _ondemand),
}
GOVERNORS = ("performance", *_CORE_RULES, "sysscale")
_DEVFREQ_MEMORY = Rule(_DEVFREQ_POLLING_S, _ondemand_memory)
_SYSSCALE = Rule(_SYSSCALE_PERIOD_S, _sysscale)
