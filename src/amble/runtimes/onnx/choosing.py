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
_MOST_ROUNDS = 45
_SURE = 3.0  # standard errors between the quickest and each other way
_ALIKE = 0.005  # ways that differ by less are alike
_ROUND_S = 0.03
_MOST_RUNS = 200


def quickest(
    path: Path, ways: Sequence[Execution], *, batch: int = 1, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Execution:
    """Return the way whose run is shortest, by the median of rounds; one that cannot run the network is left out.

    Rounds go on until it is sure which, or that the ways are alike, or the rounds are 45. Refused with the reason of
    the first where none can.
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
    times_s = compared(path, usable, batch=batch, shapes=shapes, enough=is_sure)
    return usable[int(np.argmin(np.median(times_s, axis=0)))]


def is_sure(times_s: FloatArray) -> bool:
    """Tell whether rounds say which way is quickest, or that others are as quick. times_s: [round, way].

    Ways are compared round by round, since what slows one down mostly slows all; the standard error is that of a
    median, from the median deviation.
    """
    if len(times_s) < _ROUNDS:
        return False
    quickest = int(np.argmin(np.median(times_s, axis=0)))
    others = np.delete(times_s, quickest, axis=1)
    ratios = np.log(others / times_s[:, [quickest]])
    middle = np.median(ratios, axis=0)
    error = 1.25 * 1.48 * np.median(np.abs(ratios - middle), axis=0) / np.sqrt(len(times_s))
    return bool(np.all((middle > _SURE * error) | (np.abs(middle) + _SURE * error < _ALIKE)))


def compared(
    path: Path,
    ways: Sequence[Execution],
    *,
    batch: int = 1,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    num_rounds: int = _MOST_ROUNDS,
    enough: Callable[[FloatArray], bool] = lambda times_s: False,
) -> FloatArray:
    """Time a run by each way, in rounds whose order changes → the fast quartile of each round [round, way] [s].

    There are ``num_rounds`` at most; ``enough`` looks at those so far.
    """
    works = [_opened(path, way, batch, shapes) for way in ways]
    firsts_s = [settle(work, now_s_of(way)) for work, way in zip(works, ways, strict=True)]
    runs = [int(np.clip(_ROUND_S / max(first_s, 1e-6), 3, _MOST_RUNS)) for first_s in firsts_s]
    times_s = np.empty((num_rounds, len(ways)))
    for row in range(num_rounds):
        for place in range(len(ways)):
            at = (row + place) % len(ways)
            taken_s = [_timed_s(works[at], now_s_of(ways[at])) for _ in range(runs[at])]
            times_s[row, at] = np.quantile(taken_s, 0.25)
        if enough(times_s[: row + 1]):
            return times_s[: row + 1]
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
