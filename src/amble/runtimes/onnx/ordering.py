"""A network that is prepared again → the same, in the order and with the names that it had the first time.

ONNX Runtime does not always fuse alike: where a network branches, the branches come in one order in one session and in
another in the next, in the same process. Names that it makes up (``ReorderOutput_token_33``) change places then. A
segment is a range of a graph's operators, so a range of the prepared network must be the same operators: the order in
which a process first saw a network is kept, by its digest, for as long as the process lives.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnx

from amble.core.graph import Graph, Operator
from amble.runtimes.onnx.cutting import reads
from amble.runtimes.onnx.execution import Execution
from amble.runtimes.onnx.network import Network

__all__ = ["in_order", "prepared"]

_LOG = logging.getLogger(__name__)
_FIRST: dict[str, Graph] = {}


def prepared(
    path: Path, batch: int, shapes: Mapping[str, tuple[int, ...]], execution: Execution | None = None
) -> Network:
    """Prepare a file as it is to be executed, in the order of the first time; see `Network.open`."""
    network = Network.open(path, batch, shapes, execution)
    return in_order(network, _FIRST.setdefault(network.graph.digest, network.graph))


def in_order(network: Network, graph: Graph) -> Network:
    """Return the network as the graph has it, which may be a segment where that is the network's own range.

    Where ONNX Runtime made other operators of it this time it stays as it came, and the log says so: what is computed
    is the same, and times may be told of other operators than theirs.
    """
    stop = graph.offset + len(graph.operators)
    if network.graph.operators[graph.offset : stop] == graph.operators:
        return network
    nodes = list(network.model.graph.node)
    places = _places(nodes, network.graph.operators, graph.operators)
    if places is None:
        _LOG.warning("ONNX Runtime made other operators of %s than before: their times are uncertain", graph.name)
        return network
    ordered = []
    for place, operator in zip(places, graph.operators, strict=True):
        node = onnx.NodeProto.FromString(nodes[place].SerializeToString())
        node.name = operator.name
        ordered.append(node)
    del network.model.graph.node[:]
    network.model.graph.node.extend(ordered)
    onnx.save(network.model, str(network.path))
    found = replace(network, graph=replace(network.graph, operators=graph.operators))
    weakref.finalize(found, id, network)  # who prepared it removes its folder when nobody holds it any more
    return found


def _places(nodes: list[onnx.NodeProto], found: tuple[Operator, ...], wanted: tuple[Operator, ...]) -> list[int] | None:
    """Return where each wanted operator is among those found: of what can run next the one of its name that does the
    same, else another that does; None where there is none.
    """
    made = {name for node in nodes for name in node.output if name}
    known, left, places = set[str](), dict(enumerate(found)), list[int]()
    if len(found) != len(wanted):
        return None
    for operator in wanted:
        ready = [place for place in left if all(each in known or each not in made for each in reads(nodes[place]))]
        alike = [place for place in ready if replace(left[place], name=operator.name) == operator]
        named = [place for place in alike if left[place].name == operator.name]
        if not alike:
            return None
        places.append((named or alike)[0])
        known |= set(nodes[places[-1]].output)
        del left[places[-1]]
    return places
