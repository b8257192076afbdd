"""The verb ``prune``: a network, examples and a budget → a narrower network whose widths fit the device.

The verb of this lever. Nothing is printed here. Staircases come first; what they promise is measured
with networks that were really cut, before anything is trained.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from amble.core import files
from amble.core.draws import key_of
from amble.core.errors import Refused
from amble.core.quantity import format_energy, format_time, parse_time_s
from amble.core.variants import Allowance, Quality
from amble.levers.widths import choosing, judging
from amble.levers.widths.choosing import Pricing, Resource
from amble.levers.widths.clocked import least_energy, settled
from amble.levers.widths.cuts import OVER, Cut, Cutter
from amble.levers.widths.network import Network, Widths
from amble.levers.widths.results import FORMAT, SPACE, Pruning
from amble.levers.widths.staircase import StaircaseTable
from amble.levers.widths.staircases import (
    Given,
    Narrower,
    OnProgress,
    Opened,
    Work,
    Worth,
    opened,
    priced,
    space_of,
    table_of,
)
from amble.runtimes.onnx.layers import Precision
from amble.runtimes.onnx.refusals import door

__all__ = [
    "ASKED",
    "FILE",
    "NETWORK",
    "NETWORK_INT8",
    "Narrower",
    "Prune",
    "Wanted",
    "asked",
    "known",
    "prune",
    "pruned",
    "refuse_overwriting",
    "unpaid",
]

FILE = "pruning.json"
ASKED = "asked.json"  # what the pruning beside it was asked of, where several budgets were (`budgets`)
NETWORK = "pruned.onnx"
NETWORK_INT8 = "pruned-int8.onnx"
_TRIAL = "trial.onnx"  # what is judged; it becomes the network when it is kept

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
        """Refuse a budget that cannot be read, or kept by nothing, before anything is measured for it."""
        if not self.limit(1.0) > 0:
            raise ValueError(f"--{self.resource} {self.budget} leaves nothing; write a share of today's, as in 0.7x")

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
class Prune:
    """What is given, what is wanted of it, and where the widths worth searching go.

    With ``may_lose``, a share of all importance, clocks are chosen together with widths, for the least energy within
    the latency.
    """

    given: Given
    wanted: Wanted
    may_lose: float | None = None
    design_space: Path | None = None

    @property
    def about(self) -> str:
        """Return how the user knows the network."""
        return str(self.given.model)


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
    precision: Precision = "fp32",
    may_lose: float | None = None,
    design_space: Path | None = None,
    narrow: Opened | None = None,
    on_stairs: OnStairs = lambda table, network: None,
    on_progress: OnProgress = lambda what, done, total: None,
) -> Pruning:
    """Prune a network to widths that the device runs fast; keep it, in the folder ``output``, if it is good enough.

    The arguments are those of `Given`, `Wanted` and `Prune`. What was measured and trained before in the same folder is
    used again. In ``int8`` the network in INT8 is kept beside the other. Infeasible with the least that is possible
    where the budget is below that; Refused for a network that cannot be read or cut, and for widths that pay nothing.
    """
    given = Given(model, data, device, output, batch, labels, importance, precision)
    request = Prune(given, wanted, may_lose, design_space)
    return pruned(request, narrow=narrow, on_stairs=on_stairs, on_progress=on_progress)


@door
def pruned(
    request: Prune,
    *,
    narrow: Opened | None = None,
    on_stairs: OnStairs = lambda table, network: None,
    on_progress: OnProgress = lambda what, done, total: None,
) -> Pruning:
    """Do what `prune` does, as one request asks for it."""
    given, wanted = request.given, request.wanted
    allowed = Allowance.parse(wanted.max_loss)
    files.try_writing(given.output, folder=True)
    refuse_overwriting(given.model, given.output)
    if request.design_space is not None:
        files.try_writing(request.design_space)
    with tempfile.TemporaryDirectory(prefix="amble-") as folder:
        work = opened(given, scratch=Path(folder), narrow=narrow, on_progress=on_progress)
        known(work.network, wanted.widths)
        told = _Told(on_stairs, request.design_space)
        if request.may_lose is None:
            asked(work, wanted)
            made = _narrowed(work, wanted, allowed, told)
        else:
            made = _clocked(work, wanted, allowed, told, request.may_lose)
        _keep(work, made)
    return made


def refuse_overwriting(model: str | Path, place: Path) -> None:
    """Refuse a folder where a network would be overwritten by what is made of it."""
    if Path(model).resolve() in {(place / name).resolve() for name in (NETWORK, NETWORK_INT8)}:
        raise Refused(f"{model} would be overwritten by what is made of it; name another folder")


def _keep(work: Work, made: Pruning) -> None:
    """Put what was made where that of an earlier call was: all of it, or nothing. A refusal takes no network away."""
    trial, kept = work.output / _TRIAL, made.verdict == "kept"
    others = (ASKED, *((NETWORK, NETWORK_INT8) if kept else ()))
    with files.renewed(work.output, index=FILE, others=others) as fresh:
        if kept:
            shutil.copy(trial, fresh / NETWORK)
            if work.form.precision != "fp32":
                shutil.copy(work.form.of(trial), fresh / NETWORK_INT8)
        files.save(made, fresh / FILE, FORMAT)
    trial.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Told:
    """Who is told of staircases, and where the design space goes."""

    on_stairs: OnStairs
    design_space: Path | None


def _narrowed(work: Work, wanted: Wanted, allowed: Allowance, told: _Told, fixed: Widths | None = None) -> Pruning:
    """Prune at the clocks that run now; ``fixed`` widths were chosen before."""
    table = table_of(work, wanted.rounds)
    told.on_stairs(table, work.network)
    pricing = priced(work, table, wanted.resource)
    edges = choosing.candidates(pricing, least_share=wanted.least_share)
    if told.design_space is not None:
        files.save(space_of(pricing, edges, work.source), told.design_space, SPACE)
    if fixed is not None:
        edges = {name: (each,) for name, each in fixed.items()}
    return _Pruner(work, wanted, allowed, pricing, edges).run()


def _clocked(work: Work, wanted: Wanted, allowed: Allowance, told: _Told, may_lose: float) -> Pruning:
    """Prune to widths, and at clocks, that are chosen together; there is no bound on what had to go."""
    budget_s = wanted.limit(work.today_s())
    saved = least_energy(work, budget_s, may_lose, wanted.rounds)
    found, path = saved.together, work.form.folder / "clocked.onnx"
    with settled(work, found.clocks):
        work.narrower.write(found.widths, path)
        energy_j = work.profile(work.load(path)).whole.energy_j
        if energy_j is not None and energy_j >= saved.today_j:
            raise Refused(
                f"at {found.clocks} the narrower network needs {format_energy(energy_j)} as measured, "
                f"{format_energy(saved.today_j)} today: nothing was trained; allow more time or loss"
            )
        made = _narrowed(work, replace(wanted, budget=f"{1e3 * budget_s:.6f}ms"), allowed, told, found.widths)
    note = (
        f"clocks and widths were chosen together: {found.clocks}; a run needs {format_energy(energy_j)} as measured "
        f"({format_energy(found.energy_j)} predicted), {format_energy(saved.today_j)} before at the clocks of today; "
        "all times here are at the new ones"
    )
    return replace(made, bound=0.0, notes=(*made.notes, note))


def asked(work: Work, wanted: Wanted) -> None:
    """Refuse a budget that the network keeps already."""
    today_s = work.today_s()
    if wanted.limit(today_s) >= today_s:
        raise Refused(
            f"{work.source.name} takes {format_time(today_s)} on {work.device.name} as it is, which keeps "
            f"--{wanted.resource} {wanted.budget}; ask for less"
        )


def known(network: Network, widths: Widths) -> None:
    """Refuse widths of groups that the network does not have."""
    for name in widths:
        if name not in network.by_name:
            raise Refused(f"--width: {network.name} has no group {name!r}; its groups are {', '.join(network.today)}")


def unpaid(pricing: Pricing, edges: Edges, widths: Widths) -> None:
    """Refuse widths that pay nothing: those inside a stair, which take as long as its end; and unknown groups."""
    known(pricing.network, widths)
    for name, asked in widths.items():
        if asked in edges[name]:
            continue
        above = [each for each in edges[name] if each > asked]
        below = [each for each in edges[name] if each < asked]
        near = " or ".join(str(each) for each in (*below[-1:], *above[:1]))
        raise Refused(f"{name} with {asked} channels pays nothing: its stairs end elsewhere; ask for {near}")


@dataclass(frozen=True, slots=True)
class _Pruner:
    """One pruning, step by step."""

    work: Work
    wanted: Wanted
    allowed: Allowance
    pricing: Pricing
    edges: Edges

    def run(self) -> Pruning:
        """Choose, cut and measure; tune what is faster and keeps the budget, and judge."""
        unpaid(self.pricing, self.edges, self.wanted.widths)
        edges = {**self.edges, **{name: (each,) for name, each in self.wanted.widths.items()}}
        plan = self.cutter.plan(choosing.knapsack(self.pricing, edges), self.work.form.folder)
        hopeless = self.cutter.hopeless(plan)
        if not hopeless:
            self._tune(plan)
        return self._described(plan, hopeless)

    @property
    def cutter(self) -> Cutter:
        """Return what cuts and measures within the budget."""
        return Cutter(self.work, self.wanted.resource, self.wanted.limit(self.pricing.total({})))

    def _tune(self, plan: Cut) -> None:
        epochs, widths = self.wanted.epochs, plan.chosen.widths
        way = key_of(self.work.source.digest, self.work.taught, epochs, str(sorted(widths.items())))
        own = self.work.output / f"tuning-{way:032x}.pt"
        self.work.narrower.tune(
            widths,
            self.work.output / _TRIAL,
            epochs=epochs,
            checkpoint=own,
            on_epoch=lambda done, loss: self.work.on_progress(f"tuning, loss {loss:.3g}", done, epochs),
        )
        own.unlink(missing_ok=True)

    def _described(self, plan: Cut, hopeless: str) -> Pruning:
        work, pricing, chosen = self.work, self.pricing, plan.chosen
        bench = work.bench()
        before, cut = bench.quality(work.graph), bench.quality(work.load(plan.file))
        allowed = self.allowed.points(before.share.ratio.value)
        if hopeless:
            final, after = plan, cut
            verdict, reason = judging.refused(hopeless)
        else:
            final = self.cutter.measured(chosen, work.output / _TRIAL)
            after = bench.quality(work.load(work.output / _TRIAL))
            verdict, reason = judging.verdict(final.ratio, after.loss, allowed)
        whole = sum(sum(each.importance) for each in work.network.groups)
        latency = pricing if self.wanted.resource == "latency" else priced(work, pricing.table)
        return Pruning(
            work.source.subject,
            work.device.where,
            clock="CPU time of the thread" if work.on_host else "the device's own time",
            resource=self.wanted.resource,
            budget=self.cutter.budget,
            before_s=final.before_s,
            predicted_s=latency.total(chosen.widths),
            after_s=final.after_s,
            ratio=final.ratio,
            before_j=final.before_j,
            after_j=final.after_j,
            widths=chosen.widths,
            widths_before=work.network.today,
            layers=tuple(judging.narrowed(latency, each, chosen.widths) for each in work.network.layers),
            rivals=tuple(judging.rivals(latency, latency.total(chosen.widths))),
            lost=chosen.lost / max(whole, 1e-30),
            bound=chosen.bound / max(whole, 1e-30),
            allowed=self.allowed,
            metric=bench.metric,
            before=before.share,
            cut=cut,
            after=after,
            verdict=verdict,
            reason=reason,
            file=NETWORK if verdict == "kept" else "",
            table=pricing.table,
            notes=tuple(self._notes(plan, final, allowed, after)),
        )

    def _notes(self, plan: Cut, final: Cut, allowed: float, after: Quality) -> Iterator[str]:
        if self.work.final.labels is None:
            yield "no labels: tuned to the answers of the network as it was, and judged by agreement with them"
        if judging.leaves_open(after.loss, allowed):
            yield (
                f"{after.share.out_of} examples leave open whether {allowed:.3g} points are lost or fewer; "
                "give more of them to be certain"
            )
        share, say = self.cutter.share(final), format_time if self.wanted.resource == "latency" else format_energy
        if share > OVER:
            yield f"the budget of {say(self.cutter.budget)} is missed by {share - 1:.1%}, as measured"
        if final.before_j is not None and final.after_j is not None:
            yield f"a run needs {format_energy(final.after_j)}, {format_energy(final.before_j)} before, as measured"
        elif self.wanted.resource == "energy":
            yield "the energy after pruning is predicted by the staircases; the time is measured"
        if plan.corrected != 1.0:
            yield (
                f"times by the staircases were taken {1.0 / plan.corrected - 1.0:+.1%}, as a network that was cut by "
                "them was measured; the least importance to be lost is by these times"
            )
        yield from judging.staying(self.work.narrower.stays)
