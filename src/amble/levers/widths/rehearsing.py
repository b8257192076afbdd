"""A network, examples and a budget → whether pruning could begin, what it would do, and about how long that takes.

Everything is read, traced, ranked and timed once as `prune` does first, so that what it would refuse is refused here.
Nothing is written.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from amble.core.errors import Refused
from amble.core.layers import Shape
from amble.core.quantity import format_time
from amble.core.variants import Allowance
from amble.levers.widths import judging
from amble.levers.widths.pruning import Prune, Wanted, asked, known
from amble.levers.widths.staircase import shape_of
from amble.levers.widths.staircases import Opened, Work, opened, probe_of, table_so_far
from amble.runtimes.onnx.refusals import door

__all__ = ["Rehearsal", "rehearse"]

_WHOLE_LAYERS = 30  # that an axis of a staircase takes as long as: some 40 points, most of them narrower
_PROBED_RUNS = 32  # between those of long layers and of short ones


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What pruning would do: sizes of its work, what the network takes and may take, and estimates of time [s].

    ``today_s`` was measured; ``budget`` is [s], or a share of the energy. ``tuning_s`` is of all epochs.
    """

    network: str
    device: str
    layers: int
    groups: tuple[str, ...]
    unknown_shapes: int
    known_shapes: int
    today_s: float
    budget: str
    learning: int
    judging: int
    labelled: bool
    epochs: int
    staircases_s: float
    tuning_s: float
    stays: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """Return it in plain words."""
        again = f" ({self.known_shapes} others are known)" if self.known_shapes else ""
        taught = "labels and the network as it is" if self.labelled else "the network as it is, without labels"
        return (
            f"{self.network} on {self.device}: {format_time(self.today_s)} today, {self.budget} wanted",
            f"{self.layers} layers; groups of channels: {', '.join(self.groups)}",
            f"would measure staircases of {self.unknown_shapes} layer shapes{again}: about {_rough(self.staircases_s)}",
            f"would cut, and tune {self.epochs} epochs on {self.learning} examples by {taught}: about "
            f"{_rough(self.tuning_s)}",
            f"would judge by {self.judging} other examples",
            *self.stays,
        )


@door
def rehearse(
    request: Prune, *, narrow: Opened | None = None, now_s: Callable[[], float] = time.perf_counter
) -> Rehearsal:
    """Try all that needs no staircase; Refused and ValueError for what `prune` would refuse."""
    wanted = request.wanted
    Allowance.parse(wanted.max_loss)
    with tempfile.TemporaryDirectory(prefix="amble-") as folder:
        work = opened(request.given, scratch=Path(folder), narrow=narrow)
        known(work.network, wanted.widths)
        if request.may_lose is None:
            asked(work, wanted)
        return _rehearsed(work, wanted, now_s)


def _rehearsed(work: Work, wanted: Wanted, now_s: Callable[[], float]) -> Rehearsal:
    today_s = work.today_s()
    _metered(work, wanted)
    kept = table_so_far(work)
    shapes = dict.fromkeys(shape_of(each, work.network) for each in work.network.layers)
    unknown = [each for each in shapes if not kept.knows(each)]
    return Rehearsal(
        network=work.graph.name,
        device=work.device.name,
        layers=len(work.network.layers),
        groups=tuple(work.network.today),
        unknown_shapes=len(unknown),
        known_shapes=len(shapes) - len(unknown),
        today_s=today_s,
        budget=format_time(wanted.limit(today_s)) if wanted.resource == "latency" else f"{wanted.budget} of its energy",
        learning=len(work.form.examples),
        judging=len(work.final),
        labelled=work.final.labels is not None,
        epochs=wanted.epochs,
        staircases_s=sum(_staircase_s(work, each, wanted.rounds, now_s) for each in unknown),
        tuning_s=wanted.epochs * work.narrower.epoch_s() if wanted.epochs else 0.0,
        stays=tuple(judging.staying(work.narrower.stays)),
    )


def _metered(work: Work, wanted: Wanted) -> None:
    if wanted.resource == "energy" and work.profile(work.graph).whole.energy_j is None:
        raise Refused(f"{work.device.name} has no meter that can be read; give --latency instead of --energy")


def _staircase_s(work: Work, shape: Shape, rounds: int, now_s: Callable[[], float]) -> float:
    """Time the whole layer once, as a point is timed → what all points take."""
    probe = probe_of(work)
    begin_s = now_s()
    probe.time(shape, shape.inputs, shape.outputs, _PROBED_RUNS)
    axes = shape.vary_inputs + shape.vary_outputs if shape.kind != "depthwise" else 1
    return (now_s() - begin_s) * _WHOLE_LAYERS * axes * rounds


def _rough(time_s: float) -> str:
    """Write a time as precisely as an estimate deserves."""
    return f"{time_s:.0f} s" if time_s < 90 else f"{time_s / 60:.0f} min"
