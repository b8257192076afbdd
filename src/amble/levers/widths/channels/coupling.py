"""An ONNX file → its layers, the groups of channels that go together, and the layers that stay, each with the reason.

Labels are led through the network (`rules`): once to collect every tie that holds whatever is chosen, then again, with
the choices that are left (along which axis to cut what was reshaped into several), until nothing is tied any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from amble.core.layers import Kind
from amble.levers.widths.channels.file import File, attributes, inner_names, name_of
from amble.levers.widths.channels.rules import RULES
from amble.levers.widths.channels.step import Step, Weights
from amble.levers.widths.channels.ties import Ids, Labels, Ties
from amble.levers.widths.network import Group, Layer, Network

__all__ = ["Coupling", "coupled"]

_MOST_PASSES = 8


@dataclass(frozen=True, slots=True, eq=False)
class Coupling:
    """What may go: ``members`` are the classes of each group, ``places`` the class of every place of an axis.

    ``labels`` are those of all tensors, ``classes`` the class of each label, ``stays`` why layers stay.
    """

    file: File
    network: Network
    members: Mapping[str, tuple[int, ...]]
    places: Mapping[tuple[str, int], Ids]
    labels: Mapping[str, Labels]
    classes: Ids
    layers: tuple[Weights, ...]
    stays: Mapping[str, str]


@dataclass(slots=True)
class _Passed:
    """What one pass found."""

    known: dict[str, Labels] = field(default_factory=dict)
    layers: list[Weights] = field(default_factory=list)


def coupled(file: File, name: str, *, left_alone: Mapping[str, str] | None = None) -> Coupling:
    """Find the groups; all channels count alike. Layers that are ``left_alone`` stay, for the reason given."""
    ties = Ties()
    passed = _pass(file, ties, None)
    ties.is_first = False
    for _ in range(_MOST_PASSES):
        before = ties.classes()
        passed = _pass(file, ties, before)
        if len(np.unique(ties.classes())) == len(np.unique(before)):
            break
    for layer in passed.layers:
        if why := (left_alone or {}).get(name_of(layer.node)):
            ties.stay(layer.written, why)
    while _joins(ties, passed.layers):
        pass
    return _described(file, name, ties, passed)


def _pass(file: File, ties: Ties, classes: Ids | None) -> _Passed:
    found = _Passed({name: Labels.none(shape) for name, shape in file.shapes.items() if _is_given(file, name)})
    answers = {each.name for each in file.model.graph.output}
    for node in file.model.graph.node:
        step = Step(file, node, attributes(node), found.known, ties, classes, found.layers)
        made = _led(step)
        found.known |= {each: labels for each, labels in zip(node.output, made, strict=False) if each}
    for each in answers & found.known.keys():
        ties.stay(found.known[each].ids, "its channels are the network's answer")
    return found


def _is_given(file: File, name: str) -> bool:
    return name in file.constants or name in file.feed


def _led(step: Step) -> list[Labels]:
    """Lead labels through one node."""
    for each in inner_names(step.node):
        if each in step.known:
            step.ties.stay(step.known[each].ids, f"{step.name} reads it inside a branch or a loop")
    rule = RULES.get(step.node.op_type) if step.node.domain in ("", "ai.onnx") else None
    given = [step.known[each] for each in step.node.input if each in step.known]
    several = any(len(each.axes) > 1 for each in given)
    if rule is None or any(each and each not in step.known for each in step.node.input):
        return step.stays(f"how channels pass through {step.name} is not known")
    if several and step.classes is None and step.node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return step.free()
    return rule(step)


def _joins(ties: Ties, layers: list[Weights]) -> bool:
    """Let all that a layer writes be one group; tell whether anything had to be tied for that.

    Parts of as many channels each (a split in halves) go together, place by place; others stay.
    """
    classes = ties.classes()
    stays, signatures = ties.reasons(classes), ties.signatures(classes)
    for layer in layers:
        own = [int(each) for each in dict.fromkeys(classes[layer.written].tolist())]
        parts: dict[object, list[int]] = {}
        for each in own:
            parts.setdefault("stays" if each in stays else signatures[each], []).append(each)
        if len(parts) == 1:
            continue
        sizes = {len(each) for each in parts.values()}
        if "stays" in parts or len(sizes) > 1:
            why = f"a part of what {name_of(layer.node)} writes stays, or goes another way than the rest"
            ties.stay(layer.written[~np.isin(classes[layer.written], list(stays))], why)
            return True
        first, *others = (np.array([_label(classes, at) for at in part]) for part in parts.values())
        for other in others:
            ties.tie(first, other)
        return True
    return False


def _label(classes: Ids, number: int) -> int:
    return int(np.argmax(classes == number))


def _described(file: File, name: str, ties: Ties, passed: _Passed) -> Coupling:
    classes = ties.classes()
    stays, signatures = ties.reasons(classes), ties.signatures(classes)
    roots: dict[tuple[tuple[str, int, int], ...], str] = {}
    members: dict[str, list[int]] = {}
    widths: dict[str, int] = {}
    for layer in passed.layers:
        own = [int(each) for each in dict.fromkeys(classes[layer.written].tolist()) if each not in stays]
        if not own or signatures[own[0]] in roots:
            continue
        if len(own) == 1:
            stays[own[0]] = "all its channels are tied to one another"
            continue
        roots[signatures[own[0]]] = name_of(layer.node)
        members[name_of(layer.node)] = own
        widths[name_of(layer.node)] = len(layer.written)
    group_of = {each: group for group, own in members.items() for each in own}
    groups = tuple(Group(each, (1.0,) * widths[each], widths[each] // len(members[each])) for each in members)
    layers = tuple(_layer(file, each, classes, group_of, passed.known) for each in passed.layers)
    return Coupling(
        file,
        Network(name, layers, groups),
        {group: tuple(own) for group, own in members.items()},
        {place: classes[ids] for place, ids in ties.members().items()},
        passed.known,
        classes,
        tuple(passed.layers),
        dict(_staying(passed.layers, classes, stays, group_of)),
    )


def _staying(
    layers: list[Weights], classes: Ids, stays: Mapping[int, str], group_of: Mapping[int, str]
) -> Iterator[tuple[str, str]]:
    for layer in layers:
        own = classes[layer.written].tolist()
        if not any(each in group_of for each in own):
            yield name_of(layer.node), next((stays[each] for each in own if stays.get(each)), "its channels stay")


def _layer(file: File, layer: Weights, classes: Ids, group_of: Mapping[int, str], known: Mapping[str, Labels]) -> Layer:
    read = [group_of.get(each) for each in classes[layer.read].tolist()]
    inputs = tuple(dict.fromkeys(each for each in read if each is not None))
    given = file.shapes[layer.node.input[0]]
    kind: Kind = "depthwise" if layer.channelwise else "conv"
    if layer.node.op_type in ("Gemm", "MatMul") and _rows(given) == 1:
        kind = "gemm"
    made = Layer(
        name_of(layer.node),
        kind,
        inputs,
        group_of.get(int(classes[layer.written[0]])),
        len(layer.read),
        len(layer.written),
        taken=tuple(read.count(each) for each in inputs),
    )
    return _windowed(made, file, layer.node, given)


def _rows(given: tuple[int, ...]) -> int:
    """Count the rows of one example that a dense layer multiplies."""
    return int(np.prod(given[1:-1]))


def _windowed(layer: Layer, file: File, node: onnx.NodeProto, given: tuple[int, ...]) -> Layer:
    """Say what a window slides over and how: of a dense layer each row is a pixel.

    For a transposed convolution stands one that keeps the size of its input: it has as many products.
    """
    if node.op_type in ("Gemm", "MatMul"):
        return replace(layer, size=(1, _rows(given)))
    named = attributes(node)
    kernel = file.constants[node.input[1]].shape[2:]
    sized = replace(layer, kernel=_pair(kernel), size=_pair(given[2:]), groups=named.get("group", 1))
    if node.op_type == "ConvTranspose":
        return replace(sized, padding=_pair([each // 2 for each in kernel]))
    written = file.shapes[node.output[0]][2:]
    stride, dilation = (list(named.get(each, [1] * len(kernel))) for each in ("strides", "dilations"))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    needed = [(o - 1) * s + r - i for o, s, r, i in zip(written, stride, reach, given[2:], strict=True)]
    padding = _pair([max(0, -(-each // 2)) for each in needed])
    return replace(sized, stride=_pair(stride), dilation=_pair(dilation), padding=padding)


def _pair(values: Sequence[int]) -> tuple[int, int]:
    """Return height and width; a sequence has height 1."""
    found = [int(each) for each in values]
    return (found[-2], found[-1]) if len(found) > 1 else (1, found[-1])
