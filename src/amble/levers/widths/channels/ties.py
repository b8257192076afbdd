"""Places on the axes of weights, and which of them must stay or go together.

Every place on an axis of a constant (an output of a convolution, an input of a dense layer, a bias) is a *label*, a
number from 1. Tensors that layers compute carry the labels of what wrote them: an array of labels as large as the
tensor, but for axes along which nothing changes. Label 0 is for what stays. Two labels that meet (in a sum, or where a
layer reads what another wrote) are tied; a *class* is a set of labels that ties connect.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["STAYS", "Ids", "Labels", "Ties"]

Ids = NDArray[np.int64]
STAYS = 0


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """The labels of a tensor of this ``shape``; ``ids`` has length 1 on axes along which they do not change."""

    ids: Ids
    shape: tuple[int, ...]

    @classmethod
    def none(cls, shape: tuple[int, ...]) -> Labels:
        """Return those of a tensor that stays as it is."""
        return cls(np.zeros((1,) * len(shape), dtype=np.int64), shape)

    @classmethod
    def on(cls, axis: int, ids: Ids, shape: tuple[int, ...]) -> Labels:
        """Return labels that change along one axis alone."""
        sizes = [1] * len(shape)
        sizes[axis] = len(ids)
        return cls(ids.reshape(sizes), shape)

    @classmethod
    def of(cls, full: Ids) -> Labels:
        """Take labels of every element, and find out along which axes they change."""
        ids = full
        for axis in range(full.ndim):
            first = ids.take([0], axis=axis) if ids.shape[axis] else ids
            if ids.shape[axis] > 1 and (ids == first).all():
                ids = first
        return cls(np.ascontiguousarray(ids), full.shape)

    @property
    def axes(self) -> tuple[int, ...]:
        """Return the axes along which labels change."""
        return tuple(axis for axis, size in enumerate(self.ids.shape) if size > 1)

    @property
    def is_free(self) -> bool:
        """Tell whether nothing of it can be removed."""
        return not self.ids.any()

    @property
    def full(self) -> Ids:
        """Return the label of every element."""
        return np.broadcast_to(self.ids, self.shape)

    def along(self, axis: int) -> Ids:
        """Return the labels along an axis, where they change along no other one."""
        moved = np.moveaxis(self.ids, axis, 0).reshape(self.ids.shape[axis], -1)[:, 0]
        return np.broadcast_to(moved, (self.shape[axis],))

    def aligned(self, rank: int) -> Labels:
        """Return them with leading axes of length 1, as broadcasting adds them."""
        more = (1,) * (rank - len(self.shape))
        return Labels(self.ids.reshape(more + self.ids.shape), more + self.shape)


@dataclass(slots=True)
class Ties:
    """Labels given so far, the ties between them, and those that must stay, with the reason.

    In the first pass labels may be missing that a later one finds, so nothing must stay yet.
    """

    first: dict[tuple[str, int], int] = field(default_factory=dict)
    sizes: dict[tuple[str, int], int] = field(default_factory=dict)
    num: int = 1
    is_first: bool = True
    _edges: list[Ids] = field(default_factory=list)
    _stays: list[tuple[Ids, str]] = field(default_factory=list)

    def labels(self, constant: str, axis: int, size: int) -> Ids:
        """Return the labels of an axis of a constant, always the same."""
        key = constant, axis
        if key not in self.first:
            self.first[key], self.sizes[key] = self.num, size
            self.num += size
        return np.arange(self.first[key], self.first[key] + self.sizes[key])

    def tie(self, ours: Ids, theirs: Ids) -> None:
        """Let labels stay or go together, pair by pair."""
        pairs = np.stack(np.broadcast_arrays(ours, theirs), axis=-1).reshape(-1, 2)
        _, at = np.unique(pairs[:, 0] * self.num + pairs[:, 1], return_index=True)
        pairs = pairs[at]
        self._edges.append(pairs[(pairs != STAYS).all(axis=1)] if self.is_first else pairs)

    def stay(self, ids: Ids, why: str) -> None:
        """Let labels stay."""
        found = np.unique(ids)
        if not self.is_first:
            self._stays.append((found[found != STAYS], why))

    def classes(self) -> Ids:
        """Return the class of every label [label]; ties to 0 are none: 0 stays by itself."""
        edges = self._all_edges()
        edges = edges[(edges != STAYS).all(axis=1)]
        links = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(self.num, self.num))
        return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)

    def reasons(self, classes: Ids) -> dict[int, str]:
        """Return the classes that stay, with the first reason of each."""
        found: dict[int, str] = {int(classes[STAYS]): ""}
        for ids, why in self._stays:
            for each in np.unique(classes[ids]).tolist():
                found.setdefault(each, why)
        edges = self._all_edges()
        for at in np.unique(classes[edges[(edges == STAYS).any(axis=1)]]).tolist():
            found.setdefault(at, "it meets channels that stay")
        return found

    def members(self) -> dict[tuple[str, int], Ids]:
        """Return all labels, by constant and axis."""
        return {key: np.arange(first, first + self.sizes[key]) for key, first in self.first.items()}

    def signatures(self, classes: Ids) -> dict[int, tuple[tuple[str, int, int], ...]]:
        """Return for each class how many places of which axes are its own."""
        found: dict[int, list[tuple[str, int, int]]] = defaultdict(list)
        for (constant, axis), ids in self.members().items():
            for each, count in zip(*np.unique(classes[ids], return_counts=True), strict=True):
                found[int(each)].append((constant, axis, int(count)))
        return {each: tuple(places) for each, places in found.items()}

    def _all_edges(self) -> Ids:
        if not self._edges:
            return np.zeros((0, 2), dtype=np.int64)
        self._edges = [np.concatenate(self._edges)]
        return self._edges[0]
