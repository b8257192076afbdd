"""Accuracy as a hard constraint over a sliding window, kept by an account in constant space.

Every answered row pays in what it may lose and takes out what it lost; the account never goes below zero and never
above its cap. So the loss of any run of rows is at most ``rows × income + cap``: with ``income = allowed − cap /
window`` no window of ``window`` rows or more loses more than allowed on the mean. The account starts empty, so neither
does any beginning of the run.

A part of the income can be put by, and only what is not may be spent to save energy: the rest is for busy moments, in
which the less accurate variant is what keeps requests on time.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Budget"]

_KEPT = 0.3  # share of the cap that is put by at most


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be lost on the mean over any ``window`` consecutive rows, as a share of the reference's accuracy.

    ``cap_share`` of a window's whole allowance may be saved up; ``saving`` is the share of an income that is put by.
    """

    allowed: float = 0.005
    window: int = 10_000
    cap_share: float = 0.02
    saving: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what no budget can be."""
        if not 0 <= self.allowed < 1 or self.window < 1 or not 0 < self.cap_share < 1 or not 0 <= self.saving < 1:
            raise ValueError("a budget has losses and shares between 0 and 1, and a window of at least one row")

    @property
    def cap(self) -> float:
        """Return the most that can be saved up."""
        return self.cap_share * self.allowed * self.window

    @property
    def income(self) -> float:
        """Return what each row pays in."""
        return (1.0 - self.cap_share) * self.allowed

    def after(self, saved: float, loss: float, rows: int) -> float:
        """Return the account after rows that lost this much each; ValueError when it could not pay for them."""
        balance = saved + rows * (self.income - loss)
        if balance < -1e-9:
            raise ValueError(f"{rows} rows with a loss of {loss} each overdraw an account of {saved}")
        return min(self.cap, max(0.0, balance))

    def put_by(self, kept: float, saved: float, rows: int) -> float:
        """Return what is put by after some rows: never more than a part of the cap, or than there is."""
        return min(saved, _KEPT * self.cap, kept + rows * self.saving * self.income)

    def affords(self, saved: float, loss: float, rows: int = 1) -> bool:
        """Tell whether the account can pay for rows that lose this much each."""
        return saved + rows * (self.income - loss) >= 0.0

    def share(self, loss: float) -> float:
        """Return the share of all rows that may lose this much in the long run."""
        return 1.0 if loss <= self.income else self.income / loss

    def rows_left(self, saved: float, loss: float) -> float:
        """Return how many rows in a row may lose this much each."""
        drain = loss - self.income
        return float("inf") if drain <= 0 else float(int(saved / drain + 1e-9))
