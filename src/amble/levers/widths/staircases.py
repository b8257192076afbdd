"""A network, examples and a device → what pruning works with: the network's channels, its staircases, its prices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from amble import inputs
from amble.core import files
from amble.core.backend import Layers
from amble.core.errors import Refused, how_to_install
from amble.core.examples import Examples
from amble.core.graph import Graph
from amble.core.layers import Probe
from amble.core.point import OperatingPoint
from amble.core.ports import Device, FloatArray, Timings
from amble.inputs.examples import to_learn
from amble.levers.widths.choosing import Pricing, Resource
from amble.levers.widths.forms import Form
from amble.levers.widths.measuring import Effort, empty, staircases
from amble.levers.widths.network import Network, Widths
from amble.levers.widths.results import DesignSpace, Searched
from amble.levers.widths.staircase import FORMAT, StaircaseTable, shape_of
from amble.runtimes.onnx.layers import Precision
from amble.runtimes.onnx.overhead import overhead
from amble.runtimes.onnx.reading import plainly
from amble.stages.check.intervals import quantile, wilson
from amble.stages.measure import accuracy
from amble.stages.measure.comparison import Comparison, Statistics
from amble.stages.measure.rounds import rounds

__all__ = [
    "STATISTICS",
    "TABLE",
    "Given",
    "Narrower",
    "OnProgress",
    "Opened",
    "Work",
    "Worth",
    "anchored",
    "opened",
    "priced",
    "probe_of",
    "space_of",
    "table_of",
    "table_so_far",
]

TABLE = "staircases.json"

STATISTICS = Statistics(share=wilson, median=partial(quantile, percentile=0.5))
_PRODUCTS = (
    "Conv",
    "FusedConv",
    "Gemm",
    "FusedGemm",
    "MatMul",
    "FusedMatMul",
    "ConvTranspose",
    "QLinearConv",
    "QGemm",
    "QLinearMatMul",
)
_REORDERS = ("ReorderInput", "ReorderOutput")
_PROFILED = 30
_ROUNDS = 15
_ELEMENT_BYTES: dict[Precision, int] = {"fp32": 4, "int8": 1}

Worth = Literal["taylor", "l1", "bn"]
OnProgress = Callable[[str, int, int], None]


class Narrower(Protocol):
    """A network that can be had narrower (`amble.levers.widths.narrowing` makes one of an ONNX file)."""

    @property
    def network(self) -> Network:
        """Return its layers and groups, with what every channel is worth."""
        ...

    @property
    def stays(self) -> Mapping[str, str]:
        """Return the layers that keep their channels, with the reasons."""
        ...

    def write(self, widths: Widths, path: Path) -> None:
        """Write it with these widths as an ONNX file, as it is after cutting."""
        ...

    def tune(
        self, widths: Widths, path: Path, *, epochs: int, checkpoint: Path, on_epoch: Callable[[int, float], None]
    ) -> None:
        """Cut, tune (without epochs only set statistics right) and write it; it goes on from its checkpoint."""
        ...

    def epoch_s(self) -> float:
        """Return about how long an epoch of tuning takes [s], from a few batches of the network as it is."""
        ...


Opened = Callable[[Path, npt.NDArray[np.float32], npt.NDArray[np.int64] | None, Worth], Narrower]
"""ONNX file, inputs [example, ...], labels [example] or none, kind of importance → a network that can be narrowed."""


@dataclass(frozen=True, slots=True)
class Work:
    """A network that is to be pruned on a device; ``final`` examples choose nothing and train nothing.

    ``source`` is the network as it was given, ``graph`` as it runs: in INT8 where the ``form`` says so. ``taught``
    tells tunings apart: by which examples, labels and importance.
    """

    source: Graph
    graph: Graph
    device: Device
    uri: str
    narrower: Narrower
    final: Examples
    form: Form
    output: Path
    on_progress: OnProgress
    taught: str = ""

    @property
    def network(self) -> Network:
        """Return the layers and groups."""
        return self.narrower.network

    def load(self, path: Path) -> Graph:
        """Read a narrower network with the same inputs, as it will run."""
        return inputs.load(self.form.of(path), batch=self.graph.batch, shapes=self.graph.shapes)

    def times_s(self, graphs: Sequence[Graph]) -> FloatArray:
        """Time networks side by side, on inputs that the runner makes up [round, graph]."""
        return rounds([partial(self._run, each) for each in graphs], self._now_s, num_rounds=_ROUNDS)

    def today_s(self) -> float:
        """Time the network as it is [s]."""
        return float(np.median(self.times_s([self.graph])))

    def profile(self, graph: Graph) -> Timings:
        """Time a network and its operators at the clocks that run."""
        point = OperatingPoint(self.device.actuator.current(), graph.precision)
        return self.device.runner.profile(graph, point, _PROFILED)

    def bench(self) -> Comparison:
        """Return what compares the answers of narrower networks with this one's."""
        told = self.on_progress
        return Comparison(self.device, self.graph, self.final, STATISTICS, self.load, self._now_s, on_progress=told)

    @property
    def on_host(self) -> bool:
        """Tell whether this machine runs the networks: its thread's own time counts, not that of other load."""
        return inputs.back_end(self.uri).here

    def _now_s(self) -> float:
        return inputs.timer(self.uri, self.device)()

    def _run(self, graph: Graph) -> None:
        self.device.runner.run(graph, OperatingPoint(self.device.actuator.current(), graph.precision), {})


@dataclass(frozen=True, slots=True)
class Given:
    """A network and the examples that it is pruned with, on which device, and the folder for what comes of it.

    ``data`` is an ``.npz`` file (an array for the input, and ``labels`` if there are any) or ``bundled``. Without
    labels, or with ``labels`` false, the network as it was is the teacher and the judge. In ``int8`` staircases, times
    and accuracy are those of the network in INT8.
    """

    model: str | Path
    data: str | Path
    device: str
    output: Path
    batch: int = 1
    labels: bool = True
    importance: Worth = "taylor"
    precision: Precision = "fp32"


def opened(
    given: Given,
    *,
    scratch: Path | None = None,
    narrow: Opened | None = None,
    on_progress: OnProgress = lambda what, done, total: None,
) -> Work:
    """Read a network and its examples, and find out which channels go together.

    Networks in INT8 are kept in ``scratch``, or in the output folder where none is given. Refused without the extra
    ``torch``, for a network that cannot be read with the operator's name, and on devices where no layers can be timed.
    """
    graph = inputs.load(given.model, batch=given.batch)
    parts = to_learn(given.data, labels=given.labels)
    learning, final = (accuracy.fitting(each, graph, str(given.data)) for each in parts)
    target = inputs.open(given.device)
    inputs.refuse_layers(given.device, given.precision)
    (images,) = learning.inputs.values() if len(learning.inputs) == 1 else (None,)
    if images is None:
        raise Refused(f"{graph.name} has {len(learning.inputs)} inputs; only networks with one can be pruned")
    on_progress("ranking channels", 0, 1)
    with plainly(Path(graph.source)) as file:
        narrower = (narrow or _narrowing)(file, images, learning.labels, given.importance)
    form = Form(given.precision, scratch or given.output, learning, graph.batch)
    runs = graph
    if given.precision != "fp32":
        runs = inputs.load(form.of(Path(graph.source)), batch=given.batch, shapes=graph.shapes)
    taught = f"{given.data} {given.labels} {given.importance}"
    return Work(graph, runs, target, given.device, narrower, final, form, given.output, on_progress, taught)


def table_so_far(work: Work) -> StaircaseTable:
    """Return what the output folder has that was measured under the same conditions: perhaps nothing."""
    path = work.output / TABLE
    blank = empty(
        probe_of(work),
        work.device.where,
        dtype=work.form.precision,
        batch=work.graph.batch,
        between=_between_bytes(work),
    )
    kept = files.load(path, FORMAT) if path.exists() else blank
    return kept if kept.fits(blank) else blank


def table_of(work: Work, num_rounds: int = 5) -> StaircaseTable:
    """Measure the staircases of all layers; what the output folder has of the same conditions is not measured again."""
    return staircases(
        [shape_of(each, work.network) for each in work.network.layers],
        probe_of(work),
        table_so_far(work),
        effort=Effort(rounds=num_rounds),
        on_progress=lambda what, done, total: work.on_progress(f"staircase of {what}", done, total),
        on_found=lambda table: files.save(table, work.output / TABLE, FORMAT),
    )


def priced(work: Work, table: StaircaseTable, resource: Resource = "latency") -> Pricing:
    """Measure the whole network → prices of its layers, and of what its layers do not explain.

    Refused for an energy on a device without a meter.
    """
    timings = work.profile(work.graph)
    if resource == "latency":
        costs = [each.latency_s for each in timings.operators]
        whole = timings.whole.latency_s
    else:
        known = [each.energy_j for each in timings.operators if each.energy_j is not None]
        if len(known) < len(timings.operators) or timings.whole.energy_j is None:
            raise Refused(f"{work.device.name} has no meter that can be read; give --latency instead of --energy")
        costs, whole = known, timings.whole.energy_j
    kinds = [operator.kind for operator in work.graph.operators]
    bare = Pricing(work.network, table, resource)
    if not work.on_host:  # layers are timed there without noise, so what is left does not go with their times
        others = sum(cost for cost, kind in zip(costs, kinds, strict=True) if kind not in (*_PRODUCTS, *_REORDERS))
        return replace(bare, rest=whole - others - bare.total({}), others=others)
    return anchored(bare, kinds, costs, whole=whole, entering=overhead().run_s if resource == "latency" else 0.0)


def anchored(
    bare: Pricing, kinds: Sequence[str], costs: Sequence[float], *, whole: float, entering: float = 0.0
) -> Pricing:
    """Return prices that fit the whole network as it is: kinds and costs of its operators in order [operator].

    What layers take inside it beyond their staircases goes with their times: as a constant, a few percent of the whole
    network would be a large error of a narrow one. What comes before the first layer works on the network's inputs,
    whose size stays; so does ``entering`` a run.
    """
    first = next(at for at, kind in enumerate(kinds) if kind in _PRODUCTS)
    after = range(first, len(kinds))
    others = sum(costs[at] for at in after if not _is_layer(kinds, at))
    rest = min(entering + sum(costs[:first]), 0.5 * (whole - others))
    return replace(bare, rest=rest, others=others, scale=(whole - others - rest) / replace(bare, scale=1.0).total({}))


def _is_layer(kinds: Sequence[str], at: int) -> bool:
    """Tell whether an operator is part of a layer's time: it, or a conversion right before it."""
    following = next((kind for kind in kinds[at:] if kind not in _REORDERS), "")
    return following in _PRODUCTS


def _between_bytes(work: Work) -> int:
    return _ELEMENT_BYTES[work.form.precision] * work.network.params()


def space_of(pricing: Pricing, edges: Mapping[str, tuple[int, ...]], graph: Graph) -> DesignSpace:
    """Return the widths worth searching of each group, for a search of architectures."""
    network, table = pricing.network, pricing.table
    found = tuple(
        Searched(each.name, edges[each.name], tuple(layer.name for layer in network.writers(each.name)))
        for each in network.groups
    )
    return DesignSpace(graph.subject, table.where, table.library, found)


def _narrowing(
    path: Path, inputs: npt.NDArray[np.float32], labels: npt.NDArray[np.int64] | None, worth: Worth
) -> Narrower:
    try:
        from amble.levers.widths import narrowing
    except ImportError as error:
        raise Refused(f"pruning needs torch ({error}): {how_to_install('torch')}") from error
    return narrowing.opened(path, inputs, labels, worth=worth)


def probe_of(work: Work) -> Probe:
    """Return what times single layers on the device."""
    return inputs.probe(work.uri, work.device, Layers(work.graph.batch, _between_bytes(work), work.form.precision))
