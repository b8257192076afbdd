"""A network that was prepared again → the same in the order, and with the names, of the graph it was prepared for.

ONNX Runtime does not always fuse alike: where a network branches, the branches come in one order in one session and in
another in the next, in the same process. Names that it makes up (``ReorderOutput_token_33``) change places then. A
segment is a range of a graph's operators, so a range of the prepared network must be the same operators.
"""

from __future__ import annotations

import weakref
from dataclasses import replace

import onnx

from amble.core.errors import Refused
from amble.core.graph import Graph, Operator
from amble.runtimes.onnx.cutting import reads
from amble.runtimes.onnx.network import Network

__all__ = ["in_order"]


def in_order(network: Network, graph: Graph) -> Network:
    """Return the network as the graph has it; Refused where ONNX Runtime made other operators of it this time."""
    if network.graph.operators == graph.operators:
        return network
    nodes = list(network.model.graph.node)
    places = _places(network.graph.operators, graph.operators)
    if places is None or not _runs([nodes[place] for place in places]):
        raise Refused(f"ONNX Runtime made other operators of {graph.name} than when it was loaded; load it again")
    ordered = []
    for place, operator in zip(places, graph.operators, strict=True):
        node = onnx.NodeProto.FromString(nodes[place].SerializeToString())
        node.name = operator.name
        ordered.append(node)
    del network.model.graph.node[:]
    network.model.graph.node.extend(ordered)
    onnx.save(network.model, str(network.path))
    found = replace(network, graph=graph)
    weakref.finalize(found, id, network)  # who prepared it removes its folder when nobody holds it any more
    return found


def _places(found: tuple[Operator, ...], wanted: tuple[Operator, ...]) -> list[int] | None:
    """Return where each wanted operator is among those found: the one of its name, else the next that does the same."""
    left, places = dict(enumerate(found)), dict[int, int]()
    for same_name in (True, False):
        for index, operator in enumerate(wanted):
            if index not in places:
                alike = [place for place, each in left.items() if _same(each, operator, same_name)]
                if alike:
                    places[index] = alike[0]
                    del left[alike[0]]
    return [places[index] for index in range(len(wanted))] if len(places) == len(wanted) == len(found) else None


def _same(one: Operator, other: Operator, same_name: bool) -> bool:
    return one == (other if same_name else replace(other, name=one.name))


def _runs(nodes: list[onnx.NodeProto]) -> bool:
    """Tell whether every node comes after those whose results it reads."""
    made = {name for node in nodes for name in node.output if name}
    known: set[str] = set()
    for node in nodes:
        if any(name in made and name not in known for name in reads(node)):
            return False
        known |= set(node.output)
    return True
