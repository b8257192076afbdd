"""Servers of virtual time, with their metrics pages: an engine of continuous batching, and one of classical batching.

Each is a device as well: its clock passes only in ``sleep``, its meter counts what its plant draws, its actuator sets
the plant's clocks, which act a settling time later. So the loop that governs a real server governs these, unchanged.

The engine: requests queue until the cache has room for them; a step of the engine takes up to ``chunk`` prompt tokens
of those admitted, and one output token of each that generates. The time of a step is that of its prompt tokens
(arithmetic) plus that of its generation (memory, and a little more for each request in it).

The batching server: whatever waits, up to the largest batch, is run together.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from amble.core.cost import Reading
from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.core.ports import Device, FloatArray, Runner
from amble.services.govern.objective import Objective

__all__ = ["Batcher", "BatchingPlant", "Engine", "EnginePlant", "Requests", "device_of"]

_TTFT_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0)
_ITL_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_LATENCY_S = tuple(round(0.001 * 1.25**step, 6) for step in range(40))


@dataclass(frozen=True, slots=True)
class Requests:
    """Arrivals [s] and, for a language model, prompt and output tokens: [request] each."""

    times_s: FloatArray
    prompts: FloatArray
    outputs: FloatArray

    @classmethod
    def plain(cls, times_s: FloatArray) -> Requests:
        """Return requests without tokens."""
        return cls(times_s, np.ones(len(times_s)), np.ones(len(times_s)))


@dataclass(frozen=True, slots=True)
class EnginePlant:
    """What a chip does with a language model at each setting, fastest first.

    prefill_s, decode_s, more_s, prefill_w, decode_w, idle_w: [setting] seconds a prompt token, a step, and for each
    request in it; watts.
    """

    settings: tuple[Clocks, ...]
    prefill_s: FloatArray
    decode_s: FloatArray
    more_s: FloatArray
    prefill_w: FloatArray
    decode_w: FloatArray
    idle_w: FloatArray


@dataclass(frozen=True, slots=True)
class BatchingPlant:
    """What a chip does with a network at each setting, fastest first. latency_s, power_w: [setting, batch - 1]."""

    settings: tuple[Clocks, ...]
    latency_s: FloatArray
    power_w: FloatArray
    idle_w: FloatArray


class _Plant(Protocol):
    @property
    def settings(self) -> tuple[Clocks, ...]: ...

    @property
    def idle_w(self) -> FloatArray: ...


class _Tally:
    """A histogram of a page, and what was really late."""

    def __init__(self, edges_s: Sequence[float], limit_s: float) -> None:
        self.edges_s = edges_s
        self.limit_s = limit_s
        self.counts = [0] * (len(edges_s) + 1)
        self.sum_s = 0.0
        self.late = 0
        self.total = 0

    def copied(self) -> _Tally:
        again = _Tally(self.edges_s, self.limit_s)
        again.counts, again.sum_s, again.late, again.total = list(self.counts), self.sum_s, self.late, self.total
        return again

    def add(self, latency_s: float, times: int = 1) -> None:
        self.counts[bisect_left(self.edges_s, latency_s)] += times
        self.sum_s += times * latency_s
        self.total += times
        self.late += times if latency_s > self.limit_s else 0

    def lines(self, name: str) -> list[str]:
        below, lines = 0, [f"# TYPE {name} histogram"]
        for edge_s, count in zip((*map(str, self.edges_s), "+Inf"), self.counts, strict=True):
            below += count
            lines.append(f'{name}_bucket{{le="{edge_s}",model_name="m"}} {below}')
        return [*lines, f'{name}_sum{{model_name="m"}} {self.sum_s}', f'{name}_count{{model_name="m"}} {below}']


class _Server:
    """Time, energy and clocks of a server; what it does in a step is its subclasses' business."""

    def __init__(self, plant: _Plant, requests: Requests, tallies: dict[str, _Tally], settle_s: float) -> None:
        self.plant = plant
        self.tallies = tallies
        self.finished = 0
        self.changes = 0
        self.refuses = False
        self._requests = requests
        self._times_s: list[float] = requests.times_s.tolist()  # Python's own numbers: they are read one by one
        self._idle_w: list[float] = plant.idle_w.tolist()
        self._next = 0
        self._at = 0
        self.busy_s = 0.0
        self._pending: tuple[float, int] | None = None
        self._settle_s = settle_s
        self._time_s = 0.0
        self._energy_j = 0.0

    def now_s(self) -> float:
        """Return the time [s]."""
        return self._time_s

    def sleep(self, duration_s: float) -> None:
        """Let time pass, and serve meanwhile."""
        until_s = self._time_s + duration_s
        while self._time_s < until_s:
            self._settle()
            self._admit()
            if not self._busy():
                arrival_s = self._times_s[self._next] if self._next < len(self._times_s) else np.inf
                change_s = self._pending[0] if self._pending else np.inf
                self._pass(min(until_s, arrival_s, change_s) - self._time_s, self._idle_w[self._at])
            else:
                before_s = self._time_s
                self._step()
                self.busy_s += self._time_s - before_s

    def read(self) -> Reading:
        """Return time and energy."""
        return Reading(self._time_s, self._energy_j)

    def available(self) -> tuple[Clocks, ...]:
        """Return the settings, slowest first."""
        return self.plant.settings[::-1]

    def current(self) -> Clocks:
        """Return the setting that runs."""
        self._settle()
        return self.plant.settings[self._at]

    def apply(self, clocks: Clocks) -> None:
        """Ask for a setting; it acts a settling time later."""
        if self.refuses or clocks not in self.plant.settings:
            raise Refused(f"the rehearsed card refuses {clocks}")
        self.changes += 1
        self._pending = (self._time_s + self._settle_s, self.plant.settings.index(clocks))

    def fork(self) -> Self:
        """Return the same server at the same moment, to go on by itself."""
        again = copy(self)
        again.tallies = {kind: each.copied() for kind, each in self.tallies.items()}
        again._queue(self)
        return again

    def _queue(self, other: Self) -> None:
        """Take over what waits at another server, so that it is served twice."""
        raise NotImplementedError

    def left(self) -> tuple[float, ...]:
        """Return the work that is inside: servers with the same go on alike."""
        raise NotImplementedError

    def _settle(self) -> None:
        if self._pending is not None and self._time_s >= self._pending[0] - 1e-12:
            self._at, self._pending = self._pending[1], None

    def _pass(self, duration_s: float, power_w: float) -> None:
        self._time_s += max(duration_s, 0.0)
        self._energy_j += max(duration_s, 0.0) * power_w

    def _admit(self) -> None:
        raise NotImplementedError

    def _busy(self) -> bool:
        raise NotImplementedError

    def _step(self) -> None:
        raise NotImplementedError


class Engine(_Server):
    """A language model's engine with a page like vLLM's; see the module's docstring."""

    def __init__(
        self,
        plant: EnginePlant,
        requests: Requests,
        objectives: Sequence[Objective],
        *,
        cache_tokens: int = 65536,
        chunk: int = 512,
        settle_s: float = 0.01,
    ) -> None:
        limits = {each.kind: each.limit_s for each in objectives}
        edges = {"ttft": _TTFT_S, "itl": _ITL_S, "latency": _TTFT_S}
        tallies = {kind: _Tally(edges[kind], limits.get(kind, np.inf)) for kind in edges}
        super().__init__(plant, requests, tallies, settle_s)
        self._engine = plant
        self._cache, self._chunk, self._used = cache_tokens, chunk, 0.0
        self._waiting: deque[int] = deque()
        self._prompts: deque[list[float]] = deque()  # [request, tokens left]
        self._running: list[tuple[int, int]] = []  # heap of (last step, request)
        self._steps = 0
        self.prompt_tokens = self.output_tokens = 0.0

    def page(self) -> str:
        """Return the metrics page."""
        names = {
            "ttft": "vllm:time_to_first_token_seconds",
            "itl": "vllm:inter_token_latency_seconds",
            "latency": "vllm:e2e_request_latency_seconds",
        }
        lines = [
            f'vllm:num_requests_running{{model_name="m"}} {len(self._running) + len(self._prompts)}',
            f'vllm:num_requests_waiting{{model_name="m"}} {len(self._waiting)}',
            f'vllm:request_success_total{{finished_reason="stop",model_name="m"}} {self.finished}',
            f'vllm:prompt_tokens_total{{model_name="m"}} {self.prompt_tokens}',
            f'vllm:generation_tokens_total{{model_name="m"}} {self.output_tokens}',
            f"process_time_seconds {self._time_s}",
        ]
        return "\n".join(lines + [line for kind, name in names.items() for line in self.tallies[kind].lines(name)])

    def _admit(self) -> None:
        asked = self._requests
        while self._next < len(self._times_s) and self._times_s[self._next] <= self._time_s:
            self._waiting.append(self._next)
            self._next += 1
        while self._waiting:
            size = float(asked.prompts[self._waiting[0]] + asked.outputs[self._waiting[0]])
            if self._used + size > self._cache and self._used > 0:
                break
            self._used += size
            request = self._waiting.popleft()
            self._prompts.append([request, float(asked.prompts[request])])

    def _busy(self) -> bool:
        return bool(self._prompts or self._running)

    def _queue(self, other: Self) -> None:
        self._waiting, self._running = deque(other._waiting), list(other._running)
        self._prompts = deque([list(each) for each in other._prompts])

    def left(self) -> tuple[float, ...]:
        """Return arrivals so far, prompt tokens left, requests and steps of those that generate."""
        prompts = sum(left for _, left in self._prompts)
        steps = sum(last - self._steps for last, _ in self._running)
        return (self._next, len(self._waiting), prompts, len(self._running), steps)

    def _step(self) -> None:
        at, plant = self._at, self._engine
        room, taken, through = float(self._chunk), 0.0, []
        while self._prompts and room > 0:
            part = min(room, self._prompts[0][1])
            self._prompts[0][1] -= part
            room, taken = room - part, taken + part
            if self._prompts[0][1] <= 0:
                through.append(int(self._prompts.popleft()[0]))
        generating = len(self._running)
        decode_s = float(plant.decode_s[at] + plant.more_s[at] * generating) if generating else 0.0
        prefill_s = float(plant.prefill_s[at]) * taken
        self._pass(decode_s, float(plant.decode_w[at]))
        self._pass(prefill_s, float(plant.prefill_w[at]))
        self._steps += 1
        self.prompt_tokens += taken
        self.output_tokens += generating + len(through)
        if generating:
            self.tallies["itl"].add(decode_s + prefill_s, generating)
        while self._running and self._running[0][0] <= self._steps:
            self._end(heapq.heappop(self._running)[1])
        for request in through:
            self.tallies["ttft"].add(self._time_s - self._times_s[request])
            more = int(self._requests.outputs[request]) - 1
            if more > 0:
                heapq.heappush(self._running, (self._steps + more, request))
            else:
                self._end(request)

    def _end(self, request: int) -> None:
        self._used -= float(self._requests.prompts[request] + self._requests.outputs[request])
        self.finished += 1
        self.tallies["latency"].add(self._time_s - self._times_s[request])


class Batcher(_Server):
    """A classical batching server with a page like amble's own."""

    def __init__(
        self, plant: BatchingPlant, requests: Requests, objectives: Sequence[Objective], *, settle_s: float = 0.01
    ) -> None:
        limits = {each.kind: each.limit_s for each in objectives}
        super().__init__(plant, requests, {"latency": _Tally(_LATENCY_S, limits.get("latency", np.inf))}, settle_s)
        self._latency_s: list[list[float]] = plant.latency_s.tolist()
        self._power_w: list[list[float]] = plant.power_w.tolist()
        self._waiting: deque[int] = deque()

    def page(self) -> str:
        """Return the metrics page."""
        lines = [
            'amble_build_info{version="0"} 1',
            f"nv_inference_pending_request_count {len(self._waiting)}",
            f'amble_requests_total{{outcome="met"}} {self.finished}',
            f"process_time_seconds {self._time_s}",
        ]
        return "\n".join(lines + self.tallies["latency"].lines("amble_request_duration_seconds"))

    def _admit(self) -> None:
        times_s = self._times_s
        while self._next < len(times_s) and times_s[self._next] <= self._time_s:
            self._waiting.append(self._next)
            self._next += 1

    def _busy(self) -> bool:
        return bool(self._waiting)

    def _queue(self, other: Self) -> None:
        self._waiting = deque(other._waiting)

    def left(self) -> tuple[float, ...]:
        """Return arrivals so far, and how many of them wait."""
        return (self._next, len(self._waiting))

    def _step(self) -> None:
        latency_s, power_w = self._latency_s[self._at], self._power_w[self._at]
        size = min(len(self._waiting), len(latency_s))
        self._pass(latency_s[size - 1], power_w[size - 1])
        self.finished += size
        tally = self.tallies["latency"]
        for _ in range(size):
            tally.add(self._time_s - self._times_s[self._waiting.popleft()])


def device_of(server: Engine | Batcher, runner: Runner, name: str = "rehearsed") -> Device:
    """Return a rehearsed server as the device it runs on."""
    return Device(name, server, server, server, runner, "rehearsed: energy and time are a plant's")
