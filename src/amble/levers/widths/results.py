"""What pruning a network for a device came to: each layer before and after, predicted and measured, kept or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from amble.core.files import Format
from amble.core.report import Estimate, Share
from amble.core.subject import Subject, Where, gathered, placed
from amble.core.variants import Allowance, Metric, Quality
from amble.levers.widths.staircase import StaircaseTable

__all__ = ["FORMAT", "SPACE", "DesignSpace", "Narrowed", "Pruning", "Rival", "Searched"]


@dataclass(frozen=True, slots=True)
class Narrowed:
    """One layer: widths and predicted time before and after.

    ``stairs`` are the right-hand edges of its outputs, ``tail`` the share of its time spent on channels that are not
    there. ``remark`` says in plain words why it did not get faster, or what may be had for nothing.
    """

    layer: str
    shape: str
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    stairs: tuple[int, ...]
    latency_s: tuple[float, float]
    tail: tuple[float, float]
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Rival:
    """Widths chosen in another way, within the same budget as predicted: what they lose, and how much they compute."""

    name: str
    widths: dict[str, int]
    predicted_s: float
    lost: float
    flops: float


@dataclass(frozen=True, slots=True)
class Searched:
    """The widths of one group of channels that are worth searching, ascending, and the layers that they belong to."""

    group: str
    widths: tuple[int, ...]
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DesignSpace:
    """Widths worth searching on a device and at a batch: right-hand edges of its stairs, for each group of channels."""

    subject: Subject
    where: Where
    library: str
    groups: tuple[Searched, ...]


@dataclass(frozen=True, slots=True)
class Pruning:
    """A network before and after pruning.

    ``budget`` is what was asked for [s, or J]. Times: ``before_s`` measured, ``predicted_s`` by the staircases before
    anything was cut, ``after_s`` measured with the final file, ``ratio`` the one over the other, round by round.
    ``lost`` is the share of all importance that went; ``bound`` what any choice of the same edges loses at least within
    the budget, by the staircases as far as they were corrected by networks that were cut and measured. ``before`` and
    ``after`` are what the two ONNX files answered, ``cut`` what the narrower one did before it was tuned. ``file`` is
    empty where nothing was kept. ``before_j`` and ``after_j`` are energies of a run as measured, None without a meter.
    """

    subject: Subject
    where: Where
    clock: str
    resource: Literal["latency", "energy"]
    budget: float
    before_s: float
    predicted_s: float
    after_s: float
    widths: dict[str, int]
    widths_before: dict[str, int]
    layers: tuple[Narrowed, ...]
    rivals: tuple[Rival, ...]
    lost: float
    bound: float
    allowed: Allowance
    metric: Metric
    before: Share
    cut: Quality
    after: Quality
    verdict: Literal["kept", "refused"]
    reason: str
    file: str
    table: StaircaseTable
    notes: tuple[str, ...] = ()
    ratio: Estimate | None = None
    before_j: float | None = None
    after_j: float | None = None

    @property
    def speedup(self) -> float:
        """Return how many times as fast it is, as measured."""
        return self.before_s / self.after_s

    @property
    def error(self) -> float:
        """Return the signed relative error of the prediction: positive where it was too high."""
        return self.predicted_s / self.after_s - 1.0


def _whole(old: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result of format 1 as format 2 has it, the table inside it too."""
    return gathered(old) | {"table": placed(old["table"])}


def _spaced(old: Mapping[str, Any]) -> dict[str, Any]:
    """Return a space of format 1 as format 2 has it; that format told neither how real the device is nor the digest."""
    return gathered({("graph" if key == "network" else key): value for key, value in old.items()})


FORMAT = Format("pruning", 2, Pruning, {1: _whole})
SPACE = Format("design_space", 2, DesignSpace, {1: _spaced})
