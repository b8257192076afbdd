"""Requests and the devices' queues -> who serves what: the device that can finish in time for the least energy.

Pure functions. `choose` is for one request; `allot` for many at once that share a deadline, and comes to the same as
choosing one after the other. `level` and `turns` are what is done today: least loaded, and round-robin.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from amble.core.ports import FloatArray
from amble.services.cluster.filling import IntArray

__all__ = ["Choice", "Queues", "allot", "choose", "level", "turns"]


class Queues(NamedTuple):
    """By device: when [s] it is done with what waits, how long [s] a row takes then, and what energy [J] it adds.

    A device that takes no work has a ``row_s`` of infinity.
    """

    free_s: FloatArray
    row_s: FloatArray
    row_j: FloatArray


class Choice(NamedTuple):
    """The device for a request, and when it finishes there [s]; None where no device can in time."""

    device: int | None
    finish_s: float


def choose(queues: Queues, now_s: float, due_s: float, rows: int = 1) -> Choice:
    """Return the device that finishes by ``due_s`` for the least energy, of equals the one that finishes first.

    Where none can, ``finish_s`` says when the quickest would.
    """
    finish_s = np.maximum(queues.free_s, now_s) + rows * queues.row_s
    in_time = finish_s <= due_s
    if not in_time.any():
        return Choice(None, float(finish_s.min()))
    cost_j = np.where(in_time, queues.row_j, np.inf)
    cheapest = np.flatnonzero(cost_j == cost_j.min())
    best = int(cheapest[np.argmin(finish_s[cheapest])])
    return Choice(best, float(finish_s[best]))


def allot(count: float, room: FloatArray, row_j: FloatArray) -> FloatArray:
    """Return how many of ``count`` rows each device takes: the cheapest first, each up to its ``room`` of rows in time.

    Devices of equal cost share in proportion to their room. What no device has room for is not handed out.
    """
    costs, group = np.unique(row_j, return_inverse=True)
    rooms = np.bincount(group, weights=room, minlength=len(costs))
    before = np.concatenate([[0.0], np.cumsum(rooms)[:-1]])
    taken = np.clip(count - before, 0.0, rooms)
    share = np.divide(taken, rooms, out=np.zeros_like(rooms), where=rooms > 0)
    return np.asarray(room * share[group])


def level(count: float, waiting: FloatArray, rate_hz: FloatArray) -> FloatArray:
    """Return how many of ``count`` rows each device takes where each goes to the one with the shortest wait."""
    able = np.flatnonzero(rate_hz > 0)
    taken = np.zeros(len(waiting))
    if not len(able):
        return taken
    waits_s = waiting[able] / rate_hz[able]
    order = np.argsort(waits_s, kind="stable")
    rates, waits = np.cumsum(rate_hz[able][order]), waits_s[order]
    needs = rates * waits - np.cumsum(waiting[able][order])  # rows until the wait of this one is everyone's before it
    last = max(0, int(np.searchsorted(needs, count, side="right")) - 1)
    wait_s = waits[last] + (count - needs[last]) / rates[last]
    taken[able] = np.maximum(0.0, wait_s * rate_hz[able] - waiting[able])
    return taken


def turns(count: int, able: IntArray, num: int, start: int) -> FloatArray:
    """Return how many of ``count`` rows each of ``num`` devices takes in turn, of those ``able``, from ``start`` on."""
    taken = np.zeros(num)
    if len(able):
        each, more = divmod(count, len(able))
        taken[able] = each
        taken[able[(start + np.arange(more)) % len(able)]] += 1
    return taken
