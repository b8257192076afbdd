"""Network, StaircaseTable, budget → the width of every group at once: least importance lost within the budget.

Only right-hand edges of measured stairs are candidates. A layer's cost depends on the widths it reads and the one it
writes, so the choice is a shortest path through a trellis where layers follow each other, and its generalisation
(`elimination`) where residual sums tie layers together; coupled layers share one choice. The budget is priced by a
Lagrange multiplier: every price gives a lower bound on the importance that any choice among these candidates must lose
to keep the budget, by these prices. It bounds neither widths that are no candidates nor times that were mispredicted.
Exchanges of one or two groups then fill what the prices leave of the budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import Literal

import numpy as np

from amble.core.errors import Infeasible
from amble.core.ports import FloatArray
from amble.core.quantity import format_energy, format_time
from amble.levers.widths.elimination import Elimination
from amble.levers.widths.network import Group, Layer, Network, Widths
from amble.levers.widths.staircase import Axis, Staircase, StaircaseTable, shape_of, worth

__all__ = ["Chosen", "Knapsack", "Pricing", "Resource", "candidates", "choose", "knapsack"]

Resource = Literal["latency", "energy"]

_PRICES = 40
_MOST_CANDIDATES = 40
_MOST_PRICES = 60_000  # combinations that layers are priced at
_CLOSE = 1e-4
_REACH = 2  # candidates that an exchange goes up or down
_LEAST_GAIN = 1e-12


@dataclass(frozen=True)
class Pricing:
    """What a network costs at any widths, by its layers' staircases: seconds, or joules.

    Layers do not explain all: ``rest`` is what is left whatever the widths are (entering a run, what happens to its
    inputs), ``others`` what goes with the size of what layers write (additions, pooling), both today. ``scale`` is what
    layers take inside the whole network over what their staircases say.
    """

    network: Network
    table: StaircaseTable
    resource: Resource = "latency"
    rest: float = 0.0
    others: float = 0.0
    scale: float = 1.0

    @cached_property
    def staircases(self) -> Mapping[str, Staircase]:
        """Return each layer's staircase by its name."""
        return {each.name: self.table.of(shape_of(each, self.network)) for each in self.network.layers}

    @cached_property
    def _per_element(self) -> float:
        return self.others / sum(self._written(each, {}) for each in self.network.layers)

    def _written(self, layer: Layer, widths: Widths) -> int:
        return self.network.num_outputs(layer, widths) * prod(layer.output_size)

    def layer(self, layer: Layer, widths: Widths) -> float:
        """Return what one layer costs, with what follows it. ValueError for an energy that nobody metered."""
        return self.alone(layer, widths) + self._per_element * self._written(layer, widths)

    def alone(self, layer: Layer, widths: Widths) -> float:
        """Return what one layer costs by its staircase, inside the whole network."""
        staircase = self.staircases[layer.name]
        inputs, outputs = self.network.num_inputs(layer, widths), self.network.num_outputs(layer, widths)
        if self.resource == "latency":
            return self.scale * staircase.latency_s(inputs, outputs)
        energy_j = staircase.energy_j(inputs, outputs)
        if energy_j is None:
            raise ValueError(f"the energy of {layer.name} was not metered; budget the latency instead")
        return self.scale * energy_j

    def total(self, widths: Widths) -> float:
        """Return what the whole network costs."""
        return self.rest + sum(self.layer(each, widths) for each in self.network.layers)

    def around(self, group: Group, width: int, widths: Widths) -> float:
        """Return what the layers that touch a group cost, when it has this width and the others those."""
        changed = {**widths, group.name: width}
        touching = [each for each in self.network.layers if group.name in (*each.inputs, each.outputs)]
        return sum(self.layer(each, changed) for each in touching)

    def tolerance(self, group: Group) -> float:
        """Return by how much times must differ to count, from the noise of the layers that touch a group."""
        touching = [each for each in self.network.layers if group.name in (*each.inputs, each.outputs)]
        return max((self.staircases[each.name].tolerance for each in touching), default=0.01)


def candidates(pricing: Pricing, *, least_share: float = 0.0) -> dict[str, tuple[int, ...]]:
    """Return the widths of each group worth using: right-hand edges of the stairs of all layers that it touches.

    At least ``least_share`` of a group stays. Tolerance counts against the whole of these layers' costs.
    """
    return {group.name: _of(pricing, group, least_share) for group in pricing.network.groups}


def _of(pricing: Pricing, group: Group, least_share: float) -> tuple[int, ...]:
    places = {each for layer in pricing.network.layers for each in _edges(pricing, layer, group)}
    allowed = [each for each in group.allowed if each in places and each >= least_share * group.width]
    widths = sorted({*allowed, group.allowed[-1]})
    costs = [pricing.around(group, each, pricing.network.today) for each in widths]
    return _thinned(worth(widths, costs, pricing.tolerance(group)), _MOST_CANDIDATES)


def _edges(pricing: Pricing, layer: Layer, group: Group) -> Iterator[int]:
    """Return the widths of a group at which a layer's stairs end, or where it was measured if it has none."""
    staircase = pricing.staircases[layer.name]
    if layer.outputs == group.name:
        yield from (each * group.width // layer.num_outputs for each in _known(staircase, "outputs"))
    if group.name in layer.inputs and layer.kind != "depthwise":
        taken = pricing.network.taken(layer, group.name)
        others = layer.num_inputs - taken
        yield from ((each - others) * group.width // taken for each in _known(staircase, "inputs"))


def _known(staircase: Staircase, axis: Axis) -> set[int]:
    """Return the edges that were found along an axis; where there are no stairs every width that was measured."""
    edges = staircase.outputs.edges if axis == "outputs" else staircase.inputs.edges
    return set(edges) if len(edges) > 1 else {width for width, _ in staircase.line(axis)}


def _thinned(widths: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Keep so many candidates, the narrowest and the widest among them."""
    if len(widths) <= most:
        return widths
    return tuple(widths[int(at)] for at in np.linspace(0, len(widths) - 1, most).round())


@dataclass(frozen=True)
class Knapsack:
    """One candidate of each group into a budget: names of groups, their ``widths``, importance ``lost`` [candidate].

    ``scopes`` are the groups (by number, ascending) that a layer depends on, ``costs`` its costs over their candidates.
    """

    names: tuple[str, ...]
    widths: tuple[tuple[int, ...], ...]
    lost: tuple[FloatArray, ...]
    scopes: tuple[tuple[int, ...], ...]
    costs: tuple[FloatArray, ...]
    fixed: float

    def cost(self, choice: Sequence[int]) -> float:
        """Return the cost of a choice (a candidate's number for each group)."""
        layers = zip(self.scopes, self.costs, strict=True)
        return self.fixed + sum(float(cost[tuple(choice[v] for v in scope)]) for scope, cost in layers)

    def loss(self, choice: Sequence[int]) -> float:
        """Return the importance that a choice loses."""
        return sum(float(lost[at]) for lost, at in zip(self.lost, choice, strict=True))

    def named(self, choice: Sequence[int]) -> dict[str, int]:
        """Return the widths of a choice by group."""
        return {name: widths[at] for name, widths, at in zip(self.names, self.widths, choice, strict=True)}


@dataclass(frozen=True, slots=True)
class Chosen:
    """Widths, what they cost and lose.

    ``bound``: at least so much is lost by any choice among the same candidates whose predicted cost keeps the budget.
    """

    widths: dict[str, int]
    cost: float
    lost: float
    bound: float

    @property
    def gap(self) -> float:
        """Return the share of this loss by which another choice among the same candidates may at most be better."""
        return max(0.0, self.lost - self.bound) / max(self.lost, _LEAST_GAIN)


def knapsack(pricing: Pricing, widths: Mapping[str, tuple[int, ...]]) -> Knapsack:
    """Price every layer at every combination of the candidates it depends on.

    Where concatenations make layers depend on many groups, candidates are thinned until tables of them can be kept.
    """
    most = _MOST_CANDIDATES
    while not _fits(pricing.network, widths):
        most = most * 2 // 3
        widths = {name: _thinned(each, most) for name, each in widths.items()}
    return _packed(pricing, widths)


def _scopes(network: Network) -> list[tuple[int, ...]]:
    numbers = {each.name: number for number, each in enumerate(network.groups)}
    groups = [{*each.inputs, *((each.outputs,) if each.outputs else ())} for each in network.layers]
    return [tuple(sorted(numbers[name] for name in each)) for each in groups]


def _fits(network: Network, widths: Mapping[str, Sequence[int]]) -> bool:
    sizes = [len(widths[each.name]) for each in network.groups]
    scopes = [each for each in _scopes(network) if each]
    if max(sizes, default=1) <= 2:
        return True
    if sum(prod(sizes[each] for each in scope) for scope in scopes) > _MOST_PRICES:
        return False
    try:
        Elimination(sizes, scopes)
    except ValueError:
        return False
    return True


def _packed(pricing: Pricing, widths: Mapping[str, Sequence[int]]) -> Knapsack:
    network = pricing.network
    names = tuple(each.name for each in network.groups)
    lost = tuple(np.array([group.lost()[w] for w in widths[group.name]]) for group in network.groups)
    scopes, costs, fixed = [], [], pricing.rest
    for layer, scope in zip(network.layers, _scopes(network), strict=True):
        if not scope:
            fixed += pricing.layer(layer, {})
            continue
        axes = [widths[names[each]] for each in scope]
        prices = [pricing.layer(layer, dict(zip((names[v] for v in scope), at, strict=True))) for at in product(*axes)]
        scopes.append(scope)
        costs.append(np.array(prices).reshape([len(axis) for axis in axes]))
    return Knapsack(names, tuple(tuple(widths[n]) for n in names), lost, tuple(scopes), tuple(costs), fixed)


def choose(asked: Knapsack, budget: float, *, resource: Resource = "latency") -> Chosen:
    """Return the widths that lose least within the budget [s, or J]; Infeasible with the least that is possible.

    ValueError where layers depend on too many widths at once for tables of them.
    """
    order = Elimination([len(each) for each in asked.widths], [*_single(asked), *asked.scopes])
    least, cheapest = _solve(asked, order, np.inf)
    if least > budget:
        say = format_time if resource == "latency" else format_energy
        raise Infeasible(
            f"no widths reach {say(budget)}: the narrowest worth using are predicted to take {say(least)}; "
            f"ask for at least that",
            fastest_s=least,
        )
    found, bound = _priced(asked, order, budget, cheapest)
    best = min((_exchanged(asked, each, budget) for each in found), key=asked.loss)
    return Chosen(asked.named(best), asked.cost(best), asked.loss(best), min(bound, asked.loss(best)))


def _single(asked: Knapsack) -> list[tuple[int, ...]]:
    return [(each,) for each in range(len(asked.names))]


def _solve(asked: Knapsack, order: Elimination, price: float) -> tuple[float, tuple[int, ...]]:
    """Minimise loss + price × cost (at an infinite price the cost alone) → the sum and its choice."""
    loss_weight, cost_weight = (0.0, 1.0) if np.isinf(price) else (1.0, price)
    tables = [*(loss_weight * each for each in asked.lost), *(cost_weight * each for each in asked.costs)]
    least, choice = order.minimise(tables)
    return least + cost_weight * asked.fixed, choice


def _priced(
    asked: Knapsack, order: Elimination, budget: float, cheapest: tuple[int, ...]
) -> tuple[list[tuple[int, ...]], float]:
    """Bisect the price to the budget → the affordable choices met, and the best lower bound of any price."""
    _, choice = _solve(asked, order, 0.0)
    if asked.cost(choice) <= budget:
        return [choice], asked.loss(choice)
    found, bound = [cheapest], 0.0
    low, high = 0.0, _first_price(asked)
    for _ in range(_PRICES):
        price = high if low == 0.0 else (low * high) ** 0.5
        value, choice = _solve(asked, order, price)
        bound = max(bound, value - price * budget)
        if min(map(asked.loss, found)) <= bound * (1.0 + _CLOSE) or (low and high < low * (1.0 + _CLOSE)):
            break
        if asked.cost(choice) <= budget:
            found.append(choice)
            high = price
            low = low or price / 1e6
        elif low == 0.0:
            high *= 8.0
        else:
            low = price
    return [*dict.fromkeys(found)][-3:], bound


def _first_price(asked: Knapsack) -> float:
    lost = sum(float(each.max() - each.min()) for each in asked.lost)
    span = sum(float(each.max() - each.min()) for each in asked.costs)
    return max(lost, _LEAST_GAIN) / max(span, _LEAST_GAIN)


def _exchanged(asked: Knapsack, choice: tuple[int, ...], budget: float) -> tuple[int, ...]:
    """Change one group, or two that share no layer, as long as less is lost within the budget."""
    while (better := _best_exchange(asked, choice, budget)) is not None:
        choice = better
    return choice


def _best_exchange(asked: Knapsack, choice: tuple[int, ...], budget: float) -> tuple[int, ...] | None:
    near = [
        range(max(0, at - _REACH), min(len(w), at + _REACH + 1)) for at, w in zip(choice, asked.widths, strict=True)
    ]
    moves = [(group, at) for group, places in enumerate(near) for at in places if at != choice[group]]
    if not moves:
        return None
    cost = np.array([_change(asked, choice, move) for move in moves])
    lost = np.array([float(asked.lost[g][at] - asked.lost[g][choice[g]]) for g, at in moves])
    left = budget - asked.cost(choice)
    groups = np.array([g for g, _ in moves])
    apart = ~_neighbours(asked)[np.ix_(groups, groups)]
    single = np.where(cost <= left, lost, np.inf)
    double = np.where(apart & (cost[:, None] + cost[None, :] <= left), lost[:, None] + lost[None, :], np.inf)
    if min(single.min(), double.min()) >= -_LEAST_GAIN:
        return None
    one, two = np.unravel_index(int(double.argmin()), double.shape)
    chosen = [int(single.argmin())] if single.min() <= double.min() else [int(one), int(two)]
    changed = list(choice)
    for each in chosen:
        changed[moves[each][0]] = moves[each][1]
    return tuple(changed)


def _change(asked: Knapsack, choice: tuple[int, ...], move: tuple[int, int]) -> float:
    """Return what it costs more to give one group another width."""
    group, at = move
    after = (*choice[:group], at, *choice[group + 1 :])
    total = 0.0
    for scope, cost in zip(asked.scopes, asked.costs, strict=True):
        if group in scope:
            total += float(cost[tuple(after[v] for v in scope)] - cost[tuple(choice[v] for v in scope)])
    return total


def _neighbours(asked: Knapsack) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Tell which groups share a layer [group, group]; every group is its own neighbour."""
    count = len(asked.names)
    shared = np.eye(count, dtype=np.bool_)
    for scope in asked.scopes:
        shared[np.ix_(scope, scope)] = True
    return shared
