"""Cheaper ways to run a network that were tried on a device: how fast, how accurate, kept or refused and why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from amble.core.files import Format
from amble.core.processor import Saturations
from amble.core.report import Estimate, Share
from amble.core.subject import Subject, Where, gathered

__all__ = ["FORMAT", "Allowance", "Metric", "Quality", "Variant", "Variants", "Verdict"]

Metric = Literal["accuracy", "agreement"]
"""``accuracy``: share of right answers. ``agreement``: share of answers that are the reference's, without labels."""

Verdict = Literal["reference", "kept", "refused"]

_POINTS = re.compile(r"(\d+(?:\.\d+)?)\s*(pt|%)")


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much accuracy may be lost: in points of 100, or as a percentage of the reference's."""

    amount: float
    relative: bool = False

    @classmethod
    def parse(cls, text: str) -> Allowance:
        """Read ``1pt`` or ``0.5%``.

        >>> Allowance.parse("0.5%")
        Allowance(amount=0.5, relative=True)
        """
        if not (match := _POINTS.fullmatch(text.strip())):
            raise ValueError(f"{text!r} is no accuracy loss; write 1pt (points) or 0.5% (of the accuracy there is)")
        if float(match[1]) > 100:
            raise ValueError(f"{text!r} is more accuracy than there is; write at most 100pt or 100%")
        return cls(float(match[1]), match[2] == "%")

    def points(self, reference: float) -> float:
        """Return what may be lost in points, where the reference's accuracy is this share."""
        return self.amount * reference if self.relative else self.amount

    def share(self, reference: float) -> float:
        """Return what may be lost as a share of the reference's accuracy, which is itself a share of all answers.

        >>> Allowance.parse("1pt").share(0.5), Allowance.parse("1%").share(0.5)
        (0.02, 0.01)
        """
        return self.points(reference) / 100.0 / reference

    def __str__(self) -> str:
        """Write it as it is read."""
        return f"{self.amount:g}{'%' if self.relative else 'pt'}"


@dataclass(frozen=True, slots=True)
class Quality:
    """How many of the examples a network answered well, and what it loses against the reference [points of 100].

    ``squared_error`` is that of its scores, as a share of the variance of the reference's.
    """

    share: Share
    loss: Estimate
    squared_error: float


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run a network, as measured.

    ``speedup`` is the reference's time over this one's, ``loss`` the accuracy it loses against the reference on the
    same examples [points of 100]. ``file`` is relative to the artefact's folder, empty where nothing was kept.
    ``float_nodes`` names the operators of a mix that stayed in floating point. ``saturations`` are counted on examples
    of calibration, of INT8 alone: those that a CPU without 32-bit sums cuts, whatever CPU this was made on.
    """

    name: str
    precision: str
    about: str
    verdict: Verdict
    reason: str
    file: str = ""
    latency_s: float | None = None
    speedup: Estimate | None = None
    quality: Share | None = None
    loss: Estimate | None = None
    float_nodes: tuple[str, ...] = ()
    saturations: Saturations | None = None


@dataclass(frozen=True, slots=True)
class Variants:
    """What was tried for a network on a device, the reference first, and what came out of it.

    ``metric`` says what the shares count; ``num_calibration`` examples set the ranges, ``num_judged`` others were
    answered. ``chosen`` is the fastest of those kept, the reference where none was. ``final`` and ``final_reference``
    are the chosen one's and the reference's shares on examples that chose nothing. ``clock`` says what time is.
    """

    subject: Subject
    where: Where
    allowed: Allowance
    allowed_points: float
    metric: Metric
    data: str
    num_calibration: int
    num_judged: int
    clock: str
    variants: tuple[Variant, ...]
    chosen: str
    final: Share | None = None
    final_reference: Share | None = None
    notes: tuple[str, ...] = ()

    @property
    def reference(self) -> Variant:
        """Return the variant that all others are compared with."""
        return self.variants[0]

    @property
    def kept(self) -> tuple[Variant, ...]:
        """Return the reference and what was kept beside it."""
        return tuple(each for each in self.variants if each.verdict != "refused")

    def variant(self, name: str) -> Variant:
        """Return a variant by its name; KeyError when it was not tried."""
        for each in self.variants:
            if each.name == name:
                return each
        raise KeyError(name)

    def fastest(self, precision: str) -> Variant:
        """Return the fastest kept variant of a precision; KeyError where none was kept."""
        found = [each for each in self.kept if each.precision == precision]
        if not found:
            raise KeyError(precision)
        return max(found, key=lambda each: each.speedup.value if each.speedup else 1.0)

    def relative(self, variant: Variant) -> float:
        """Return a variant's accuracy as a share of the reference's: what a governor's budget counts in."""
        if variant.loss is None or self.reference.quality is None:
            return 1.0
        return 1.0 - variant.loss.value / 100.0 / self.reference.quality.ratio.value


FORMAT = Format("variants", 2, Variants, {1: gathered})
