"""A table of plain text cells, and numbers → cells: what is unknown reads ``unknown``, never 0."""

from __future__ import annotations

from dataclasses import dataclass

from amble.core.quantity import format_energy
from amble.core.report import Estimate, Saving, Share

__all__ = ["UNKNOWN", "Table", "estimate_j", "estimate_s", "percent", "saved", "share", "signed"]

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Table:
    """A title, column names, rows of as many cells, and remarks under it; the rows in ``marked`` stand out."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    marked: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Write it as plain text: the title, columns aligned, remarks indented."""
        rows = [self.columns, *(tuple(cell.replace("\n", "; ") for cell in row) for row in self.rows)]
        wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, wide, strict=True)).rstrip() for row in rows]
        return "\n".join([self.title, *lines, *(f"  {note}" for note in self.notes), ""])


def saved(saving: Saving) -> str:
    """Write a saving with its interval, where it has one."""
    if saving.ratio is None:
        return UNKNOWN
    ratio = saving.ratio
    ends = (
        f" ({percent(ratio.low)} to {percent(ratio.high)})" if ratio.low is not None and ratio.high is not None else ""
    )
    return percent(ratio.value) + ends


def percent(ratio: float, digits: int = 1) -> str:
    """Write a ratio as a percentage.

    >>> percent(0.1234)
    '12.3 %'
    """
    return f"{100 * ratio:.{digits}f} %"


def signed(ratio: float) -> str:
    """Write a signed ratio as a percentage.

    >>> signed(-0.0212)
    '−2.1 %'
    """
    return f"{100 * ratio:+.1f} %".replace("-", "−")


def share(counted: Share) -> str:
    """Write a share with its interval."""
    low, high = counted.ratio.low or 0.0, 1.0 if counted.ratio.high is None else counted.ratio.high
    return f"{percent(counted.ratio.value, 2)} ({100 * low:.2f}–{100 * high:.2f})"


def estimate_s(estimate: Estimate) -> str:
    """Write a time with its interval; an end that the data cannot bound is a question mark."""
    high = "?" if estimate.high is None else f"{estimate.high * 1e3:.3g}"
    low = "?" if estimate.low is None else f"{estimate.low * 1e3:.3g}"
    return f"{estimate.value * 1e3:.3g} ms ({low}–{high})"


def estimate_j(estimate: Estimate | None) -> str:
    """Write an energy with half of its interval, where it has one."""
    if estimate is None:
        return UNKNOWN
    if estimate.low is None or estimate.high is None:
        return format_energy(estimate.value)
    return f"{format_energy(estimate.value)} ± {percent((estimate.high - estimate.low) / 2 / abs(estimate.value), 2)}"
