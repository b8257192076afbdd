"""A network and several ways to run it here → how long a run takes by each, in turn, and so the quickest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from amble.core.errors import Refused
from amble.core.ports import FloatArray
from amble.runtimes.onnx.dissecting import settle
from amble.runtimes.onnx.execution import Execution, now_s_of, pinned
from amble.runtimes.onnx.network import Network

__all__ = ["compared", "quickest"]

_ROUNDS = 9
_ROUND_S = 0.03
_MOST_RUNS = 200


def quickest(
    path: Path, ways: Sequence[Execution], *, batch: int = 1, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Execution:
    """Return the way whose run is shortest, by the median of rounds; one that cannot run the network is left out.

    Refused with the reason of the first where none can.
    """
    usable: list[Execution] = []
    refusals: list[Refused] = []
    for way in ways:
        try:
            _opened(path, way, batch, shapes)()
        except Refused as error:
            refusals.append(error)
        else:
            usable.append(way)
    if not usable:
        raise refusals[0]
    if len(usable) == 1:
        return usable[0]
    return usable[int(np.argmin(np.median(compared(path, usable, batch=batch, shapes=shapes), axis=0)))]


def compared(
    path: Path,
    ways: Sequence[Execution],
    *,
    batch: int = 1,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    num_rounds: int = _ROUNDS,
) -> FloatArray:
    """Time a run by each way, in rounds whose order changes → the fast quartile of each round [round, way] [s]."""
    works = [_opened(path, way, batch, shapes) for way in ways]
    firsts_s = [settle(work, now_s_of(way)) for work, way in zip(works, ways, strict=True)]
    runs = [int(np.clip(_ROUND_S / max(first_s, 1e-6), 3, _MOST_RUNS)) for first_s in firsts_s]
    times_s = np.empty((num_rounds, len(ways)))
    for row in range(num_rounds):
        for place in range(len(ways)):
            at = (row + place) % len(ways)
            taken_s = [_timed_s(works[at], now_s_of(ways[at])) for _ in range(runs[at])]
            times_s[row, at] = np.quantile(taken_s, 0.25)
    return times_s


def _opened(
    path: Path, way: Execution, batch: int, shapes: Mapping[str, tuple[int, ...]] | None
) -> Callable[[], object]:
    network = Network.open(path, batch, dict(shapes or {}), way)
    session, feed = way.open(network.path, fused=way.fused), dict(network.feed)

    def run() -> None:
        with pinned(way.cpus):
            session.run(None, feed)

    return run


def _timed_s(work: Callable[[], object], now_s: Callable[[], float]) -> float:
    begin_s = now_s()
    work()
    return now_s() - begin_s
