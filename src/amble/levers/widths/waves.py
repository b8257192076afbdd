"""Measured times of matrix products → a model of blocks in waves: where stairs end, how full the last wave is.

A kernel cuts its product of [rows, depth] by [depth, columns] into tiles, a block each; ``units`` of a chip hold
``occupancy`` blocks each at a time, and what does not fill the last wave leaves units idle (NVIDIA DU-09799-001,
sections 3.1 and 3.2; Yu et al., arXiv 2011.03897). A CPU core is one unit whose tile is a block of channels. The model
says where to look; what is believed is measured.

Legend of shapes: [sample].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil

import numpy as np
from scipy.optimize import nnls

from amble.core.ports import FloatArray

__all__ = ["Products", "Wave", "WaveModel", "fit", "matched"]

_TILES = (16, 32, 64, 128, 256)
_ABOVE_FLOOR = 1.15  # times the memory's time, that a product must take to tell something of tiles


@dataclass(frozen=True, slots=True)
class Products:
    """Matrix products that were timed, all [sample]: sizes, bytes moved, time [s]."""

    rows: FloatArray
    columns: FloatArray
    depth: FloatArray
    moved_bytes: FloatArray
    latency_s: FloatArray

    def at(self, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Products:
        """Return some of them."""
        return Products(
            self.rows[chosen],
            self.columns[chosen],
            self.depth[chosen],
            self.moved_bytes[chosen],
            self.latency_s[chosen],
        )


@dataclass(frozen=True, slots=True)
class Wave:
    """How blocks fill a chip: number of ``blocks`` and ``waves``, blocks in the ``last`` one."""

    blocks: int
    waves: int
    last: int
    slots: int

    @property
    def utilisation(self) -> float:
        """Return the share of all slots of all waves that have work."""
        return self.blocks / (self.waves * self.slots)

    @property
    def idle(self) -> float:
        """Return the share of the last wave that has none: the tail."""
        return 1.0 - self.last / self.slots


@dataclass(frozen=True, slots=True)
class WaveModel:
    """Tiles, the chip they run on, and times: ``launch_s``, a tile alone ``tile_s + depth × element_s``, memory.

    ``split`` divides the depth among so many blocks; ``bytes_per_s`` bounds every kernel from below.
    """

    tile_rows: int
    tile_columns: int
    units: int
    occupancy: int = 1
    split: int = 1
    launch_s: float = 0.0
    tile_s: float = 0.0
    element_s: float = 0.0
    bytes_per_s: float = np.inf

    @property
    def slots(self) -> int:
        """Return how many blocks run at a time."""
        return self.units * self.occupancy

    def wave(self, rows: int, columns: int, groups: int = 1) -> Wave:
        """Return how a product's blocks fill the chip."""
        blocks = ceil(rows / self.tile_rows) * ceil(columns / self.tile_columns) * groups * self.split
        waves = ceil(blocks / self.slots)
        return Wave(blocks, waves, blocks - (waves - 1) * self.slots, self.slots)

    def edges(self, rows: int, most: int) -> tuple[int, ...]:
        """Return the right-hand edges of the stairs of columns, up to ``most``, which ends the last one."""
        per_column = ceil(rows / self.tile_rows) * self.split
        found = {most}
        number = 1
        while (edge := self.tile_columns * (number * self.slots // per_column)) < most:
            if edge > 0:
                found.add(edge)
            number += 1
        return tuple(sorted(found))

    def time_s(self, of: Products) -> FloatArray:
        """Predict times [s] → [sample]."""
        serial = self.serial(of)
        worked_s = self.launch_s + serial * (self.tile_s + self.element_s * of.depth / self.split)
        return np.asarray(np.maximum(worked_s, of.moved_bytes / self.bytes_per_s))

    def serial(self, of: Products) -> FloatArray:
        """Return how many tiles the busiest unit works off: full waves, and its share of the last → [sample]."""
        blocks = np.ceil(of.rows / self.tile_rows) * np.ceil(of.columns / self.tile_columns) * self.split
        full = np.ceil(blocks / self.slots) - 1
        return np.asarray(full * self.occupancy + np.ceil((blocks - full * self.slots) / self.units))


def fit(of: Products, units: int, *, tiles: Sequence[tuple[int, int]] | None = None) -> WaveModel:
    """Return the tile and times that explain measured products best, by relative error.

    Blocks that share a unit are taken to slow each other in proportion; occupancy then moves no stair, and is left 1.
    ValueError for fewer samples than it has unknowns.
    """
    if len(of.latency_s) < 6:
        raise ValueError(f"{len(of.latency_s)} samples cannot tell tiles from times; measure at least 6")
    bytes_per_s = float((of.moved_bytes / of.latency_s).max())
    told = of.latency_s > _ABOVE_FLOOR * of.moved_bytes / bytes_per_s
    telling = of.at(told) if told.sum() >= 6 else of
    sizes = tiles or list(product(_TILES, _TILES))
    rated = [_timed(WaveModel(rows, columns, units), telling) for rows, columns in sizes]
    error, best = min(rated, key=lambda each: each[0])
    assert np.isfinite(error)
    return replace(best, bytes_per_s=bytes_per_s)


def _timed(shape: WaveModel, of: Products) -> tuple[float, WaveModel]:
    """Fit the times of one shape by non-negative least squares → its mean squared relative error, and the model."""
    serial = shape.serial(of)
    design = np.stack([np.ones_like(serial), serial, serial * of.depth], axis=1) / of.latency_s[:, None]
    scale = np.maximum(design.max(axis=0), 1e-300)
    found, residual = nnls(design / scale, np.ones(len(serial)))
    launch_s, tile_s, element_s = (found / scale).tolist()
    model = replace(shape, launch_s=launch_s, tile_s=tile_s, element_s=element_s)
    return float(residual) ** 2 / len(serial), model


def matched(found: Sequence[int], predicted: Sequence[int], *, within: int = 0) -> float:
    """Return the share of edges found that were predicted, to so many channels; 1 where none was found."""
    hits = [any(abs(edge - each) <= within for each in predicted) for edge in found]
    return sum(hits) / len(hits) if hits else 1.0
