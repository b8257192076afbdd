"""Tokens and power of a language model's server → what each setting draws at the load of now, by the two phases.

*Work.* While requests run from the beginning of a period to its end, the period is made of steps of generation, of the
requests in each, and of prompt tokens: ``span = d · steps + m · output tokens + p · prompt tokens`` at the fastest
setting, each times a setting's slowness in its phase (generation follows the memory, prompts the arithmetic), times a
factor learnt for the setting. Steps are output tokens over requests running. So a period says what its setting costs
whatever was asked of it meanwhile, which a mean over loads says only after very many requests.

*Load.* Requests that generate share the steps: with ``N`` of them on average, a step takes ``d + m · N`` and prompts
their part of the time, so ``N = output tokens a second × time of a step``, and the server is without any of them a
share ``exp(-N)`` of the time (as in an M/G/∞ queue). Slower settings run more together, and idle less.

*Power* is that measured while busy, and the idle power in the rest of the time. A setting that was never used is
believed to draw a little less than its faster neighbour, so that it is tried once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.optimize import nnls

from amble.core.ports import FloatArray
from amble.services.govern.eyes import Look

__all__ = ["Phases"]

_RATE_S = 90.0  # over which the tokens a second are a mean: arrivals come in crowds; and at first after
_BEFORE_S = 20.0  # without any, so that a first request is not taken for a crowd
_KEEP = 0.9998  # of what was learnt, a second
_LEAST_S = 3.0  # of busy time before anything is said
_PRIOR_S = 3.0  # seconds of a setting's own that weigh as much as its neighbour's
_CHEAPER = 0.92  # what the next slower setting is believed to draw while busy, until it was tried
_CHANCE = 2.0  # standard deviations, and as many requests, that may run together beyond what is usual
_SHOWN_S = 10.0  # that more run together and none waits, before they are known to have room
_ROOM = 0.8  # of those that ran together while others waited: so many are believed to have room
_LOST_S = 60.0  # a first token that did not come until then does not come, or is late whatever is done
_INTERLEAVED = 2.0  # prompts that wait share their steps with generation


@dataclass(frozen=True, slots=True)
class Phases:
    """Rows are settings, fastest first. gram: [setting, 3, 3] and work: [setting, 3] of (steps, output, prompt)
    tokens; busy: [setting, 3] seconds, joules, seconds whose joules are known; rates of tokens [1/s].

    ``running`` at the last look, ``inside`` of late on average, ``roomy``: the most that have shown to have room;
    ``unfirst``: requests that came and have no first token yet, (when [s], how many) in the order they came.
    """

    gram: FloatArray
    work: FloatArray
    busy: FloatArray
    passed_s: float = 0.0
    prompt_hz: float = 0.0
    output_hz: float = 0.0
    arrivals_hz: float = 0.0
    running: float = 0.0
    inside: float = 0.0
    roomy: float = 0.0
    unfirst: tuple[tuple[float, float], ...] = ()

    @classmethod
    def blank(cls, num_settings: int) -> Phases:
        """Return the belief of someone who has seen nothing."""
        return cls(np.zeros((num_settings, 3, 3)), np.zeros((num_settings, 3)), np.zeros((num_settings, 3)))

    def after(self, look: Look, row: int, power_w: float | None, first_tokens: float | None) -> Phases:
        """Learn from a period at a setting (negative: as found, like the fastest)."""
        span_s = max(look.span_s, 1e-3)
        passed_s = self.passed_s + span_s
        share = 1.0 - math.exp(-span_s / min(_RATE_S, passed_s + _BEFORE_S))
        rates = (look.prompt_tokens, look.output_tokens, look.arrivals)
        means = (self.prompt_hz, self.output_hz, self.arrivals_hz)
        prompt_hz, output_hz, arrivals_hz = (
            mean + share * (tokens / span_s - mean) for mean, tokens in zip(means, rates, strict=True)
        )
        running = look.running or 0.0
        waiting = look.waiting or 0.0
        present = running + waiting
        came = [*self.unfirst, (look.time_s - 0.5 * span_s, look.arrivals)]
        came = [each for each in came if each[0] >= look.time_s - _LOST_S]
        unfirst = () if first_tokens is None else _latest(came, min(present, _sum(came) - first_tokens))
        higher = max(0.0, running - self.roomy) * -math.expm1(-span_s / _SHOWN_S)
        roomy = min(self.roomy, _ROOM * running) if waiting else self.roomy + higher
        after = replace(
            self, passed_s=passed_s, prompt_hz=prompt_hz, output_hz=output_hz, arrivals_hz=arrivals_hz,
            running=running, inside=self.inside + share * (running - self.inside),
            roomy=roomy, unfirst=unfirst,
        )  # fmt: skip
        if min(self.running, running) < 1.0 or look.output_tokens <= 0.0:
            return after
        together = max(1.0, 0.5 * (self.running + running) - 0.5 * (_sum(self.unfirst) + _sum(unfirst)))
        work = np.array([look.output_tokens / together, look.output_tokens, look.prompt_tokens])
        return after._learnt(max(row, 0), work, span_s, power_w)

    def power_w(
        self, slowness: FloatArray, idle_w: FloatArray | None, draws: tuple[float, ...] | None
    ) -> FloatArray | None:
        """Return the power expected at each setting at the load of now [W]: [setting]; None before anything is known.

        slowness: [setting, 2] of generation and of prompts; draws: [setting] as known before, in any unit.
        """
        _, joules, known_s = self.busy.T
        if known_s.sum() < _LEAST_S:
            return None
        step_s, more_s, prompt_s = self._times_s(slowness).T
        busy_w = _filled(known_s, joules, draws)
        idle = 0.25 * busy_w[0] * np.ones(len(busy_w)) if idle_w is None else idle_w
        share = np.minimum(0.9, prompt_s * self.prompt_hz)
        together = np.ones(len(busy_w))
        for _ in range(30):
            inside = together / -np.expm1(-together)
            together = np.maximum(self.output_hz * (step_s + more_s * inside) / (1.0 - share), 1e-9)
        away = np.exp(-together - share)
        power_w: FloatArray = idle * away + busy_w * (1.0 - away)
        return power_w

    def wait_s(self, slowness: FloatArray, setting: int, now_s: float) -> float:
        """Return how long the requests without a first token take to get theirs at a setting, about [s]: as long as so
        many usual prompts take, or as long again as the first of them has waited, which then is no usual one."""
        if not self.unfirst or self.arrivals_hz <= 0.0 or self.busy[:, 0].sum() < _LEAST_S:
            return 0.0
        prompts = _sum(self.unfirst) * self.prompt_hz / self.arrivals_hz
        usual_s = float(prompts * self._times_s(slowness)[max(setting, 0), 2]) * _INTERLEAVED
        return max(usual_s, now_s - self.unfirst[0][0])

    def crowded(self, times: float) -> bool:
        """Tell whether more than ``times`` as many requests run together as of late, beyond what chance does, and more
        than have shown to have room.

        They fill the memory that a server has for requests; once it is full those that come wait for one to end.
        """
        usual = times * self.inside + _CHANCE * (1.0 + math.sqrt(self.inside))
        return bool(self.busy[:, 0].sum() >= _LEAST_S and self.running > max(usual, self.roomy + 1.0))

    def _learnt(self, row: int, done: FloatArray, span_s: float, power_w: float | None) -> Phases:
        keep = _KEEP**span_s
        gram, work, busy = keep * self.gram, keep * self.work, keep * self.busy
        gram[row] += np.outer(done, done) / span_s
        work[row] += done
        known_s = 0.0 if power_w is None else span_s
        busy[row] += (span_s, known_s * (power_w or 0.0), known_s)
        return replace(self, gram=gram, work=work, busy=busy)

    def _times_s(self, slowness: FloatArray) -> FloatArray:
        """Return the seconds of a step, of a request more in it, of a prompt token: [setting, 3]."""
        each = np.column_stack([slowness[:, 0], slowness[:, 0], slowness[:, 1]])
        factors, times_s = np.ones(len(each)), np.zeros(3)
        for _ in range(3):
            scaled = factors[:, None] * each
            whole = np.einsum("si,sij,sj->ij", scaled, self.gram, scaled)
            scale = np.sqrt(np.maximum(np.diag(whole), 1e-12))
            target = (scaled * self.work).sum(axis=0)
            even = whole / np.outer(scale, scale) + 1e-3 * np.eye(3)
            times_s = nnls(even, target / scale)[0] / scale
            before = 1.0
            for row, (span_s, *_) in enumerate(self.busy):
                due_s = float((each[row] * self.work[row]) @ times_s)
                before = (float(span_s) + _PRIOR_S * before) / (due_s + _PRIOR_S)
                factors[row] = before
        found: FloatArray = factors[:, None] * each * times_s
        return found


def _sum(came: Sequence[tuple[float, float]]) -> float:
    return sum(count for _, count in came)


def _latest(came: Sequence[tuple[float, float]], left: float) -> tuple[tuple[float, float], ...]:
    """Return those of them that came last: ``left`` in all."""
    found: list[tuple[float, float]] = []
    for at_s, count in reversed(came):
        count = min(count, left)
        if count <= 0.0:
            continue
        found.append((at_s, count))
        left -= count
    return tuple(reversed(found))


def _filled(seconds: FloatArray, joules: FloatArray, draws: tuple[float, ...] | None) -> FloatArray:
    """Return the busy power at each setting; one that was not tried draws that much less than its faster neighbour as
    is known before, or else a little."""
    steps = [1.0, *([_CHEAPER] * (len(seconds) - 1))]
    if draws is not None:
        steps = [1.0, *(slow / fast for fast, slow in pairwise(draws))]
    found = np.zeros(len(seconds))
    first = int(np.flatnonzero(seconds > 0.0)[0])
    before = float(joules[first] / seconds[first]) / math.prod(steps[: first + 1])
    for row, step in enumerate(steps):
        before = float(joules[row] + 0.5 * step * before) / float(seconds[row] + 0.5)
        found[row] = before
    return found
