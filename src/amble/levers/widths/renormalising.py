"""A network whose normalisation was folded into its convolutions → the same with normalisation to train by, and back.

Who exports a network folds batch normalisation into the convolutions before it. What was cut of such a network is
thrown off: every layer sums fewer terms, and what it writes has another mean and deviation than the next one was
trained for. So each convolution gets a normalisation again that gives every channel the mean and deviation it had
before the cut (as Jordan et al. do between networks in "REPAIR", 2023), which also lets training take large steps. In
the end it is folded in again: no operator is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

__all__ = ["SUFFIX", "Spread", "folded", "measured", "normalised", "settled"]

_BATCH = 64
_LEAST = 1e-7  # variance
SUFFIX = "_renormalised"
"""Of the names of what is added for training."""

_FOLDED = (nn.Conv1d, nn.Conv2d)


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Mean and standard deviation of each channel that a layer writes: [channel]."""

    mean: Tensor
    deviation: Tensor

    def of(self, kept: Tensor) -> Spread:
        """Return those of the channels that are kept [channel]."""
        return Spread(self.mean[kept], self.deviation[kept])


def measured(network: fx.GraphModule, inputs: Tensor) -> dict[str, Spread]:
    """Run a network → the spread of what each convolution writes that has neither normalisation nor a twin."""
    sums: dict[str, list[Tensor]] = {}
    layers = {name: network.get_submodule(name) for name in _bare(network)}

    def note(name: str, written: Tensor) -> None:
        values = written.detach().transpose(0, 1).flatten(1).double()
        if values.shape[1] > len(written):  # more than one place: not what squeezing left
            sums.setdefault(name, []).append(torch.stack([values.mean(1), values.square().mean(1)]))

    hooks = [
        each.register_forward_hook(lambda module, given, written, name=name: note(name, written))
        for name, each in layers.items()
    ]
    network.eval()
    with torch.inference_mode():
        for batch in inputs.split(_BATCH):
            network(batch)
    for hook in hooks:
        hook.remove()
    means = {name: torch.stack(each).mean(0) for name, each in sums.items()}
    return {
        name: Spread(first.float(), (second - first.square()).clamp(min=0.0).sqrt().float())
        for name, (first, second) in means.items()
    }


def _bare(network: fx.GraphModule) -> list[str]:
    """Return convolutions, by name, that share their weights with no other and have no normalisation behind them."""
    calls = [node for node in network.graph.nodes if node.op == "call_module"]
    layers = {str(node.target): network.get_submodule(str(node.target)) for node in calls}
    owners = [id(each.weight) for each in layers.values() if isinstance(each, _FOLDED)]
    return [
        str(node.target)
        for node in calls
        if isinstance(layers[str(node.target)], _FOLDED)
        and owners.count(id(layers[str(node.target)].weight)) == 1
        and not any(isinstance(layers.get(str(user.target)), nn.modules.batchnorm._BatchNorm) for user in node.users)
    ]


def normalised(network: fx.GraphModule, wanted: Mapping[str, Spread]) -> None:
    """Put a normalisation behind layers, in place, that gives what they write this spread."""
    for node in list(network.graph.nodes):
        spread = wanted.get(str(node.target)) if node.op == "call_module" else None
        if spread is None:
            continue
        is_flat = isinstance(network.get_submodule(str(node.target)), nn.Conv2d)
        norm = (nn.BatchNorm2d if is_flat else nn.BatchNorm1d)(len(spread.mean), eps=_LEAST)
        norm.load_state_dict({"weight": spread.deviation, "bias": spread.mean}, strict=False)
        network.add_submodule(f"{node.target}{SUFFIX}", norm)
        with network.graph.inserting_after(node):
            placed = network.graph.call_module(f"{node.target}{SUFFIX}", ())
        node.replace_all_uses_with(placed)
        placed.args = (node,)
    network.recompile()


def settled(network: nn.Module, inputs: Tensor) -> None:
    """Set the statistics of normalisation from these inputs, in place."""
    norms = [each for each in network.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    momenta = [each.momentum for each in norms]
    for each in norms:
        each.reset_running_stats()
        each.momentum = None  # a plain mean over all batches
    for each in norms:
        each.train()
    whole = max(len(inputs) // _BATCH * _BATCH, min(len(inputs), _BATCH))
    with torch.no_grad():
        for batch in inputs[:whole].split(_BATCH):
            network(batch)
    for each, momentum in zip(norms, momenta, strict=True):
        each.momentum = momentum
    network.eval()


def folded(network: fx.GraphModule) -> None:
    """Fold the normalisation that `normalised` added into the layers before it, in place."""
    for node in list(network.graph.nodes):
        if node.op != "call_module" or not str(node.target).endswith(SUFFIX):
            continue
        source = node.args[0]
        layer, norm = (network.get_submodule(str(each.target)) for each in (source, node))
        assert isinstance(layer, _FOLDED)
        assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
        weight, bias = fuse_conv_bn_weights(
            layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        layer.weight, layer.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
        node.replace_all_uses_with(source)
        network.graph.erase_node(node)
        network.delete_submodule(str(node.target))
    network.recompile()
