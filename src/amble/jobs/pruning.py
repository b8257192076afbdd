"""The verb ``prune``: a network, examples and a budget → a narrower network whose widths fit the device.

A door like `jobs`, in a file of its own. Nothing is printed here. Staircases come first; what they promise is measured
with networks that were really cut, before anything is trained.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from amble.core import files
from amble.core.draws import key_of
from amble.core.errors import Infeasible, Refused
from amble.core.pruning import FORMAT, SPACE, Narrowed, Pruning, Rival
from amble.core.quantity import format_energy, format_time, parse_time_s
from amble.core.staircase import Staircase, StaircaseTable
from amble.core.variants import Allowance, Quality
from amble.core.widths import Layer, Network, Widths
from amble.jobs.staircases import Narrower, OnProgress, Opened, Work, Worth, opened, priced, space_of, table_of
from amble.plan import width, width_adjust
from amble.plan.width import Chosen, Pricing, Resource

__all__ = ["FILE", "NETWORK", "Narrower", "Wanted", "prune", "unpaid"]

FILE = "pruning.json"
NETWORK = "pruned.onnx"

_TRIES = 4  # of cutting and measuring, before training
_OVER, _UNDER = 1.01, 0.97  # of the budget, where a measured time is as wanted
_FLAT = 0.95  # of a layer's time, that its fastest width must be below to be worth a word

Edges = Mapping[str, tuple[int, ...]]
OnStairs = Callable[[StaircaseTable, Network], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A budget, and what may be done to keep it.

    ``budget``: ``20ms``, or ``0.7x`` of what the network takes today (for energies only that). ``widths`` of groups
    that the user chose; at least ``least_share`` of every group stays. ``rounds`` of timing each point.
    """

    budget: str
    resource: Resource = "latency"
    max_loss: str = "1pt"
    widths: Mapping[str, int] = field(default_factory=dict)
    least_share: float = 0.1
    epochs: int = 3
    rounds: int = 5

    def __post_init__(self) -> None:
        """Refuse a budget that cannot be read, before anything is measured for it."""
        self.limit(1.0)

    def limit(self, today: float) -> float:
        """Return the budget [s, or J] of a network that takes this today. ValueError for one that cannot be read."""
        text = self.budget.strip()
        if text.endswith("x") and text[:-1].replace(".", "", 1).isdigit():
            return float(text[:-1]) * today
        if self.resource == "energy":
            raise ValueError(f"--energy {text!r} is no budget of energy; write it as a share of today's, as in 0.7x")
        try:
            return parse_time_s(text)
        except ValueError as error:
            raise ValueError(f"--latency: {error}, or a share of today's, as in 0.7x") from None


@dataclass(frozen=True, slots=True)
class _Plan:
    """Widths that were chosen, cut and measured: the file, seconds before and after in the same rounds."""

    chosen: Chosen
    file: Path
    before_s: float
    after_s: float


def prune(
    model: str | Path,
    wanted: Wanted,
    *,
    data: str | Path,
    device: str,
    output: Path,
    batch: int = 1,
    labels: bool = True,
    importance: Worth = "taylor",
    design_space: Path | None = None,
    narrow: Opened | None = None,
    on_stairs: OnStairs = lambda table, network: None,
    on_progress: OnProgress = lambda what, done, total: None,
) -> Pruning:
    """Prune a network to widths that the device runs fast; keep it, in the folder ``output``, if it is good enough.

    ``data`` is an ``.npz`` file (an array for the input, and ``labels`` if there are any) or ``bundled``. Without
    labels, or with ``labels`` false, the network as it was is the teacher and the judge. What was measured and trained
    before in the same folder is used again. Infeasible with the least that is possible where the budget is below that;
    Refused for a network that cannot be read or cut, and for widths that pay nothing.
    """
    allowed = Allowance.parse(wanted.max_loss)
    work = opened(
        model,
        data=data,
        device=device,
        output=output,
        batch=batch,
        labels=labels,
        worth=importance,
        narrow=narrow,
        on_progress=on_progress,
    )
    _known(work.network, wanted.widths)
    table = table_of(work, wanted.rounds)
    on_stairs(table, work.network)
    pricing = priced(work, table, wanted.resource)
    edges = width.candidates(pricing, least_share=wanted.least_share)
    if design_space is not None:
        files.save(space_of(pricing, edges, work.graph), design_space, SPACE)
    tuned = key_of(work.graph.digest, str(data), labels, importance, wanted.epochs)
    made = _Pruner(work, wanted, allowed, pricing, edges, tuned).run()
    files.save(made, output / FILE, FORMAT)
    return made


def _known(network: Network, widths: Widths) -> None:
    """Refuse widths of groups that the network does not have."""
    for name in widths:
        if name not in network.by_name:
            raise Refused(f"--width: {network.name} has no group {name!r}; its groups are {', '.join(network.today)}")


def unpaid(pricing: Pricing, edges: Edges, widths: Widths) -> None:
    """Refuse widths that pay nothing: those inside a stair, which take as long as its end; and unknown groups."""
    _known(pricing.network, widths)
    for name, asked in widths.items():
        if asked in edges[name]:
            continue
        above = [each for each in edges[name] if each > asked]
        below = [each for each in edges[name] if each < asked]
        near = " or ".join(str(each) for each in (*below[-1:], *above[:1]))
        raise Refused(f"{name} with {asked} channels pays nothing: its stairs end elsewhere; ask for {near}")


@dataclass(frozen=True, slots=True)
class _Pruner:
    """One pruning, step by step; ``tuned`` tells tunings apart that go to the same widths in another way."""

    work: Work
    wanted: Wanted
    allowed: Allowance
    pricing: Pricing
    edges: Edges
    tuned: int

    def run(self) -> Pruning:
        """Choose, cut and measure, tune, judge."""
        unpaid(self.pricing, self.edges, self.wanted.widths)
        with tempfile.TemporaryDirectory(prefix="amble-") as folder:
            plan = self._plan(Path(folder))
            self._tune(plan)
            return self._described(plan)

    @property
    def budget(self) -> float:
        """Return the budget [s, or J]."""
        return self.wanted.limit(self.pricing.total({}))

    def _plan(self, folder: Path) -> _Plan:
        """Choose widths; measure the network cut to them; correct the target by what was found, and choose again."""
        edges = {**self.edges, **{name: (each,) for name, each in self.wanted.widths.items()}}
        problem = width.problem(self.pricing, edges)
        target = self.budget
        tried: list[_Plan] = []
        for number in range(_TRIES):
            self.work.on_progress("cutting and measuring", number, _TRIES)
            try:
                chosen = width.choose(problem, target, resource=self.wanted.resource)
            except Infeasible:
                if not tried:
                    raise
                break
            path = folder / f"cut-{number}.onnx"
            self.work.narrower.write(chosen.widths, path)
            tried.append(self._measured(chosen, path))
            share = self._share(tried[-1])
            if _UNDER <= share <= _OVER or chosen.widths == self.work.network.today:
                break
            target *= 1.0 / share
        return min(tried, key=lambda each: (max(self._share(each), _OVER), each.chosen.lost))

    def _share(self, plan: _Plan) -> float:
        """Return what was measured over the budget; energies are taken as predicted."""
        if self.wanted.resource == "energy":
            return plan.chosen.cost / self.budget
        return plan.after_s / self.budget

    def _measured(self, chosen: Chosen, path: Path) -> _Plan:
        times_s = self.work.times_s([self.work.graph, self.work.load(path)])
        before_s, after_s = (float(each) for each in np.median(times_s, axis=0))
        return _Plan(chosen, path, before_s, after_s)

    def _tune(self, plan: _Plan) -> None:
        epochs, widths = self.wanted.epochs, plan.chosen.widths
        path = self.work.output / NETWORK
        if not epochs:
            shutil.copy(plan.file, path)
            return
        own = self.work.output / f"tuning-{key_of(self.tuned, str(sorted(widths.items()))):032x}.pt"
        self.work.narrower.tune(
            widths,
            path,
            epochs=epochs,
            checkpoint=own,
            on_epoch=lambda done, loss: self.work.on_progress(f"tuning, loss {loss:.3g}", done, epochs),
        )
        own.unlink(missing_ok=True)

    def _described(self, plan: _Plan) -> Pruning:
        work, pricing, chosen = self.work, self.pricing, plan.chosen
        bench = work.bench()
        final = self._measured(chosen, work.output / NETWORK)
        before = bench.quality(work.graph)
        after = bench.quality(work.load(work.output / NETWORK))
        verdict, reason = self._verdict(final, before, after)
        if verdict == "refused":
            (work.output / NETWORK).unlink()
        whole = sum(sum(each.importance) for each in work.network.groups)
        latency = pricing if self.wanted.resource == "latency" else priced(work, pricing.table)
        return Pruning(
            graph=work.graph.name,
            source=work.graph.source,
            digest=work.graph.digest,
            device=work.device.name,
            calibration=work.device.calibration,
            batch=work.graph.batch,
            clock="CPU time of the thread" if work.on_host else "the device's own time",
            resource=self.wanted.resource,
            budget=self.budget,
            before_s=final.before_s,
            predicted_s=latency.total(chosen.widths),
            after_s=final.after_s,
            widths=chosen.widths,
            widths_before=work.network.today,
            layers=tuple(_narrowed(latency, each, chosen.widths) for each in work.network.layers),
            rivals=tuple(_rivals(latency, latency.total(chosen.widths))),
            lost=chosen.lost / max(whole, 1e-30),
            bound=chosen.bound / max(whole, 1e-30),
            allowed=self.allowed,
            metric=bench.metric,
            before=before.share,
            cut=bench.quality(work.load(plan.file)),
            after=after,
            verdict=verdict,
            reason=reason,
            file=NETWORK if verdict == "kept" else "",
            table=pricing.table,
            notes=tuple(self._notes(final)),
        )

    def _verdict(self, plan: _Plan, before: Quality, after: Quality) -> tuple[Literal["kept", "refused"], str]:
        """Keep what is faster and loses no more than allowed."""
        allowed = self.allowed.points(before.share.ratio.value)
        if after.loss.value > allowed:
            return (
                "refused",
                f"loses {after.loss.value:.3g} points, {allowed:.3g} are allowed: more epochs or a looser budget",
            )
        if plan.after_s >= plan.before_s:
            return "refused", "is not faster than before"
        return "kept", f"{plan.before_s / plan.after_s:.2f} times as fast, loses {after.loss.value:.3g} points"

    def _notes(self, plan: _Plan) -> Iterator[str]:
        if self.work.final.labels is None:
            yield "no labels: tuned to the answers of the network as it was, and judged by agreement with them"
        share = self._share(plan)
        if share > _OVER:
            say = format_time if self.wanted.resource == "latency" else format_energy
            yield f"the budget of {say(self.budget)} is missed by {share - 1:.1%}, as measured"
        if self.wanted.resource == "energy":
            yield "the energy after pruning is predicted by the staircases; the time is measured"


def _narrowed(pricing: Pricing, layer: Layer, widths: Widths) -> Narrowed:
    network, staircase = pricing.network, pricing.staircases[layer.name]
    inputs = layer.num_inputs, network.num_inputs(layer, widths)
    outputs = layer.num_outputs, network.num_outputs(layer, widths)
    return Narrowed(
        layer=layer.name,
        shape=str(staircase.shape),
        inputs=inputs,
        outputs=outputs,
        stairs=staircase.outputs.edges,
        latency_s=(pricing.alone(layer, {}), pricing.alone(layer, widths)),
        tail=(staircase.tail(inputs[0], outputs[0]), staircase.tail(inputs[1], outputs[1])),
        remark=_remark(staircase, inputs, outputs),
    )


def _remark(staircase: Staircase, inputs: tuple[int, int], outputs: tuple[int, int]) -> str:
    """Say in plain words why a layer is as fast as it was."""
    whole_s = staircase.latency_s(inputs[0], outputs[0])
    if min(each.latency_s for each in staircase.points) > _FLAT * whole_s:
        return "no width makes it faster here"
    if staircase.latency_s(inputs[1], outputs[1]) > _FLAT * whole_s and (inputs[0], outputs[0]) != (
        inputs[1],
        outputs[1],
    ):
        return "hardly faster: narrowed for other layers"
    if (inputs[0], outputs[0]) == (inputs[1], outputs[1]):
        return "left as it is: its channels are worth their time"
    return ""


def _rivals(pricing: Pricing, budget_s: float) -> Iterator[Rival]:
    """Choose widths in other ways that the staircases predict to take as long."""
    network = pricing.network
    ways: dict[str, Callable[[float], dict[str, int]]] = {
        "by importance alone": lambda share: width_adjust.blind(network, share),
        "the same, in multiples of 8": lambda share: width_adjust.rounded(
            network, width_adjust.blind(network, share), 8
        ),
        "the same, in multiples of 16": lambda share: width_adjust.rounded(
            network, width_adjust.blind(network, share), 16
        ),
        "every layer by one factor": lambda share: width_adjust.scaled(network, share),
    }
    for name, at in ways.items():
        widths = width_adjust.fit(at, lambda found: pricing.total(found) <= budget_s)
        lost = network.lost(widths) / max(network.lost(dict.fromkeys(network.today, 0)), 1e-30)
        yield Rival(name, widths, pricing.total(widths), lost, network.flops(widths))
