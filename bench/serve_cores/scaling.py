"""Times of a request's stages, as measured → the answers a second of many cores, simulated.

A closed loop of clients. A request is parsed by its front, computed by an engine, and written by its front. There is an
engine for each core, and as many fronts as their share of the work asks for; each does one thing at a time, on whatever
core is free, and fronts go first. A stage that has begun is not interrupted. What the memory behind many cores does to
a network is not in it: the bare network's rate grows with the cores.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass

__all__ = ["Stages", "fronts_for", "simulated_hz"]

CLIENTS = 8  # for each core
ANSWERS = 400  # for each core
ENGINE = -1


@dataclass(frozen=True, slots=True)
class Stages:
    """What a request takes of a front and of an engine [s]; half of the former is before, half after the network."""

    front_s: float
    engine_s: float


def fronts_for(cores: int, stages: Stages) -> int:
    """Return how many fronts so many cores have: so that each is busy for half of its time."""
    return max(1, math.ceil(2 * cores * stages.front_s / (stages.front_s + stages.engine_s)))


def simulated_hz(cores: int, stages: Stages) -> float:
    """Return the answers a second of a closed loop."""
    fronts = fronts_for(cores, stages)
    waiting: list[deque[tuple[int, int]]] = [deque() for _ in range(fronts + 1)]  # client and stage; the last: engines
    busy, running, free = set[int](), list[tuple[float, int, int, int]](), cores
    for client in range(CLIENTS * cores):
        waiting[client % fronts].append((client, 0))
    answered, now_s = 0, 0.0
    while answered < ANSWERS * cores:
        for place in [*range(fronts), ENGINE]:
            while free and waiting[place] and place not in busy:
                client, stage = waiting[place].popleft()
                took_s = stages.engine_s if place == ENGINE else stages.front_s / 2
                heapq.heappush(running, (now_s + took_s, client, stage, place))
                free -= 1
                if place != ENGINE:
                    busy.add(place)
        now_s, client, stage, place = heapq.heappop(running)
        busy.discard(place)
        free += 1
        answered += stage == 2
        after = (stage + 1) % 3
        waiting[ENGINE if after == 1 else client % fronts].append((client, after))
    return answered / now_s
