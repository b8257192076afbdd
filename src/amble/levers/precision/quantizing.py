"""The verb ``quantize``: a network and examples → its cheaper variants, chosen by measurement on a device.

The verb of this lever. Nothing is printed here.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from amble import inputs
from amble.core import files
from amble.core.errors import Refused
from amble.core.examples import Examples
from amble.core.graph import Graph
from amble.core.point import OperatingPoint
from amble.core.ports import Device, FloatArray
from amble.core.processor import Processor
from amble.core.spreading import OnProgress, Spread, in_order
from amble.core.variants import FORMAT as VARIANTS
from amble.core.variants import Allowance, Variant, Variants
from amble.inputs.examples import to_calibrate
from amble.levers.precision import mixing as precision
from amble.levers.precision import sensitivity
from amble.levers.precision.candidates import Workshop
from amble.levers.precision.choose import Tried, measured
from amble.levers.precision.sensitivity import Sensitivity
from amble.levers.precision.trying import Attempt, Layers, Trying, bench_of, put_down
from amble.runtimes import processors
from amble.runtimes.onnx import attribution
from amble.runtimes.onnx.quantizing import layers
from amble.runtimes.onnx.reading import plain
from amble.runtimes.onnx.refusals import door
from amble.runtimes.onnx.sessions import Sessions
from amble.stages.measure import accuracy
from amble.stages.measure.comparison import Comparison

__all__ = ["FILE", "graphs", "quantize"]

FILE = "variants.json"

_WORTH = 1.1  # times as fast, for a variant to make mixes of
_KEPT = "sensitivity.json"
_SAMPLE = 64  # examples for the sensitivity of layers
_PROFILED = 30  # runs of each profile
_MIXED = "mixed-"  # and its number
_SHARES = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)  # of the allowance, that mixes are planned with


@dataclass(frozen=True, slots=True)
class _Data:
    """Examples by what they are for; ``final`` chooses nothing."""

    name: str
    calibration: Examples
    judged: Examples
    final: Examples | None = None


@dataclass(frozen=True, slots=True)
class _Trial:
    """What every attempt is held to; ``points`` is the accuracy that may be lost.

    Networks are made in ``folder``, which goes in the end; what is known of layers is kept in ``output``. What needs
    nothing of other attempts is handed to ``spread``.
    """

    graph: Graph
    bench: Comparison
    folder: Path
    output: Path
    points: float
    spread: Spread


@dataclass(frozen=True, slots=True)
class Quantize:
    """A network, a device and a folder; what its variants may lose, and how they are judged.

    ``data`` is an ``.npz`` file (an array for each input, and ``labels`` if there are any) or ``bundled``. At most
    ``examples`` of it are answered by each variant; others calibrate. ``max_loss`` is in points (``1pt``) or relative
    (``0.5%``). With ``mixed`` single operators may stay in floating point where the planner finds that worth it.
    ``alike`` is the least cosine to the network's own answer that counts as agreement where answers are no scores.
    Times are compared in so many ``rounds``. ``processor`` is the CPU to make them for, unless told the one of this
    machine: where it cuts INT8 sums at 16 bits, variants that cannot lose any are tried beside the others.
    """

    model: str | Path
    data: str | Path | None
    device: str
    output: Path
    max_loss: str = "1pt"
    batch: int = 1
    shapes: Mapping[str, tuple[int, ...]] | None = None
    examples: int = 2000
    mixed: bool = False
    alike: float = accuracy.ALIKE
    rounds: int = 15
    processor: Processor | None = None

    @property
    def about(self) -> str:
        """Return how the user knows the network."""
        return str(self.model)


def quantize(
    model: str | Path,
    *,
    data: str | Path | None,
    device: str,
    output: Path | str,
    max_loss: str = "1pt",
    batch: int = 1,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    examples: int = 2000,
    mixed: bool = False,
    alike: float = accuracy.ALIKE,
    rounds: int = 15,
    processor: Processor | None = None,
    on_progress: OnProgress = lambda what, done, total: None,
    spread: Spread = in_order,
) -> Variants:
    """Try every cheaper variant of a network on a device; keep, in the folder ``output``, those worth having.

    The arguments are those of `Quantize`; variants are made and answer where ``spread`` does its work, and are timed
    here. Refused without data, and whenever the network itself cannot be read.
    """
    wanted = Quantize(
        model, data, device, Path(output), max_loss, batch, shapes, examples, mixed, alike, rounds, processor
    )
    return quantized(wanted, on_progress, spread)


def _loaded(wanted: Quantize, shapes: Mapping[str, tuple[int, ...]]) -> Graph:
    """Load the network for these shapes; Refused, with the array that is to blame, where the data's do not fit it."""
    try:
        return inputs.load(wanted.model, batch=wanted.batch, shapes=shapes)
    except Refused:
        if not wanted.shapes:
            own = inputs.load(wanted.model, batch=wanted.batch).shapes
            for name, (_, *shape) in shapes.items():
                if name in own and (takes := list(own[name][1:])) != shape:
                    told = f"{wanted.data}: examples of {name} are {shape} each, {wanted.model} takes {takes}"
                    raise Refused(told) from None
        raise


@door
def quantized(
    wanted: Quantize, on_progress: OnProgress = lambda what, done, total: None, spread: Spread = in_order
) -> Variants:
    """Do what `quantize` does, as one request asks for it."""
    allowed, output = Allowance.parse(wanted.max_loss), wanted.output
    files.try_writing(output, folder=True)
    found = _read(wanted)
    shapes = wanted.shapes or accuracy.shapes_of(found.judged, wanted.batch)
    graph = _loaded(wanted, shapes)
    fit = _fitting(found, graph)
    opened = inputs.open(wanted.device)
    bench = replace(
        bench_of(opened, wanted.device, graph, fit.judged),
        alike=wanted.alike,
        num_rounds=wanted.rounds,
        on_progress=on_progress,
    )
    own = inputs.twin(wanted.device)
    answering = bench if own is None else replace(bench, device=own)
    with _kept(output), tempfile.TemporaryDirectory(prefix="amble-") as folder:
        cpu = wanted.processor or processors.here()
        source, feeds = plain(Path(graph.source), Path(folder) / "plain"), _feeds(fit.calibration, graph)
        workshop = Workshop(source, Path(folder), feeds, cpu.saturates)
        _spare(Path(graph.source), output, [each.name for each in workshop.candidates()])
        points = allowed.points(bench.quality(graph).share.ratio.value)
        trial = _Trial(graph, bench, Path(folder), output, points, spread)
        trying = Trying(workshop, answering, wanted.device)
        attempts = _whole(trial, trying)
        if wanted.mixed:
            attempts += _mixed(trial, trying, attempts, fit.judged)
        made = _verdicts(trial, attempts)
        described = _described(_counted(made, cpu), graph, replace(opened, machine=cpu), allowed, fit, bench)
        variants = _with_final(described, fit, bench, trial.folder)
        _keep(variants, trial)
    return variants


def _spare(source: Path, output: Path, names: Iterable[str]) -> None:
    """Refuse to write variants where one of them would replace the network itself."""
    taken = source.stem in names or source.stem.startswith(_MIXED)
    if taken and source.resolve().parent == output.resolve():
        raise Refused(f"a variant called {source.name} would replace the network itself; choose another folder with -o")


@contextmanager
def _kept(output: Path) -> Iterator[None]:
    """Make the folder for what is kept, and take it away again if nothing was, as after a refusal."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"cannot save in {output}: {error.strerror or error}; choose another folder with -o") from error
    try:
        yield
    finally:
        with suppress(OSError):  # not empty
            output.rmdir()


def _counted(made: list[Variant], cpu: Processor) -> list[Variant]:
    """Say in every reason how many INT8 products saturate."""
    return [replace(each, reason=each.reason + processors.told(each.saturations, cpu)) for each in made]


def graphs(path: Path, *, batch: int | None = None, processor: Processor | None = None) -> dict[str, Graph]:
    """Read the variants that were kept, from their file → for each precision the network that is fastest there.

    The graphs are labelled with their precision, so that a runner serves each one at that point and no other. Refused
    where INT8 was judged with exact sums and ``processor``, this machine's CPU unless told, is known to cut some.
    """
    variants = files.load(path, VARIANTS)
    names = dict.fromkeys(each.precision for each in variants.kept)
    processors.check(variants, [variants.fastest(name) for name in names], path, processor)
    size = batch or variants.subject.batch
    shapes = {name: (size, *shape[1:]) for name, shape in variants.subject.shapes.items()}
    found = {}
    for name in names:
        chosen = variants.fastest(name)
        source = path.parent / chosen.file
        found[name] = replace(inputs.load(source, batch=size, shapes=shapes), precision=name)
    return found


def _read(wanted: Quantize) -> _Data:
    if wanted.data is None:
        graph = inputs.load(wanted.model, batch=wanted.batch, shapes=wanted.shapes)
        needed = ", ".join(
            f"{port.name} [examples{''.join(f', {n}' for n in port.shape[1:])}]" for port in graph.inputs
        )
        raise Refused(
            f"INT8 needs examples to set its ranges, and every variant some to be judged by: give --data FILE.npz with "
            f"the arrays {needed}, and labels [examples] if there are any"
        )
    return _Data(str(wanted.data), *to_calibrate(str(wanted.data), wanted.examples))


def _fitting(found: _Data, graph: Graph) -> _Data:
    fit = partial(accuracy.fitting, graph=graph, name=found.name)
    final = None if found.final is None else fit(found.final)
    return _Data(found.name, fit(found.calibration), fit(found.judged), final)


def _feeds(calibration: Examples, graph: Graph) -> list[Mapping[str, np.ndarray]]:
    return [calibration.batch(first, graph.batch) for first in range(0, len(calibration), graph.batch)]


def _whole(trial: _Trial, trying: Trying) -> list[Tried | Variant]:
    """Try every whole-network variant."""
    candidates = trying.workshop.candidates()
    found = trial.spread(trying, [Attempt(each.name) for each in candidates], trial.bench.on_progress)
    return [put_down(each, one, trial.folder, trial.bench) for each, one in zip(candidates, found, strict=True)]


def _verdicts(trial: _Trial, attempts: list[Tried | Variant]) -> list[Variant]:
    """Time what runs side by side → the reference and the verdicts, in the order of the attempts."""
    running = [each for each in attempts if isinstance(each, Tried)]
    reference, *verdicts = measured(trial.graph, running, trial.bench, trial.points)
    by_name = {each.name: each for each in (*verdicts, *(a for a in attempts if isinstance(a, Variant)))}
    names = [each.candidate.name if isinstance(each, Tried) else each.name for each in attempts]
    return [replace(reference, quality=trial.bench.quality(trial.graph).share), *(by_name[name] for name in names)]


def _keep(variants: Variants, trial: _Trial) -> None:
    """Put the networks that are kept, and what is told of them, where those of an earlier call were: all or nothing."""
    earlier = {f"{each.name}.onnx" for each in variants.variants[1:]}
    with suppress(Refused):  # there is none, or none that can be read
        earlier |= {f"{each.name}.onnx" for each in files.load(trial.output / FILE, VARIANTS).variants[1:]}
    with files.renewed(trial.output, index=FILE, others=earlier) as made:
        for each in variants.variants[1:]:
            if each.file:
                shutil.copy(trial.folder / each.file, made / each.file)
        files.save(variants, made / FILE, VARIANTS)


def _mixed(trial: _Trial, trying: Trying, attempts: list[Tried | Variant], judged: Examples) -> list[Tried]:
    """Try the mixes that the planner proposes, for ever smaller budgets of estimated loss until one is kept."""
    whole = _base(trial, attempts)
    if whole is None:
        return []
    kind, prepared = whole.candidate.name, trying.workshop.prepared
    groups = layers(prepared)
    names = attribution.layer_of_names(prepared.path, groups)
    latency_s, cast_s = _layer_times(trial, whole.graph, names, len(groups))
    order = np.argsort(-latency_s[:, precision.FLOAT]).tolist()
    known = _sensitivity(trial, trying, Layers(kind, groups, judged.rows(0, _SAMPLE)), order)
    loss = precision.share_out(whole.quality.loss.value, sensitivity.squared_errors(known))
    budgets = [np.inf, *(trial.points * share for share in _SHARES)]
    mixes = [each for each in precision.mixes(latency_s, loss, cast_s, budgets=budgets) if each.left]
    wanted = [Attempt(kind, tuple(name for at in each.left for name in groups[at])) for each in mixes]
    found: list[Tried] = []
    with closing(trial.spread(trying, wanted, trial.bench.on_progress)) as answers:
        for mix, attempt, answered in zip(mixes, wanted, answers, strict=False):
            candidate = trying.candidate(attempt, f"{_MIXED}{len(found) + 1}")
            about = f"{candidate.about}, planned {mix.latency_s * 1e3:.3g} ms and {mix.loss:.2g} points of loss"
            made = put_down(replace(candidate, about=about), answered, trial.folder, trial.bench)
            if isinstance(made, Tried):
                found.append(made)
                if (made.quality.loss.high or 0.0) <= trial.points:
                    break
    return found


def _base(trial: _Trial, attempts: list[Tried | Variant]) -> Tried | None:
    """Return the INT8 variant to make mixes of: of those that are faster, the one with the least error."""
    whole = [each for each in attempts if isinstance(each, Tried) and each.candidate.precision == "int8"]
    times_s = trial.bench.times_s([trial.graph, *(each.graph for each in whole)])
    ratios = np.median(times_s[:, [0]] / times_s, axis=0)[1:]
    faster = [each for each, ratio in zip(whole, ratios, strict=True) if ratio > _WORTH]
    return min(faster, key=lambda each: each.quality.squared_error, default=None)


def _layer_times(trial: _Trial, whole: Graph, names: Mapping[str, int], num: int) -> tuple[FloatArray, FloatArray]:
    """Profile the network in FP32 and in INT8 → the times of its layers [layer, 2] and of casts between [layer + 1]."""
    device, sessions = trial.bench.device, Sessions()
    latency_s, cast_s = np.zeros((num, 2)), np.zeros(num + 1)
    for column, each in ((precision.FLOAT, trial.graph), (precision.INT8, whole)):
        point = OperatingPoint(device.actuator.current(), each.precision)
        times_s = [timing.latency_s for timing in device.runner.profile(each, point, _PROFILED).operators]
        layer_of = attribution.layer_of_operators(each, sessions, names)
        np.add.at(latency_s[:, column], layer_of, times_s)
        if column == precision.FLOAT:
            cast_s = attribution.widths(each, layer_of, num)
        else:
            cast_s *= attribution.cast_rate_s(each, times_s)
    return latency_s, cast_s


def _sensitivity(trial: _Trial, trying: Trying, wanted: Layers, order: list[int]) -> Sensitivity:
    """Measure what each layer's INT8 alone does to the scores of a few examples."""
    name = trying.workshop.int8(wanted.kind).name
    empty = Sensitivity(f"{trial.graph.digest} {name}", len(wanted.groups), len(wanted.sample))
    return sensitivity.measure(
        empty,
        partial(trying.error_of, wanted),
        order=order,
        keep=trial.output / _KEPT,
        on_progress=partial(trial.bench.on_progress, "one layer at a time"),
        spread=trial.spread,
    )


def _described(
    made: list[Variant], graph: Graph, opened: Device, allowed: Allowance, data: _Data, bench: Comparison
) -> Variants:
    reference = made[0]
    assert reference.quality is not None
    kept = [each for each in made if each.verdict == "kept" and each.speedup is not None]
    chosen = max(kept, key=lambda each: each.speedup.value if each.speedup else 0.0, default=reference)
    return Variants(
        graph.subject,
        opened.where,
        allowed=allowed,
        allowed_points=allowed.points(reference.quality.ratio.value),
        metric=bench.metric,
        data=data.name,
        num_calibration=len(data.calibration),
        num_judged=len(data.judged),
        clock="CPU time of the thread" if bench.now_s is time.thread_time else "the device's own time",
        variants=tuple(made),
        chosen=chosen.name,
    )


def _with_final(variants: Variants, data: _Data, bench: Comparison, folder: Path) -> Variants:
    """Let the chosen variant, in this folder, and the reference answer examples that chose nothing, if there are."""
    if data.final is None or variants.chosen == variants.reference.name:
        return variants
    graph = bench.load(folder / variants.variant(variants.chosen).file)
    theirs = bench.answers(bench.reference, data.final)
    return replace(
        variants,
        final=bench.share(graph, data.final, theirs),
        final_reference=bench.share(bench.reference, data.final, theirs),
    )
