"""Costs of a few variables each → the choice of all variables whose sum is least, exactly.

Variables are eliminated one by one (Bertelè and Brioschi, Nonserial Dynamic Programming, 1972): all factors of one are
added up and minimised over it, which leaves a factor of its neighbours. On a chain that is Viterbi's pass; residual
blocks need tables of two or three variables. The order is chosen once, by the size of the tables it makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from amble.core.ports import FloatArray

__all__ = ["MOST_CELLS", "Elimination"]

MOST_CELLS = 2_000_000


@dataclass(frozen=True, slots=True)
class _Step:
    """Eliminate a variable: which factors go, and the variables of the one that comes."""

    variable: int
    gone: tuple[int, ...]
    left: tuple[int, ...]


class Elimination:
    """An order of elimination for factors over these variables, to be used for many costs.

    ``sizes``: choices of each variable; ``scopes``: the variables of each factor, ascending.
    ``num_cells`` is the largest table: ValueError when it is over MOST_CELLS.
    """

    def __init__(self, sizes: Sequence[int], scopes: Sequence[tuple[int, ...]]) -> None:
        if any(tuple(sorted(set(scope))) != scope for scope in scopes):
            raise ValueError("the variables of a factor must be ascending")
        self._sizes = tuple(sizes)
        self._scopes = tuple(scopes)
        self.num_cells = 1
        self._steps = self._order()

    def minimise(self, costs: Sequence[FloatArray]) -> tuple[float, tuple[int, ...]]:
        """Return the least sum and a choice of each variable that has it. costs: one axis a variable of the scope."""
        tables: list[FloatArray | None] = list(costs)
        scopes = list(self._scopes)
        chosen_of: list[FloatArray] = []
        for step in self._steps:
            whole = (*step.left, step.variable)
            total = self._sum([(scopes[each], tables[each]) for each in step.gone], whole)
            chosen_of.append(total.argmin(axis=-1).astype(np.float64))
            tables.append(total.min(axis=-1))
            scopes.append(step.left)
            for each in step.gone:
                tables[each] = None
        least = sum(float(table) for table in tables if table is not None)
        return least, self._traced(chosen_of)

    def _traced(self, chosen_of: Sequence[FloatArray]) -> tuple[int, ...]:
        """Follow the choices back, the variable that went last first."""
        choice = [0] * len(self._sizes)
        for step, chosen in zip(reversed(self._steps), reversed(chosen_of), strict=True):
            choice[step.variable] = int(chosen[tuple(choice[each] for each in step.left)])
        return tuple(choice)

    def _sum(self, factors: Sequence[tuple[tuple[int, ...], FloatArray | None]], whole: tuple[int, ...]) -> FloatArray:
        """Add factors up over all of their variables."""
        total = np.zeros([self._sizes[each] for each in whole])
        for scope, table in factors:
            assert table is not None
            places = [whole.index(each) for each in scope]
            shape = [1] * len(whole)
            for place in places:
                shape[place] = self._sizes[whole[place]]
            total += table.transpose(np.argsort(places)).reshape(shape)
        return total

    def _order(self) -> tuple[_Step, ...]:
        scopes = dict(enumerate(self._scopes))
        waiting = set(range(len(self._sizes)))
        steps: list[_Step] = []
        while waiting:
            found = {each: self._touching(each, scopes) for each in waiting}
            variable = min(waiting, key=lambda each: (self._cells(found[each][1]) * self._sizes[each], each))
            gone, left = found[variable]
            self.num_cells = max(self.num_cells, self._cells(left) * self._sizes[variable])
            if self.num_cells > MOST_CELLS:
                raise ValueError(f"a table of {self.num_cells} cells: too many layers depend on the same few widths")
            for each in gone:
                del scopes[each]
            scopes[len(self._scopes) + len(steps)] = left
            steps.append(_Step(variable, gone, left))
            waiting.remove(variable)
        return tuple(steps)

    def _touching(self, variable: int, scopes: dict[int, tuple[int, ...]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        gone = tuple(each for each, scope in scopes.items() if variable in scope)
        left = {other for each in gone for other in scopes[each]} - {variable}
        return gone, tuple(sorted(left))

    def _cells(self, variables: tuple[int, ...]) -> int:
        return prod(self._sizes[each] for each in variables)
