"""A torch network → the same with a place behind every tensor that layers with weights read from memory.

What reads a tensor beside such a layer, a shortcut for example, reads it there too: an error or a limit at the place
reaches both, as it does where the tensor lies in memory once.
"""

from __future__ import annotations

from torch import fx, nn

__all__ = ["layers", "placed", "places"]

_LAYERS = (nn.Conv2d, nn.Linear)
_PREFIX = "read_"


def layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return the layers with weights, by name; ValueError where there are none."""
    found = {name: each for name, each in network.named_modules() if isinstance(each, _LAYERS)}
    if not found:
        raise ValueError("the network has no convolution or dense layer to read its tensors from memory")
    return found


def placed(network: nn.Module) -> fx.GraphModule:
    """Return a graph of the network's own layers under their own names, its places doing nothing yet.

    ValueError for a network whose Python torch.fx cannot follow.
    """
    graph = fx.Graph()
    source = network if isinstance(network, fx.GraphModule) else fx.symbolic_trace(network)
    graph.output(graph.graph_copy(source.graph, {}))
    made = fx.GraphModule(source, graph)
    for node in list(graph.nodes):
        if _is_layer(made, node) and not _is_place(node.args[0]):
            _insert(made, node.args[0])
    made.recompile()
    return made.train(network.training)


def places(network: fx.GraphModule) -> dict[str, str]:
    """Return the place at which each layer of a `placed` network reads its input."""
    return {str(node.target): str(node.args[0].target) for node in network.graph.nodes if _is_layer(network, node)}


def _insert(network: fx.GraphModule, tensor: fx.Node) -> None:
    name = f"{_PREFIX}{sum(_is_place(each) for each in network.graph.nodes)}"
    network.add_submodule(name, nn.Identity())
    with network.graph.inserting_after(tensor):
        place = network.graph.call_module(name, ())
    tensor.replace_all_uses_with(place)
    place.args = (tensor,)


def _is_layer(network: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(network.get_submodule(str(node.target)), _LAYERS)


def _is_place(node: fx.Node) -> bool:
    return node.op == "call_module" and str(node.target).startswith(_PREFIX)
