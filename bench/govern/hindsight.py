"""The best path of settings with hindsight, by dynamic programming over the periods of a run, on the same servers.

A state is a server at the end of a period: what is inside, and when. Every setting is tried from every state kept, with
the arrivals that really come; of states that are alike (the same work inside, the same moment within ``grain_s``) the
cheapest is kept, and of those the ``width`` cheapest for what they have done: answers (or tokens) are worth what the
best state so far paid for its own, above idling. Some are kept by other worths, so that there is always one that waits
less, and one that spends less: a queue makes answers late only when it is too late to mend. A late answer costs
``late_j``. Where fewer than ``width`` states
differ and ``grain_s`` is nothing, on a server of whole batches, nothing is lost: the path is the best one. Else it is a
path that a governor with hindsight could have gone, and the best may be cheaper yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from amble.services.govern.objective import Objective
from amble.services.govern.rehearsal import Batcher, EnginePlant
from bench.govern.plants import Case, Server

__all__ = ["Path", "best_path"]

_WORTHS = (1.0, 0.0, 0.25, 0.5, 0.75, 1.5, 4.0, 16.0)  # of what was paid for an answer so far: states are kept by turns


@dataclass(frozen=True)
class Path:
    """Energy [J], shares late by objective, settings by period, and whether nothing was merged or left out."""

    energy_j: float
    late: tuple[float, ...]
    settings: tuple[int, ...]
    exact: bool


@dataclass(frozen=True)
class _Label:
    server: Server
    cost_j: float
    path: _Went | None


class _Went(NamedTuple):
    setting: int
    before: _Went | None


def best_path(
    case: Case, *, late_j: Sequence[float], width: int, grain_s: float, period_s: float | None = None
) -> Path:
    """Return the cheapest path found: its energy, and ``late_j`` for each late answer, by objective."""
    period_s = case.period_s if period_s is None else period_s
    labels, merged = [_Label(case.server(), 0.0, None)], False
    idle_w, worth_j = float(labels[0].server.plant.idle_w.min()), 0.0
    exact = isinstance(labels[0].server, Batcher)
    num = len(labels[0].server.plant.settings)
    for step in range(1, round(case.duration_s / period_s) + 1):
        tried = [
            _after(label, setting, step * period_s, late_j, case.objectives)
            for label in labels
            for setting in range(num)
        ]
        labels, merged = _kept(tried, width, grain_s, (idle_w, worth_j))
        exact = exact and not merged
        first = labels[0]
        worth_j = (_joules(first.server) - idle_w * first.server.now_s()) / max(1.0, _done(first.server))
    best = min(labels, key=lambda each: each.cost_j)
    late = tuple(
        best.server.tallies[each.kind].late / max(1, best.server.tallies[each.kind].total) for each in case.objectives
    )
    return Path(_joules(best.server), late, _settings(best), exact)


def _after(
    label: _Label, setting: int, until_s: float, late_j: Sequence[float], objectives: Sequence[Objective]
) -> _Label:
    server = label.server.fork()
    if label.path is None or setting != label.path.setting:
        server.apply(server.plant.settings[setting])
    server.sleep(max(0.0, until_s - server.now_s()))
    late = sum(server.tallies[each.kind].late * cost_j for each, cost_j in zip(objectives, late_j, strict=True))
    return _Label(server, _joules(server) + late, _Went(setting, label.path))


def _kept(tried: Sequence[_Label], width: int, grain_s: float, worth: tuple[float, float]) -> tuple[list[_Label], bool]:
    """Return the cheapest of those alike, at most ``width``, and whether any was lost that was not the same.

    worth: what idling takes [W], and what an answer or token is worth [J].
    """
    found: dict[tuple[float, ...], _Label] = {}
    lost = False
    for each in sorted(tried, key=lambda each: each.cost_j):
        now_s = each.server.now_s()
        moment = round(now_s / grain_s) if grain_s else now_s
        assert each.path is not None, "after a period"
        key = (
            *each.server.left(),
            moment,
            each.path.setting if grain_s == 0.0 else 0,
        )  # clocks act until a change does
        if key in found:
            lost = lost or grain_s > 0.0
        else:
            found[key] = each
    return _by_turns(list(found.values()), width, worth), lost or len(found) > width


def _by_turns(labels: list[_Label], width: int, worth: tuple[float, float]) -> list[_Label]:
    """Return at most ``width`` labels, the cheapest by each worth of what is done in turn; first the best by the worth
    of now."""
    idle_w, done_j = worth
    cost_j = [each.cost_j - idle_w * each.server.now_s() for each in labels]
    done = [done_j * _done(each.server) for each in labels]
    orders = [iter(sorted(range(len(labels)), key=lambda at: cost_j[at] - factor * done[at])) for factor in _WORTHS]
    chosen: dict[int, None] = {}
    while len(chosen) < min(width, len(labels)):
        for order in orders:
            at = next((each for each in order if each not in chosen), None)
            if at is not None and len(chosen) < width:
                chosen[at] = None
    return [labels[at] for at in chosen]


def _done(server: Server) -> float:
    """Return the work done: answers, or tokens, those of prompts for as much less as they take."""
    if isinstance(server, Batcher):
        return float(server.finished)
    assert isinstance(server.plant, EnginePlant), "a language model's engine"
    share = server.plant.prefill_s[0] / server.plant.decode_s[0]
    return float(server.output_tokens + share * server.prompt_tokens)


def _joules(server: Server) -> float:
    energy_j = server.read().energy_j
    assert energy_j is not None, "rehearsed servers have a meter"
    return energy_j


def _settings(label: _Label) -> tuple[int, ...]:
    found, went = [], label.path
    while went is not None:
        found.append(went.setting)
        went = went.before
    return tuple(reversed(found))
