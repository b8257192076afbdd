"""Bit addresses of a rank of chips → the cells that hold these bits: chip, bank, row and bitline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cells", "Layout"]

Ints = NDArray[np.int64]

_LINE_BITS = 512  # a cache line


@dataclass(frozen=True, slots=True)
class Cells:
    """Where bits lie: chip, bank, row and bitline, each [cell]; bitlines count across the chips of a rank."""

    chip: Ints
    bank: Ints
    row: Ints
    bitline: Ints


@dataclass(frozen=True, slots=True)
class Layout:
    """How the bit addresses of a rank map to its cells.

    The chips take the bytes in turn. ``interleaving`` says what follows after a row's or a cache line's worth of
    addresses: ``rows`` the next row of the same bank, ``banks`` the same row of the next bank, ``lines`` the next bank
    after every cache line of 64 bytes.
    """

    num_chips: int = 8
    num_banks: int = 8
    num_rows: int = 32_768
    row_bits: int = 65_536
    interleaving: Literal["rows", "banks", "lines"] = "rows"

    def __post_init__(self) -> None:
        """Check the sizes."""
        if min(self.num_chips, self.num_banks, self.num_rows) < 1 or self.row_bits % _LINE_BITS:
            raise ValueError(f"a layout needs chips, banks, rows, and rows of a multiple of {_LINE_BITS} bits")
        if self.interleaving not in ("rows", "banks", "lines"):
            raise ValueError(f"interleaving is 'rows', 'banks' or 'lines', not {self.interleaving!r}")

    @property
    def num_bits(self) -> int:
        """Return how many bits the rank holds."""
        return self.num_banks * self.num_rows * self.row_bits

    def cells(self, addresses: Ints) -> Cells:
        """Return where the bits at these addresses [cell] lie; ValueError outside the rank."""
        if addresses.size and (addresses.min() < 0 or addresses.max() >= self.num_bits):
            raise ValueError(f"addresses lie in 0..{self.num_bits - 1}")
        bank, row, bitline = self._placed(addresses)
        return Cells((addresses >> 3) % self.num_chips, bank, row, bitline)

    def addresses(self, cells: Cells) -> Ints:
        """Return the bit addresses [cell] of these cells: the inverse of ``cells``."""
        if self.interleaving == "rows":
            return (cells.bank * self.num_rows + cells.row) * self.row_bits + cells.bitline
        if self.interleaving == "banks":
            return (cells.row * self.num_banks + cells.bank) * self.row_bits + cells.bitline
        line, bit = cells.bitline // _LINE_BITS, cells.bitline % _LINE_BITS
        lines = self.row_bits // _LINE_BITS
        return ((cells.row * lines + line) * self.num_banks + cells.bank) * _LINE_BITS + bit

    def _placed(self, addresses: Ints) -> tuple[Ints, Ints, Ints]:
        if self.interleaving == "lines":
            rest, bit = np.divmod(addresses, _LINE_BITS)
            rest, bank = np.divmod(rest, self.num_banks)
            row, line = np.divmod(rest, self.row_bits // _LINE_BITS)
            return bank, row, line * _LINE_BITS + bit
        rest, bitline = np.divmod(addresses, self.row_bits)
        if self.interleaving == "rows":
            bank, row = np.divmod(rest, self.num_rows)
        else:
            row, bank = np.divmod(rest, self.num_banks)
        return bank, row, bitline
