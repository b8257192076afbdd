"""Networks, a simulated board, a server and links → questions to the planner of splits.

Networks are prepared as `amble split` prepares them, in operators of the standard, with costs measured on the simulated
board and fitted. A `Thinned` device is the same with fewer pairs of clocks, and clocks that settle at once or not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from amble.core.graph import Graph
from amble.core.point import Clocks
from amble.core.ports import CostModel, CostTable, FloatArray
from amble.core.profile import SwitchCost
from amble.core.schedule import Deadline
from amble.core.subject import Where
from amble.levers.split.cuts import PRECISIONS, Cut, cuts
from amble.levers.split.halves import PORTABLE
from amble.levers.split.link import Radio
from amble.levers.split.planning import Question, Server
from amble.runtimes.onnx.network import Network
from bench.models import networks

__all__ = ["CHIP", "NETWORKS", "PERCENTILE", "RADIO", "Case", "Thinned", "case", "ladder"]

NETWORKS = ("alexnet", "vgg19", "resnet152", "mobilenetv2", "bert_mini")
CHIP = "jetson-tx2"
PERCENTILE = 0.99
RADIO = Radio("0.8W", 0.8)  # a power while it is on, nothing for each bit
TIMES_FASTER = 8.0


@dataclass(frozen=True, slots=True)
class Case:
    """A network with its costs on the board and its cuts."""

    name: str
    graph: Graph
    costs: CostModel
    cuts: tuple[Cut, ...]
    complete: bool


@cache
def case(name: str, chip: str = CHIP) -> Case | None:
    """Prepare a network and measure it on the simulated board; None where its file was not built."""
    path = networks.MODELS / f"{name}.onnx"
    if not path.exists():
        return None
    network = Network.open(path, 1, networks.SHAPES.get(name, {}), PORTABLE)
    found = cuts(network.model.graph, network.tensors, network.graph.outputs)
    return Case(name, network.graph, networks.costs(network.graph, chip), found.cuts, found.complete)


@dataclass(frozen=True, eq=False)
class Thinned:
    """Costs at some points only; ``settles`` tells whether clocks take time to settle. Times can be replaced."""

    costs: CostModel
    whole: CostTable
    keep: tuple[int, ...]
    settles: bool = True
    latency_s: FloatArray | None = None  # [operator, point of those kept]
    energy_j: FloatArray | None = None

    @property
    def where(self) -> Where:
        """Return the board."""
        return self.costs.where

    @property
    def switches(self) -> tuple[SwitchCost, ...]:
        """Return what changes of clocks cost."""
        known = self.costs.switches
        return known if self.settles else tuple(replace(each, settle_s=0.0) for each in known)

    def table(self, graph: Graph) -> CostTable:
        """Return the costs at the points kept."""
        keep = list(self.keep)
        latency_s = self.whole.latency_s[:, keep] if self.latency_s is None else self.latency_s
        energy_j = self.whole.energy_j[:, keep] if self.energy_j is None else self.energy_j
        return replace(
            self.whole, points=tuple(self.whole.points[each] for each in keep), latency_s=latency_s, energy_j=energy_j
        )

    def idle_w(self, clocks: Clocks) -> float | None:
        """Return the idle power [W]."""
        return self.costs.idle_w(clocks)

    def margin(self, percentile: float) -> float:
        """Return the margin of the costs as they were fitted."""
        return self.costs.margin(percentile)


def ladder(of: Case, num_cores: int, num_memories: int) -> tuple[int, ...]:
    """Return points of so many core clocks, highest first, and so many memory clocks of the upper half."""
    table = of.costs.table(of.graph)
    cores, memories = (
        sorted({each.clocks.of(domain) or 0.0 for each in table.points}) for domain in ("core", "memory")
    )
    kept = cores[-num_cores:]
    upper = memories[len(memories) // 2 :]
    places = np.unique(np.linspace(0, len(upper) - 1, num_memories).round().astype(int)) if num_memories > 1 else [-1]
    some = [upper[each] for each in places]
    return tuple(
        index
        for index, point in enumerate(table.points)
        if point.clocks.core_hz in kept and point.clocks.memory_hz in some
    )


def top_s(of: Case) -> float:
    """Return the time [s] of the whole network at the quickest clocks, at the percentile."""
    return float(of.costs.table(of.graph).latency_s.sum(axis=0).min()) * of.costs.margin(PERCENTILE)


def server(of: Case, times_faster: float = TIMES_FASTER) -> Server:
    """Return a server so many times as fast as the board at its quickest clocks."""
    latency_s = of.costs.table(of.graph).latency_s
    quickest_s = latency_s[:, int(latency_s.sum(axis=0).argmin())]
    return Server(f"{times_faster:g}x", tuple((quickest_s / times_faster).tolist()))


def question(of: Case, costs: CostModel, deadline_s: float, *, exact: bool = False) -> Question:
    """Ask for the best split under a deadline; a request comes every deadline."""
    wanted = Deadline(deadline_s, PERCENTILE)
    return Question(of.graph, costs, of.cuts, server(of), wanted, deadline_s, PRECISIONS, exact)
