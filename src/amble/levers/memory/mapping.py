"""Tensors with their tolerable error rates, and memory partitions → a mapping that needs the least energy.

`algorithm_1` follows EDEN (Koppula et al., 2019): tensors from least to most tolerant, each to the partition with room
that moves it with the least energy within its limit; a partition keeps the setting of its first, least tolerant tenant.
What is best of several settings the paper's summaries leave open; that opening a partition costs energy, too, the
algorithm does not see. `greedy` is the same but for that. `assign` is the whole problem as one mixed integer programme:
each tensor has a place, each partition one setting, nothing overflows and no tenant has more errors than it bears.
Holding a partition costs energy once it has a tenant; empty ones belong to others and count nowhere. HiGHS solves it,
or gives its best mapping and a lower bound when time is up; the result is never worse than those of the other two.
`verified` hands a mapping over only after it was shown on data.

Letters: T tensors, P partitions, S settings; x[t, p, s] place, y[p, s] setting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from amble.core.errors import Refused
from amble.levers.memory.partitions import DramPlan, Partition, Placed, Setting, Shown, Stored

__all__ = ["algorithm_1", "assign", "greedy", "verified"]

Floats = NDArray[np.float64]
Choice = dict[str, tuple[int, int]]
"""Tensor → (partition, setting)."""

_ROUNDING = 1e-9  # relative; sums in another order differ by less


def algorithm_1(tensors: Sequence[Stored], partitions: Sequence[Partition]) -> DramPlan:
    """Map as EDEN does; Refused where the partitions are too small."""
    _check(tensors, partitions)
    choice = _one_by_one(tensors, partitions, opening=False)
    return _plan(tensors, partitions, choice, bound_j=0.0, method="algorithm 1")


def greedy(tensors: Sequence[Stored], partitions: Sequence[Partition]) -> DramPlan:
    """Map as `algorithm_1` does, but open partitions only where that pays; Refused where they are too small."""
    _check(tensors, partitions)
    return _plan(tensors, partitions, _one_by_one(tensors, partitions, opening=True), bound_j=0.0, method="greedy")


def assign(
    tensors: Sequence[Stored],
    partitions: Sequence[Partition],
    *,
    time_limit_s: float = 10.0,
    least_saved_s: float = 0.0,
) -> DramPlan:
    """Map with the least energy; Refused where the partitions are too small or ``least_saved_s`` cannot be saved.

    Of mappings that need the same the simplest, which other systems are likely to share: then one proof serves all.
    """
    _check(tensors, partitions)
    programme = _Programme.of(tensors, partitions, least_saved_s)
    found = programme.solve(time_limit_s)
    plans = [] if found.choice is None else [_plan(tensors, partitions, found.choice, found.bound_j, found.method)]
    refused = Refused(f"no mapping within the room and the rates borne saves {least_saved_s:g} s; ask for less time")
    for simple in (greedy, algorithm_1):
        try:
            plan = simple(tensors, partitions)
        except Refused as error:
            refused = refused if least_saved_s else error
            continue
        if plan.saved_s >= least_saved_s:
            plans.append(replace(plan, lower_bound_j=min(found.bound_j, plan.energy_j)))
    if not plans:
        raise refused
    least_j = min(plan.energy_j for plan in plans)
    alike = [plan for plan in plans if plan.energy_j <= least_j * (1.0 + _ROUNDING)]
    return replace(alike[-1], method=alike[0].method)  # the programme's, since it showed that none needs less


def verified(
    plan: Callable[[Sequence[Stored]], DramPlan],
    tensors: Sequence[Stored],
    verify: Callable[[DramPlan, int], Shown],
    *,
    blame: Callable[[DramPlan, Shown], str | None] = lambda plan, shown: None,
    shrink: float = 0.3,
    rounds: int = 8,
) -> DramPlan:
    """Plan, and show the mapping on data; where that fails, plan again within ``shrink`` of the rates it had.

    ``verify`` tells of a mapping, and how many failed before it, whether it keeps its accuracy. In the first half of
    the rounds only the tensor to ``blame`` for a failure is held to less, then (or where none is) all of them. Refused
    when no round passes, or what is left saves nothing: what cannot be shown is not delivered.
    """
    said, tighter = "", list(tensors)
    for turn in range(rounds):
        made = plan(tighter)
        if made.saving <= _ROUNDING:
            break  # all at its ratings, which needs no proof and is no mapping to deliver
        shown = verify(made, turn)
        said = shown.said
        if shown.kept:
            limits = {each.name: each.most_ber for each in tighter}
            return replace(made, verified=said, proof=shown.proof, limits=limits)
        had = {each.tensor: each.ber for each in made.placed}
        guilty = blame(made, shown) if turn < rounds // 2 else None
        tighter = [
            replace(each, most_ber=shrink * min(each.most_ber, had[each.name])) if guilty in (None, each.name) else each
            for each in tighter
        ]
    why = f"kept its accuracy on data in {turn + 1} rounds ({said})" if said else "saves energy within the rates borne"
    raise Refused(f"no mapping {why}; allow more loss, or retrain")


@dataclass(frozen=True, slots=True)
class _Found:
    choice: Choice | None
    bound_j: float
    method: str


@dataclass(frozen=True, slots=True, eq=False)
class _Programme:
    """The variables that limits leave: columns of x as (t, p, s), then those of y as (p, s)."""

    tensors: Sequence[Stored]
    partitions: Sequence[Partition]
    places: list[tuple[int, int, int]]
    settings: list[tuple[int, int]]
    least_saved_s: float

    @classmethod
    def of(cls, tensors: Sequence[Stored], partitions: Sequence[Partition], least_saved_s: float) -> _Programme:
        settings = [(p, s) for p, each in enumerate(partitions) for s in range(len(each.settings))]
        places = [
            (t, p, s)
            for t, tensor in enumerate(tensors)
            for p, s in settings
            if partitions[p].settings[s].ber <= tensor.most_ber and tensor.size_bytes <= partitions[p].size_bytes
        ]
        return cls(tensors, partitions, places, settings, least_saved_s)

    def solve(self, time_limit_s: float) -> _Found:
        """Return the best mapping found in the time, and a bound that no mapping beats."""
        costs = [_moved_j(self.tensors[t], self.partitions[p].settings[s]) for t, p, s in self.places]
        costs += [self.partitions[p].settings[s].held_j for p, s in self.settings]
        scale = max(max(np.abs(costs)), 1e-300)
        result = milp(
            np.array(costs) / scale,
            constraints=self._constraints(),
            integrality=np.ones(len(costs)),
            bounds=Bounds(0, 1),
            options={"time_limit": time_limit_s, "mip_rel_gap": 1e-6},
        )
        bound = result.get("mip_dual_bound")
        bound_j = 0.0 if bound is None or not np.isfinite(bound) else float(bound) * scale
        if result.x is None:
            return _Found(None, bound_j, "none")
        chosen = {
            self.tensors[t].name: (p, s) for column, (t, p, s) in enumerate(self.places) if result.x[column] > 0.5
        }
        return _Found(chosen, bound_j, "exact" if result.status == 0 else "best in time")

    def _constraints(self) -> list[LinearConstraint]:
        """One place a tensor; at most one setting a partition; tenants at it, and together within its room."""
        num_places, num_settings = len(self.places), len(self.settings)
        width = num_places + num_settings
        setting_at = {pair: num_places + index for index, pair in enumerate(self.settings)}
        columns = np.arange(num_places)
        tensor = np.array([t for t, _, _ in self.places])
        home = np.array([setting_at[p, s] for _, p, s in self.places])
        sizes = np.array([self.tensors[t].size_bytes for t, _, _ in self.places], dtype=np.float64)
        needed = sum(each.size_bytes for each in self.tensors)
        rooms = np.array([float(min(self.partitions[p].size_bytes, needed)) for p, _ in self.settings])
        unit = min(each.size_bytes for each in self.tensors)  # so that no byte is within the solver's tolerance
        at = np.arange(num_settings)
        one = _rows(tensor, columns, np.ones(num_places), (len(self.tensors), width))
        partition = np.array([p for p, _ in self.settings])
        single = _rows(partition, num_places + at, np.ones(num_settings), (len(self.partitions), width))
        room = _rows(
            np.concatenate([home - num_places, at]),
            np.concatenate([columns, num_places + at]),
            np.concatenate([sizes / unit, -rooms / unit]),
            (num_settings, width),
        )
        follows = _rows(
            np.concatenate([columns, columns]),
            np.concatenate([columns, home]),
            np.concatenate([np.ones(num_places), -np.ones(num_places)]),
            (num_places, width),
        )
        made = [
            LinearConstraint(one, 1, 1),
            LinearConstraint(single, 0, 1),
            LinearConstraint(room, -np.inf, 0),
            LinearConstraint(follows, -np.inf, 0),
        ]
        if self.least_saved_s > 0.0:
            saved = [_saved_s(self.tensors[t], self.partitions[p], s) for t, p, s in self.places]
            row = _rows(np.zeros(num_places, dtype=np.int64), columns, np.array(saved), (1, width))
            made.append(LinearConstraint(row, self.least_saved_s, np.inf))
        return made


def _rows(rows: NDArray[np.int64], columns: NDArray[np.int64], values: Floats, shape: tuple[int, int]) -> coo_array:
    return coo_array((values, (rows, columns)), shape=shape).tocsr()


def _one_by_one(tensors: Sequence[Stored], partitions: Sequence[Partition], *, opening: bool) -> Choice:
    """Return where each tensor goes, least tolerant first; ``opening``: what opening a partition costs is counted.

    Refused when a tensor finds no room.
    """
    room = [each.size_bytes for each in partitions]
    held: dict[int, int] = {}
    choice: Choice = {}
    for tensor in sorted(tensors, key=lambda each: (each.most_ber, -each.size_bytes)):
        offers = [
            (
                _moved_j(tensor, at := partitions[p].settings[s]) + (at.held_j if opening and p not in held else 0.0),
                p,
                s,
            )
            for p in range(len(partitions))
            if room[p] >= tensor.size_bytes
            for s in [held.get(p, _strongest(tensor, partitions[p]))]
        ]
        if not offers:
            raise Refused(
                f"no partition has the {tensor.size_bytes} bytes left that {tensor.name} needs; give larger partitions"
            )
        _, p, s = min(offers)
        choice[tensor.name], held[p] = (p, s), s
        room[p] -= tensor.size_bytes
    return choice


def _strongest(tensor: Stored, partition: Partition) -> int:
    """Return the cheapest setting whose error rate the tensor bears; the nominal one always is borne."""
    allowed = [s for s, each in enumerate(partition.settings) if each.ber <= tensor.most_ber]
    return min(allowed, key=lambda s: partition.settings[s].held_j + _moved_j(tensor, partition.settings[s]))


def _plan(
    tensors: Sequence[Stored], partitions: Sequence[Partition], choice: Choice, bound_j: float, method: str
) -> DramPlan:
    """Lay tensors out one after the other, and add up."""
    settings = dict(choice.values())
    ends = dict.fromkeys(settings, 0)
    placed = []
    for tensor in tensors:
        p, s = choice[tensor.name]
        placed.append(Placed(tensor.name, partitions[p].name, 8 * ends[p], partitions[p].settings[s].ber))
        ends[p] += tensor.size_bytes
    energy_j = sum(partitions[p].settings[s].held_j for p, s in settings.items())
    energy_j += sum(_moved_j(each, partitions[p].settings[s]) for each in tensors for p, s in [choice[each.name]])
    return DramPlan(
        placed=tuple(placed),
        settings={partitions[p].name: partitions[p].settings[s].point for p, s in sorted(settings.items())},
        energy_j=energy_j,
        nominal_j=_nominal_j(tensors, partitions),
        lower_bound_j=min(bound_j, energy_j),
        saved_s=sum(_saved_s(each, partitions[p], s) for each in tensors for p, s in [choice[each.name]]),
        method=method,
    )


def _nominal_j(tensors: Sequence[Stored], partitions: Sequence[Partition]) -> float:
    """Return the energy at ratings: tensors, largest first, each into the first partition with room."""
    at_ratings = [each.settings[0] for each in partitions]
    room, energy_j, opened = [each.size_bytes for each in partitions], 0.0, set[int]()
    for tensor in sorted(tensors, key=lambda each: -each.size_bytes):
        p = next((p for p, left in enumerate(room) if left >= tensor.size_bytes), 0)
        room[p] -= tensor.size_bytes
        opened.add(p)
        energy_j += _moved_j(tensor, at_ratings[p])
    return energy_j + sum(at_ratings[p].held_j for p in opened)


def _moved_j(tensor: Stored, setting: Setting) -> float:
    return tensor.read_bytes * setting.read_j + tensor.written_bytes * setting.written_j


def _saved_s(tensor: Stored, partition: Partition, setting: int) -> float:
    return tensor.read_bytes * (partition.settings[0].read_s - partition.settings[setting].read_s)


def _check(tensors: Sequence[Stored], partitions: Sequence[Partition]) -> None:
    if not tensors or not partitions:
        raise ValueError("a mapping needs tensors and partitions")
    if len({each.name for each in tensors}) != len(tensors) or len({each.name for each in partitions}) != len(
        partitions
    ):
        raise ValueError("tensors, and partitions, need names of their own")
    needed, room = sum(each.size_bytes for each in tensors), sum(each.size_bytes for each in partitions)
    if needed > room:
        raise Refused(f"the tensors take {needed} bytes and the partitions hold {room}; give more or larger partitions")
    largest = max(each.size_bytes for each in tensors)
    if largest > max(each.size_bytes for each in partitions):
        raise Refused(f"a tensor of {largest} bytes fits no partition; give a larger one")
