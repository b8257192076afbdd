"""The verb ``dram``: a network, examples and a memory → which tensors may live in approximate DRAM, shown on data.

The verb of this lever. What it finds are predictions of energy and time, and measured accuracies: the
errors are injected for real, nothing changes a memory's settings.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from amble import inputs
from amble.core import files
from amble.core.errors import Refused
from amble.core.files import Format
from amble.core.spreading import OnProgress, Spread, in_order
from amble.core.variants import Allowance
from amble.inputs.examples import to_find as halves
from amble.levers.memory import mapping as planning
from amble.levers.memory import modules as memory
from amble.levers.memory import tolerance
from amble.levers.memory.ahead import Ahead, AtRates
from amble.levers.memory.energy import Module
from amble.levers.memory.partitions import BandEnergy, DramPlan, LayerMemory, Partition, Setting, Stored
from amble.levers.memory.profiles import MemoryProfile
from amble.levers.memory.proving import SEEDS_APART, Faulty, Proving, on_module, trials
from amble.levers.memory.retraining import lesson, retrained
from amble.levers.memory.tolerance import Judged, Known, Rule, Tolerance, Trial
from amble.levers.memory.traffic import moved
from amble.runtimes.onnx.faulty import FaultyOnnx
from amble.runtimes.onnx.refusals import door
from amble.stages.measure.accuracy import Examples

__all__ = [
    "FACTORS",
    "SEEDS_APART",
    "Dram",
    "Faulty",
    "Memories",
    "Proving",
    "borne",
    "by_layer",
    "dram",
    "halves",
    "mapped",
    "on_module",
    "stored",
    "trials",
]

_DECADES = (-9.0, -1.0, 0.25)  # of the coarse search
_NUM_PARTITIONS = 8
_MOST_BER = 0.05  # settings beyond are not worth offering
_FINE_FACTOR = 4.0
FACTORS = (1.0, 10.0, 100.0)
"""Of bit errors at low voltage over the lower bound that is known (decision 3)."""


@dataclass(frozen=True, slots=True)
class _Judgement:
    rates: dict[str, float]
    judged: Judged
    of: str = ""  # key of the network, its examples, the rule and the seed


_KEPT = Format("tolerance", 1, list[_Judgement])


@dataclass(frozen=True, slots=True)
class Dram:
    """A network, its examples and a memory; what may be lost, and how errors are looked for.

    ``dram`` names the chips whose currents count, ``module`` the modules whose errors do, ``system`` what is around
    them. ``factor``: bit errors over the lower bound that voltage data give (1, 10 or 100); ``spreads``: standard
    deviations by which a module is worse than the vendor's typical one. ``fine`` finds a rate for each tensor, and
    takes long. ``keep`` is a file for the rates that a stopped search has found; ``hardened`` one for the network that
    checks the bounds of its feature maps itself. ``retrain``: so many epochs on examples of which neither half makes
    use (needs ``hardened`` and the extra ``torch``); what that costs of the accuracy counts as lost.
    """

    model: str | Path
    data: str | Path
    dram: str
    module: str
    system: str = "cpu"
    max_loss: str = "1pt"
    factor: float = 10.0
    spreads: float = 0.0
    examples: int = 200
    fine: bool = False
    retrain: int = 0
    seed: int = 0
    keep: Path | None = None
    hardened: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what no search can begin with."""
        if not 1.0 <= self.factor < math.inf:
            raise ValueError(f"--factor is 1 or more, usually 1, 10 or 100, not {self.factor}")
        if not 0.0 <= self.spreads < math.inf:
            raise ValueError(f"--spreads is 0 or more standard deviations, not {self.spreads}")
        if self.retrain and self.hardened is None:
            raise Refused("a retrained network needs a file to be written to: name one with --hardened")

    @property
    def about(self) -> str:
        """Return how the user knows the network."""
        return str(self.model)


def dram(
    model: str | Path,
    *,
    data: str | Path,
    dram: str,
    module: str,
    system: str = "cpu",
    max_loss: str = "1pt",
    factor: float = 10.0,
    spreads: float = 0.0,
    examples: int = 200,
    fine: bool = False,
    retrain: int = 0,
    seed: int = 0,
    keep: Path | str | None = None,
    hardened: Path | str | None = None,
    on_progress: OnProgress = lambda what, done, total: None,
    spread: Spread = in_order,
) -> DramPlan:
    """Find the error rates a network bears, map its tensors to partitions, and show the mapping on other data.

    The arguments are those of `Dram`; ``spread`` does the trials with errors. One half of the examples (at most so
    many) finds the rates, the other (at most three times as many) verifies: 72 modules or more, their errors clustered
    on bitlines, must all keep the target. Refused where no mapping can be shown to keep the target, and for data
    without labels.
    """
    searched = (factor, spreads, examples, fine, retrain, seed)
    places = tuple(None if each is None else Path(each) for each in (keep, hardened))
    return mapped(Dram(model, data, dram, module, system, max_loss, *searched, *places), on_progress, spread)


@door
def mapped(
    wanted: Dram, on_progress: OnProgress = lambda what, done, total: None, spread: Spread = in_order
) -> DramPlan:
    """Do what `dram` does, as one request asks for it."""
    keep, seed = wanted.keep, wanted.seed
    for place in (keep, wanted.hardened):
        if place is not None:
            files.try_writing(place)
    made, profile = memory.module(wanted.dram, wanted.system), memory.profile(wanted.module)
    allowed, graph = Allowance.parse(wanted.max_loss), inputs.load(wanted.model)
    if not graph.inputs:
        raise Refused(f"{graph.name} takes no inputs, so that no examples can be given to it; export it with one")
    data, name = wanted.data, graph.inputs[0].name
    found, judged = halves(data, name, wanted.examples, lambda: inputs.labelled(str(data), graph))
    network = Faulty.of(FaultyOnnx(Path(graph.source)), found)
    most = allowed.points(network.clean) / 100.0
    if wanted.retrain:
        given = lesson(data, name, len(found), lambda: inputs.labelled(str(data), graph))
        learn = partial(retrained, Path(graph.source), given, epochs=wanted.retrain, seed=seed, on_progress=on_progress)
        network, most = _after(network, learn, most, judged)
        keep = None if keep is None else keep.with_name(f"{keep.name}.{wanted.retrain}")
    if most <= 0.0:
        raise Refused(
            f"a loss of {wanted.max_loss} allows nothing, which no number of examples shows; allow a little, as 0.1pt"
        )
    rule = Rule(max_loss=most, resolution=1.0 / len(found))
    known = _Kept(keep, _named(network, rule, seed), lambda done: on_progress("rates judged", done, 0))
    with closing(Ahead(AtRates(network), spread, rule.max_trials)) as trial:
        bears = borne(network, rule, trial, known=known, fine=wanted.fine, seed=seed)
    proving = Proving(network.on(judged), profile, most, seed, on_progress, spread=spread)
    memories = Memories(made, profile, wanted.factor, wanted.spreads)
    plan = _mapped(network, bears.rates, memories, proving, flops=sum(each.flops for each in graph.operators))
    if wanted.hardened is not None:
        files.write_bytes(wanted.hardened, network.hardened().SerializeToString())
    return replace(plan, precision=graph.precision)


def _after(network: Faulty, learn: Callable[[Path], Path], most: float, judged: Examples) -> tuple[Faulty, float]:
    """Return the network that ``learn`` writes to a file, and what it may still lose.

    What that costs is the worse of the two halves: the proof compares the new network with itself, on ``judged``.
    """
    with tempfile.TemporaryDirectory(prefix="amble-") as folder:
        after = Faulty.of(FaultyOnnx(learn(Path(folder) / "retrained.onnx")), network.examples)
    cost = max(0.0, network.clean - after.clean, network.on(judged).clean - after.on(judged).clean)
    if cost >= most:
        raise Refused(f"retraining cost {cost * 100:.3g} points by itself; allow more loss, or give more examples")
    return after, most - cost


def _mapped(
    network: Faulty, rates: Mapping[str, float], memories: Memories, proving: Proving, *, flops: float
) -> DramPlan:
    """Map within these rates, prove it, and say all that a mapping says but the precision."""
    duration_s, tensors = stored(network, rates, memories.made, flops)
    partitions = memories.partitions(duration_s)
    plan = planning.verified(lambda each: planning.assign(each, partitions), tensors, proving, blame=proving.blame)
    limited = [replace(each, most_ber=plan.limits[each.name]) for each in tensors]
    return replace(
        by_layer(plan, network, memories.made, duration_s),
        band=memories.band(limited, duration_s),
        labels=memories.labels(duration_s),
        bounds={name: (each.low, each.high) for name, each in network.bounds.items()},
    )


class _Kept(dict[tuple[tuple[str, float], ...], Judged]):
    """Judgements that are written to a file as they are made; those ``of`` something else are not taken from it."""

    def __init__(self, path: Path | None, of: str, told: Callable[[int], None]) -> None:
        self._path, self._of, self._told = path, of, told
        known = files.load(path, _KEPT) if path is not None and path.exists() else []
        super().__init__({tuple(sorted(each.rates.items())): each.judged for each in known if each.of == of})

    def __setitem__(self, key: tuple[tuple[str, float], ...], value: Judged) -> None:
        super().__setitem__(key, value)
        if self._path is not None:
            judgements = [_Judgement(dict(rates), judged, self._of) for rates, judged in self.items()]
            files.save(judgements, self._path, _KEPT)
        self._told(len(self))


def _named(network: Faulty, rule: Rule, seed: int) -> str:
    """Return a key of all that a judgement rests on: the network, the examples, the rule and the seed."""
    digest = hashlib.blake2b(f"{rule} {seed}".encode(), digest_size=16)
    digest.update(network.network.model.SerializeToString(deterministic=True))
    for values in (*network.examples.inputs.values(), network.examples.labels):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def borne(network: Faulty, rule: Rule, trial: Trial, *, known: Known, fine: bool, seed: int) -> Tolerance:
    """Find the rates that the network bears."""
    found = tolerance.coarse(trial, network.types, rule, known=known, seed=seed, decades=_DECADES)
    if not fine:
        return found
    return tolerance.fine(trial, found.rates, rule, known=known, seed=seed, factor=_FINE_FACTOR)


def stored(network: Faulty, rates: Mapping[str, float], made: Module, flops: float) -> tuple[float, list[Stored]]:
    """Return the time of one inference [s], and each tensor with its size, limit and traffic."""
    one = network.network.observe({name: value[:1] for name, value in network.examples.inputs.items()})
    weights = network.network.weights
    read: dict[str, float] = dict.fromkeys(network.types, 0.0)
    written = dict(read)
    for layer in network.network.layers:
        traffic = moved(weights[layer.weights].nbytes if layer.weights else 0, one[layer.input].nbytes, made.system)
        read[layer.input] += traffic.input_read
        written[layer.input] = traffic.input_written
        if layer.weights:
            read[layer.weights] += traffic.weights_read
    sizes = {**{name: value.nbytes for name, value in one.items()}, **{n: v.nbytes for n, v in weights.items()}}
    tensors = [Stored(name, sizes[name], rates[name], read[name], written[name]) for name in network.types]
    num_bytes = sum(read.values()) + sum(written.values())
    system = made.system
    return max(flops / system.flops_hz, num_bytes / system.bandwidth_bytes_hz), tensors


@dataclass(frozen=True, slots=True)
class Memories:
    """A module of chips with their currents, and the modules whose errors it is taken to have.

    ``factor``: bit errors at low voltage over their lower bound; ``spreads``: standard deviations worse than typical.
    """

    made: Module
    profile: MemoryProfile
    factor: float = 10.0
    spreads: float = 0.0

    def partitions(self, duration_s: float) -> list[Partition]:
        """Offer every bank at every point that was measured and has errors few enough, for so long an inference."""
        return [
            Partition(f"bank{bank}", self.made.size_bytes // _NUM_PARTITIONS, tuple(self._settings(bank, duration_s)))
            for bank in range(_NUM_PARTITIONS)
        ]

    def _settings(self, bank: int, duration_s: float) -> Iterator[Setting]:
        """Yield nominal operation first."""
        nominal, *others = self.profile.points()
        for point in (nominal, *(each for each in others if each != nominal)):
            rate = self.profile.ber(point, bank, ones=0.5, factor=self.factor, spreads=self.spreads)
            if rate <= _MOST_BER:
                ratio = point.voltage_ratio
                yield Setting(
                    point=point,
                    ber=rate,
                    held_j=self.made.held_w(ratio, point.refresh_s) * duration_s / _NUM_PARTITIONS,
                    read_j=self.made.read_j(ratio),
                    written_j=self.made.written_j(ratio),
                    read_s=self.made.read_s(point.trcd_s, point.trp_s),
                )

    def band(self, tensors: Sequence[Stored], duration_s: float) -> tuple[BandEnergy, ...]:
        """Map the same tensors with bit errors at low voltage at 1, 10 and 100 times their lower bound."""
        found = []
        for factor in FACTORS if self.profile.voltage is not None else ():
            partitions = replace(self, factor=factor).partitions(duration_s)
            found.append(BandEnergy(factor, planning.assign(tensors, partitions).energy_j))
        return tuple(found)

    def labels(self, duration_s: float) -> tuple[str, ...]:
        """Say what a mapping rests on."""
        made, profile = self.made, self.profile
        voltage = profile.voltage is not None and profile.voltage.counted == "lines"
        bound = f"; at low voltage {self.factor:g} times the lower bound that is known" if voltage else ""
        which = f"{self.spreads:g} standard deviations worse than typical" if self.spreads else "typical ones"
        return (
            "energy and time are predicted: no memory was run outside its ratings",
            f"errors: {profile.name}, {profile.kind.upper()} modules, {which}{bound}",
            f"currents: {made.chip.source}, {made.chip.standard}, of the array supply {made.shares.transfer:.0%} of "
            f"transfers and {made.shares.background:.0%} of background (assumed); voltages carry over relative to "
            "nominal",
            f"system: {made.system.name} ({made.system.note}), {duration_s * 1e3:.3g} ms an inference (predicted)",
        )


def by_layer(plan: DramPlan, network: Faulty, made: Module, duration_s: float) -> DramPlan:
    """Return the plan with what each layer moves, and with the power of holding the rest of its energy."""
    homes = {each.tensor: each.partition for each in plan.placed}
    one = network.network.observe({name: value[:1] for name, value in network.examples.inputs.items()})
    weights = network.network.weights

    def moved_j(tensor: str, read: float, written: float, *, lowered: bool) -> float:
        ratio = plan.settings[homes[tensor]].voltage_ratio if lowered else 1.0
        return read * made.read_j(ratio) + written * made.written_j(ratio)

    layers, seen = [], set[str]()
    for each in network.network.layers:
        size = weights[each.weights].nbytes if each.weights else 0
        traffic = moved(size, one[each.input].nbytes, made.system)
        parts = [(each.input, traffic.input_read, 0.0 if each.input in seen else traffic.input_written)]
        parts += [(each.weights, traffic.weights_read, 0.0)] if each.weights else []
        seen.add(each.input)
        layers.append(
            LayerMemory(
                layer=each,
                partitions=tuple(dict.fromkeys(homes[name] for name, _, _ in reversed(parts))),
                moved_j=sum(moved_j(*part, lowered=True) for part in parts),
                nominal_j=sum(moved_j(*part, lowered=False) for part in parts),
            )
        )
    return replace(
        plan,
        layers=tuple(layers),
        held_w=(plan.energy_j - sum(each.moved_j for each in layers)) / duration_s,
        nominal_held_w=(plan.nominal_j - sum(each.nominal_j for each in layers)) / duration_s,
    )
