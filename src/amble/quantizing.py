"""The verb ``quantize``: a network and examples → its cheaper variants, chosen by measurement on a device.

A door like `jobs`, in a file of its own. Nothing is printed here.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from amble import bundled, jobs
from amble.adapt.candidates import Workshop
from amble.adapt.choose import Candidate, Tried, measured, tried
from amble.check.intervals import quantile, wilson
from amble.core import files
from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.ports import Device
from amble.core.variants import Allowance, Variant, Variants
from amble.measure import accuracy
from amble.measure.accuracy import Examples
from amble.measure.comparison import Comparison, Statistics

__all__ = ["FILE", "graphs", "quantize"]

FILE = "variants.json"

_MOST_CALIBRATION = 128
_STATISTICS = Statistics(share=wilson, median=partial(quantile, percentile=0.5))

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class _Data:
    """Examples by what they are for; ``final`` chooses nothing."""

    name: str
    calibration: Examples
    judged: Examples
    final: Examples | None = None


def quantize(
    model: str | Path,
    *,
    data: str | Path | None,
    device: str,
    output: Path,
    max_loss: str = "1pt",
    batch: int = 1,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    examples: int = 2000,
    on_progress: OnProgress = lambda what, done, total: None,
) -> Variants:
    """Try every cheaper variant of a network on a device; keep, in the folder ``output``, those worth having.

    ``data`` is an ``.npz`` file (an array for each input, and ``labels`` if there are any) or ``bundled``. At most
    ``examples`` of it are answered by each variant; others calibrate. ``max_loss`` is in points (``1pt``) or relative
    (``0.5%``). Refused without data, and whenever the network itself cannot be read.
    """
    allowed = Allowance.parse(max_loss)
    found = _read(model, data, examples, batch, shapes)
    graph = jobs.load(model, batch=batch, shapes=shapes or accuracy.shapes_of(found.judged, batch))
    fit = _fitting(found, graph)
    opened = jobs.open(device)
    bench = _bench(opened, device, graph, fit.judged, on_progress)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="amble-") as folder:
        workshop = Workshop(Path(graph.source), Path(folder), _feeds(fit.calibration, graph))
        made = _try(workshop.candidates(), graph, bench, output, allowed)
    variants = _with_final(_described(made, graph, opened, allowed, fit, bench), fit, bench, output)
    files.save(variants, output / FILE, jobs.VARIANTS)
    return variants


def graphs(path: Path, *, batch: int | None = None) -> dict[str, Graph]:
    """Read the variants that were kept, from their file → for each precision the network that is fastest there.

    The graphs are labelled with their precision, so that a runner serves each one at that point and no other.
    """
    variants = files.load(path, jobs.VARIANTS)
    size = batch or variants.batch
    shapes = {name: (size, *shape[1:]) for name, shape in variants.shapes.items()}
    found = {}
    for precision in dict.fromkeys(each.precision for each in variants.kept):
        chosen = variants.fastest(precision)
        source = path.parent / chosen.file
        found[precision] = replace(jobs.load(source, batch=size, shapes=shapes), precision=precision)
    return found


def _read(
    model: str | Path, data: str | Path | None, examples: int, batch: int, shapes: Mapping[str, tuple[int, ...]] | None
) -> _Data:
    if data is None:
        graph = jobs.load(model, batch=batch, shapes=shapes)
        needed = ", ".join(
            f"{port.name} [examples{''.join(f', {n}' for n in port.shape[1:])}]" for port in graph.inputs
        )
        raise Refused(
            f"INT8 needs examples to set its ranges, and every variant some to be judged by: give --data FILE.npz with "
            f"the arrays {needed}, and labels [examples] if there are any"
        )
    if data != "bundled":
        return _parted(accuracy.read_arrays(Path(data)), str(data), examples)
    held_out, final = (_fashion(split) for split in ("held_out", "test"))
    return replace(_parted(held_out, "bundled", examples), final=final)


def _fashion(split: str) -> Examples:
    images, labels = bundled.fashion_mnist("test" if split == "test" else "held_out")
    return Examples({"image": bundled.model_input(images)}, labels.astype(np.int64))


def _parted(found: Examples, name: str, examples: int) -> _Data:
    """Take the first examples for calibration, others to judge by: never the same."""
    num = min(_MOST_CALIBRATION, len(found) // 4)
    if not num:
        raise Refused(f"{name} has {len(found)} examples; give at least 4, and some hundreds to judge by")
    return _Data(name, found.rows(0, num), found.rows(num, min(len(found), num + examples)))


def _fitting(found: _Data, graph: Graph) -> _Data:
    fit = partial(accuracy.fitting, graph=graph, name=found.name)
    final = None if found.final is None else fit(found.final)
    return _Data(found.name, fit(found.calibration), fit(found.judged), final)


def _feeds(calibration: Examples, graph: Graph) -> list[Mapping[str, np.ndarray]]:
    return [calibration.batch(first, graph.batch) for first in range(0, len(calibration), graph.batch)]


def _bench(opened: Device, uri: str, graph: Graph, judged: Examples, on_progress: OnProgress) -> Comparison:
    """On this machine the thread's own CPU time counts, which other load does not lengthen."""
    read = partial(jobs.load, batch=graph.batch, shapes=graph.shapes)
    now_s = time.thread_time if uri.partition(":")[0] == "host" else opened.clock.now_s
    return Comparison(opened, graph, judged, _STATISTICS, read, now_s, on_progress=on_progress)


def _try(
    candidates: tuple[Candidate, ...], graph: Graph, bench: Comparison, output: Path, allowed: Allowance
) -> list[Variant]:
    """Try all candidates → the reference and their verdicts, in the order of the candidates."""
    attempts = [tried(each, output, bench) for each in candidates]
    running = [each for each in attempts if isinstance(each, Tried)]
    theirs = bench.quality(graph)
    points = allowed.points(theirs.share.ratio.value)
    reference, *verdicts = measured(graph, running, bench, points)
    by_name = {each.name: each for each in (*verdicts, *(a for a in attempts if isinstance(a, Variant)))}
    return [replace(reference, quality=theirs.share), *(by_name[each.name] for each in candidates)]


def _described(
    made: list[Variant], graph: Graph, opened: Device, allowed: Allowance, data: _Data, bench: Comparison
) -> Variants:
    reference = made[0]
    assert reference.quality is not None
    kept = [each for each in made if each.verdict == "kept" and each.speedup is not None]
    chosen = max(kept, key=lambda each: each.speedup.value if each.speedup else 0.0, default=reference)
    return Variants(
        graph=graph.name,
        source=graph.source,
        digest=graph.digest,
        device=opened.name,
        calibration=opened.calibration,
        batch=graph.batch,
        shapes=graph.shapes,
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


def _with_final(variants: Variants, data: _Data, bench: Comparison, output: Path) -> Variants:
    """Let the chosen variant and the reference answer examples that chose nothing, where there are any."""
    if data.final is None or variants.chosen == variants.reference.name:
        return variants
    graph = bench.load(output / variants.variant(variants.chosen).file)
    theirs = bench.answers(bench.reference, data.final)
    return replace(
        variants,
        final=bench.share(graph, data.final, theirs),
        final_reference=bench.share(bench.reference, data.final, theirs),
    )
