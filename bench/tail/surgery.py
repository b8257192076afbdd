"""A torch network → which channels go together, what each is worth, and the same network with fewer of them.

Layers that a residual sum, a concatenation, a depth-wise or grouped convolution or a gate ties together are found with
torch-pruning's dependency graph (Fang et al., "DepGraph", CVPR 2023). A group has the name of the first layer that
writes it. Nothing is changed in place: a width that is larger than that of an earlier result is had by cutting the
original once more.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from amble.core.errors import Refused
from amble.core.layers import Kind
from amble.levers.widths.network import Group, Layer, Network, Widths
from amble.runtimes.torch.training import Labelled, Prepare, as_stored

__all__ = ["Coupling", "Part", "Worth", "coupling", "importance", "pruned", "recalibrated"]

Worth = Literal["taylor", "l1", "bn"]
"""Loss to first order in a gate on each channel (Taylor); sum of absolute weights; scale of batch normalisation."""

_BATCH = 64
_WEIGHTS = (nn.Conv1d, nn.Conv2d, nn.Linear)


@dataclass(frozen=True, slots=True)
class Part:
    """A layer that writes (or normalises) a group: its channel ``places[i]`` is channel ``channels[i]`` of the group.

    ``last``: no normalisation follows that would scale its channels anew.
    """

    layer: str
    places: tuple[int, ...]
    channels: tuple[int, ...]
    last: bool


@dataclass(frozen=True, slots=True, eq=False)
class Coupling:
    """The network's groups, the layers behind each, and the order in which channels go, least important first."""

    network: Network
    parts: Mapping[str, tuple[Part, ...]]
    order: Mapping[str, tuple[int, ...]]
    example: Tensor


def coupling(module: nn.Module, example: Tensor, *, name: str = "network") -> Coupling:
    """Find the groups; ``example`` [B, ...] is an input. All channels count alike until `importance` has ranked them.

    Raises Refused where the network cannot be traced.
    """
    graph, layers = _traced(copy.deepcopy(module), example)
    found = _groups(graph, layers)
    network = Network(
        name,
        tuple(_layer(each, layers, found) for each in layers.sizes),
        tuple(Group(root, (1.0,) * layers.width(root), each.multiple) for root, each in found.items()),
    )
    return Coupling(
        network,
        {root: each.parts for root, each in found.items()},
        {root: tuple(range(layers.width(root))) for root in found},
        example,
    )


def importance(
    module: nn.Module,
    coupled: Coupling,
    data: Labelled | None = None,
    *,
    kind: Worth = "taylor",
    prepare: Prepare = as_stored,
) -> Coupling:
    """Rank the channels of every group by their worth, summed over the coupled layers.

    ``taylor`` (Molchanov et al., 2019, equation 8, on gates): mean over batches of |sum of weight x gradient|; it needs
    data, and takes the network's own answers for labels where there are none. ``bn`` (Liu et al., 2017) needs batch
    normalisation. Raises Refused for what is missing.
    """
    if kind == "taylor":
        if data is None:
            raise ValueError("Taylor importance needs data: hand over some, or ask for l1")
        scores = _taylor(module, coupled, data, prepare)
    else:
        scores = _static(module, coupled, kind)
    ranked = {group.name: _ranked(scores[group.name], group.multiple) for group in coupled.network.groups}
    groups = tuple(replace(group, importance=ranked[group.name][1]) for group in coupled.network.groups)
    order = {name: order for name, (order, _) in ranked.items()}
    return replace(coupled, network=replace(coupled.network, groups=groups), order=order)


def pruned(module: nn.Module, coupled: Coupling, widths: Widths) -> nn.Module:
    """Return a copy with these widths: of every group the least important channels are gone.

    Raises ValueError for a width that a group cannot have, Refused where the smaller network does not run.
    """
    smaller = copy.deepcopy(module)
    graph, _ = _traced(smaller, coupled.example)
    modules = dict(smaller.named_modules())
    for name, width in widths.items():
        group = coupled.network.by_name[name]
        if width not in group.allowed:
            raise ValueError(f"{name} cannot have {width} channels: {group.allowed[0]} to {group.width}")
        gone = list(coupled.order[name][: group.width - width])
        if gone:
            root = modules[name]
            graph.get_pruning_group(root, graph.get_pruner_of_module(root).prune_out_channels, gone).prune()
    try:
        with torch.inference_mode():
            smaller.eval()(coupled.example)
    except RuntimeError as error:
        raise Refused(f"the network does not run with fewer channels ({error}): keep {', '.join(widths)}") from error
    return smaller


def recalibrated(module: nn.Module, inputs: Tensor, *, prepare: Prepare = as_stored) -> nn.Module:
    """Set the statistics of batch normalisation from these inputs [N, ...], in place, and return the network."""
    norms = [each for each in module.modules() if isinstance(each, _BatchNorm) and each.track_running_stats]
    momenta = [each.momentum for each in norms]
    for each in norms:
        each.reset_running_stats()
        each.momentum = None  # a plain mean over all batches
    module.train()
    with torch.no_grad():
        for batch in inputs.split(_BATCH):
            module(prepare(batch, None))
    for each, momentum in zip(norms, momenta, strict=True):
        each.momentum = momentum
    return module.eval()


@dataclass(frozen=True, slots=True)
class _Traced:
    """The layers with weights in execution order, with the height and width of what they read."""

    modules: Mapping[str, nn.Module]
    sizes: Mapping[str, tuple[int, int]]
    fixed: frozenset[str]

    def width(self, name: str) -> int:
        layer = self.modules[name]
        return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)

    def depthwise(self, name: str) -> bool:
        layer = self.modules[name]
        return not isinstance(layer, nn.Linear) and 1 < layer.groups == layer.out_channels == layer.in_channels


@dataclass(frozen=True, slots=True)
class _Found:
    """A group as traced: who writes it, and at which of whose inputs it arrives."""

    parts: tuple[Part, ...]
    readers: Mapping[str, tuple[int, ...]]
    multiple: int


def _traced(module: nn.Module, example: Tensor) -> tuple[torch_pruning.DependencyGraph, _Traced]:
    """Trace in place: the network is in evaluation mode afterwards."""
    names = {each: name for name, each in module.named_modules()}
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about single parameters, which are cut at their last dimension
            sizes = _sizes(module.eval(), example, names)
            graph = torch_pruning.DependencyGraph().build_dependency(module, example, verbose=False)
    except (RuntimeError, TypeError, AttributeError, KeyError) as error:
        raise Refused(f"the network cannot be traced ({error}): give it as one module of one tensor input") from error
    fixed = frozenset(names[each] for each in _answering(graph))
    return graph, _Traced({name: each for each, name in names.items()}, sizes, fixed)


def _sizes(module: nn.Module, example: Tensor, names: Mapping[nn.Module, str]) -> dict[str, tuple[int, int]]:
    seen: dict[str, tuple[int, int]] = {}

    def note(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        shape = tuple(given[0].shape)
        height = shape[-2] if isinstance(layer, nn.Conv2d) else 1
        seen[names[layer]] = (height, 1 if isinstance(layer, nn.Linear) else shape[-1])

    hooks = [each.register_forward_pre_hook(note) for each in names if isinstance(each, _WEIGHTS)]
    module(example)
    for hook in hooks:
        hook.remove()
    return seen


def _answering(graph: torch_pruning.DependencyGraph) -> set[nn.Module]:
    """Layers whose channels are the network's answer: those reached from an end without crossing another one."""
    stack = [node for node in graph.module2node.values() if not node.outputs]
    found, visited = set(), set(stack)
    while stack:
        node = stack.pop()
        if isinstance(node.module, _WEIGHTS):
            found.add(node.module)
            continue
        fresh = [each for each in node.inputs if each not in visited]
        visited.update(fresh)
        stack += fresh
    return found


def _groups(graph: torch_pruning.DependencyGraph, layers: _Traced) -> dict[str, _Found]:
    """Find the groups in execution order of their first writers, without those that must stay."""
    found: dict[str, _Found] = {}
    written: set[str] = set()
    for name in layers.sizes:
        if name in written or layers.depthwise(name):
            continue
        root = layers.modules[name]
        cut = graph.get_pruner_of_module(root).prune_out_channels
        group = graph.get_pruning_group(root, cut, list(range(layers.width(name))))
        each = _found(graph, group, layers)
        written |= {part.layer for part in each.parts}
        if not layers.fixed & {part.layer for part in each.parts}:
            found[name] = each
    return found


def _found(graph: torch_pruning.DependencyGraph, group: torch_pruning.Group, layers: _Traced) -> _Found:
    names = {each: name for name, each in layers.modules.items()}
    parts, readers, multiple = [], {}, 1
    for item in group:
        module = item.dep.target.module
        if not isinstance(module, (*_WEIGHTS, _BatchNorm)):
            continue
        name, places = names[module], tuple(item.idxs)
        if isinstance(module, (nn.Conv1d, nn.Conv2d)) and not layers.depthwise(name):
            multiple = math.lcm(multiple, module.groups)
        if graph.is_out_channel_pruning_fn(item.dep.handler):
            normalised = any(isinstance(after.module, _BatchNorm) for after in item.dep.target.outputs)
            parts.append(Part(name, places, tuple(item.root_idxs), not normalised))
        else:
            readers[name] = places
    return _Found(tuple(parts), readers, multiple)


def _layer(name: str, layers: _Traced, found: Mapping[str, _Found]) -> Layer:
    module = layers.modules[name]
    read = sorted((min(each.readers[name]), root) for root, each in found.items() if name in each.readers)
    written = [root for root, each in found.items() if name in {part.layer for part in each.parts}]
    output = written[0] if written else None
    if isinstance(module, nn.Linear):
        spread = max((len(found[root].readers[name]) // layers.width(root) for _, root in read), default=1)
        inputs = tuple(root for _, root in read)
        return Layer(name, "gemm", inputs, output, module.in_features, module.out_features, spread=spread)
    kind: Kind = "depthwise" if layers.depthwise(name) else "conv"
    inputs = (output,) if kind == "depthwise" and output else tuple(root for _, root in read)
    return Layer(
        name,
        kind,
        inputs,
        output,
        module.in_channels,
        module.out_channels,
        kernel=_pair(module.kernel_size),
        stride=_pair(module.stride),
        padding=_pair(module.padding),
        dilation=_pair(module.dilation),
        groups=module.groups,
        size=layers.sizes[name],
    )


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of a setting; a sequence has height 1 with nothing around it."""
    return (values[0], values[1]) if len(values) == 2 else (1, values[0])


def _taylor(module: nn.Module, coupled: Coupling, data: Labelled, prepare: Prepare) -> dict[str, Tensor]:
    """|sum of weight x gradient| is the derivative of the loss in a gate behind the layer."""
    network = copy.deepcopy(module).eval()
    layers = dict(network.named_modules())
    scores = {group.name: torch.zeros(group.width) for group in coupled.network.groups}
    batches = data.inputs.split(_BATCH)
    for number, batch in enumerate(batches):
        inputs = prepare(batch, None)
        answers = network(inputs).float()
        wanted = answers.argmax(1) if data.labels is None else data.labels.split(_BATCH)[number]
        network.zero_grad()
        nn.functional.cross_entropy(answers, wanted).backward()
        for name, score in scores.items():
            for part in coupled.parts[name]:
                if part.last:
                    _add(score, part, _gate(layers[part.layer]) / len(batches))
    return scores


def _gate(layer: nn.Module) -> Tensor:
    """Derivative of the loss in a factor on each output of a layer: [channel]."""
    weight, bias = cast(nn.Parameter, layer.weight), cast("nn.Parameter | None", layer.bias)
    slope = (weight * cast(Tensor, weight.grad)).flatten(1).sum(1) if weight.dim() > 1 else weight * weight.grad
    if bias is not None and bias.grad is not None:
        slope = slope + bias * bias.grad
    return slope.detach().abs()


def _static(module: nn.Module, coupled: Coupling, kind: Worth) -> dict[str, Tensor]:
    layers = dict(module.named_modules())
    wanted = _BatchNorm if kind == "bn" else _WEIGHTS
    scores = {}
    for group in coupled.network.groups:
        parts = [part for part in coupled.parts[group.name] if isinstance(layers[part.layer], wanted)]
        if not parts:
            raise Refused(f"{group.name} has no batch normalisation to rank its channels by: ask for taylor or l1")
        scores[group.name] = torch.zeros(group.width)
        for part in parts:
            weight = cast(nn.Parameter, layers[part.layer].weight).detach().abs()
            _add(scores[group.name], part, weight.flatten(1).sum(1) if weight.dim() > 1 else weight)
    return scores


def _add(score: Tensor, part: Part, value: Tensor) -> None:
    score.index_add_(0, torch.tensor(part.channels), value[list(part.places)].float())


def _ranked(score: Tensor, multiple: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Channels least important first, and their scores; those at one place of every sub-group go together."""
    classes = score.reshape(multiple, -1).mean(0)
    places = torch.argsort(classes, stable=True)
    channels = (places[:, None] + torch.arange(multiple)[None] * len(places)).flatten()
    worth = classes[places].repeat_interleave(multiple)
    return tuple(channels.tolist()), tuple(worth.tolist())
