"""Channels that go → the same ONNX file without them: weights sliced, sizes that are constants adapted.

No operator is added, taken away or rewritten. What was cut answers as the original does with the weights of those
channels set to zero; `checked` runs both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from amble.levers.widths.channels.coupling import Coupling
from amble.levers.widths.channels.file import Array, answers, attributes, opset

__all__ = ["checked", "cut", "zeroed"]

_FLOATING = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
_ZEROED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "Add", "Sub", "Mul")


def cut(coupled: Coupling, gone: Collection[int]) -> onnx.ModelProto:
    """Return the network without the channels of these classes."""
    model = onnx.ModelProto()
    model.CopyFrom(coupled.file.model)
    _Cut(coupled, model, ~np.isin(coupled.classes, list(gone))).run()
    return model


def zeroed(coupled: Coupling, gone: Collection[int]) -> onnx.ModelProto:
    """Return the network as large as it was, the weights of these classes being zero."""
    model = onnx.ModelProto()
    model.CopyFrom(coupled.file.model)
    wanted = {each for node in model.graph.node if node.op_type in _ZEROED for each in node.input}
    made: dict[str, Array] = {}
    for (name, axis), classes in coupled.places.items():
        places = np.flatnonzero(np.isin(classes, list(gone)))
        if name in wanted and len(places):
            values = made.setdefault(name, coupled.file.constants[name].copy())
            values[(slice(None),) * axis + (places,)] = 0
    _replace(model.graph, made)
    return model


def checked(coupled: Coupling, gone: Collection[int], feed: Mapping[str, Array] | None = None) -> float:
    """Return by how much the cut network's answer differs from that of the zeroed one, as a share of the largest.

    Refused where the cut network does not run.
    """
    given = feed or coupled.file.feed
    ours, theirs = (answers(made, given, coupled.network.name) for made in (cut(coupled, gone), zeroed(coupled, gone)))
    return max(_difference(ours[each], theirs[each]) for each in theirs)


def _difference(ours: Array, theirs: Array) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    largest = float(np.abs(theirs).max(initial=0.0)) or 1.0
    found = float(np.abs(ours.astype(np.float64) - theirs).max(initial=0.0)) / largest
    return found if np.isfinite(found) else float("inf")


@dataclass(slots=True)
class _Cut:
    """One cutting, in place; ``keeps`` tells for every label whether it stays."""

    coupled: Coupling
    model: onnx.ModelProto
    keeps: np.ndarray
    made: dict[str, Array] = field(default_factory=dict)

    def run(self) -> None:
        """Slice weights, then adapt whatever names a size."""
        graph = self.model.graph
        self._slice()
        for node in graph.node:
            self._regroup(node)
            labels = [each for each in (*node.input, *node.output) if self._shrinks(each)]
            if labels and node.op_type in _ADAPTED:
                _ADAPTED[node.op_type](self, node)
        _replace(graph, self.made)
        _forget_sizes(graph)
        self._keep_numbers()

    def _keep_numbers(self) -> None:
        """Let numbers be what they were that are computed from sizes, such as the scale of attention."""
        before = self.coupled.file.values
        casts = [node for node in self.model.graph.node if node.op_type == "Cast" and node.input[0] in before]
        casts = [node for node in casts if attributes(node)["to"] in _FLOATING]
        if not casts:
            return
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=each) for each in {node.input[0] for node in casts})
        after = answers(model, self.coupled.file.feed, self.coupled.network.name)
        for node in casts:
            if not np.array_equal(after[node.input[0]], before[node.input[0]]):
                self.own(node, 0, before[node.input[0]])

    def _slice(self) -> None:
        gone = np.unique(self.coupled.classes[~self.keeps])
        for (name, axis), classes in self.coupled.places.items():
            first = self.coupled.file.constants[name] if name not in self.made else self.made[name]
            kept = np.flatnonzero(~np.isin(classes, gone))
            if len(kept) < first.shape[axis]:
                self.made[name] = np.ascontiguousarray(first.take(kept, axis=axis))

    def _regroup(self, node: onnx.NodeProto) -> None:
        """Give a layer with a group for each channel as many groups as it still has channels."""
        layer = next((each for each in self.coupled.layers if each.node.output[0] == node.output[0]), None)
        if layer is not None and layer.channelwise:
            self.set(node, "group", int(self.keeps[layer.read].sum()))

    def set(self, node: onnx.NodeProto, name: str, value: object) -> None:
        """Set an attribute."""
        for at, each in enumerate(node.attribute):
            if each.name == name:
                del node.attribute[at]
                break
        node.attribute.append(helper.make_attribute(name, value))

    def _shrinks(self, name: str) -> bool:
        labels = self.coupled.labels.get(name)
        return labels is not None and not bool(self.keeps[labels.ids].all())

    def kept_along(self, name: str) -> tuple[int, np.ndarray] | None:
        """Return the axis along which a tensor shrinks and which places stay; None if it does not."""
        labels = self.coupled.labels.get(name)
        if labels is None or not self._shrinks(name):
            return None
        (axis,) = labels.axes
        return axis, self.keeps[labels.along(axis)]

    def shape(self, name: str) -> list[int]:
        """Return the shape of a tensor after cutting."""
        found = list(self.coupled.file.shapes[name])
        if kept := self.kept_along(name):
            found[kept[0]] = int(kept[1].sum())
        return found

    def own(self, node: onnx.NodeProto, index: int, values: Array) -> None:
        """Give a node a constant input of its own."""
        name = f"{node.output[0]}_{index}_cut"
        self.model.graph.initializer.append(numpy_helper.from_array(values, name))
        while len(node.input) <= index:
            node.input.append("")
        node.input[index] = name

    def resize(self, node: onnx.NodeProto, index: int, axis: int, size: int) -> None:
        """Set one size of a vector of sizes that is put together from pieces; other users of it keep theirs."""
        nodes = list(self.model.graph.node)
        source = next((each for each in nodes if node.input[index] in each.output), None)
        if source is None or source.op_type != "Concat":
            return
        if sum(node.input[index] in each.input for each in nodes) > 1:
            copied = onnx.NodeProto()
            copied.CopyFrom(source)
            copied.name, copied.output[0] = f"{node.output[0]}_sizes", f"{node.output[0]}_sizes"
            self.model.graph.node.insert(nodes.index(source), copied)
            source, node.input[index] = self.model.graph.node[nodes.index(source)], copied.output[0]
        place = 0
        for at, each in enumerate(source.input):
            value = self.coupled.file.value(each)
            if value is None:
                return
            if 0 <= axis - place < value.size:
                changed = value.reshape(-1).copy()
                if value.size > 1 and each not in self.coupled.file.constants:
                    self.resize(source, at, axis - place, size)
                else:
                    changed[axis - place] = size
                    self.own(source, at, changed)
            place += value.size


def _reshaped(work: _Cut, node: onnx.NodeProto) -> None:
    """Adapt the sizes that a reshape names: those of axes that shrink."""
    kept = work.kept_along(node.output[0])
    after = work.shape(node.output[0])
    before = list(work.coupled.file.shapes[node.output[0]])
    given = work.shape(node.input[0])
    value = work.coupled.file.constants.get(node.input[1])
    if value is not None:
        wanted = [int(each) for each in value]
        for axis, size in enumerate(wanted):
            copied = given[axis] if axis < len(given) else None
            if (size > 0 and before[axis] != after[axis]) or (size == 0 and copied != after[axis]):
                wanted[axis] = after[axis]
        work.own(node, 1, np.array(wanted, dtype=np.int64))
        return
    if kept is not None:
        work.resize(node, 1, kept[0], after[kept[0]])


def _sliced(work: _Cut, node: onnx.NodeProto) -> None:
    """Move the ends of a slice to where its channels are now."""
    kept = work.kept_along(node.input[0])
    found = _bounds(work, node)
    if kept is None or found is None:
        return
    starts, ends, axes, steps = found
    if kept[0] not in axes or steps[axes.index(kept[0])] != 1:
        return
    at, stays = axes.index(kept[0]), kept[1]
    first, last, _ = slice(starts[at], ends[at]).indices(len(stays))
    starts[at], ends[at] = int(stays[:first].sum()), int(stays[:last].sum())
    for index, (name, values) in enumerate((("starts", starts), ("ends", ends)), 1):
        if name in attributes(node):
            work.set(node, name, values)
        else:
            work.own(node, index, np.array(values, dtype=np.int64))


def _bounds(work: _Cut, node: onnx.NodeProto) -> tuple[list[int], ...] | None:
    """Return starts, ends, axes and steps of a slice, all as lists; None where they are computed."""
    named, found = attributes(node), []
    for index, name in enumerate(("starts", "ends", "axes", "steps"), 1):
        given = node.input[index] if index < len(node.input) else ""
        if given and given not in work.coupled.file.constants:
            return None
        values = work.coupled.file.constants[given] if given else named.get(name)
        found.append(None if values is None else [int(each) for each in values])
    starts, ends, axes, steps = found
    assert starts is not None
    assert ends is not None
    rank = len(work.coupled.file.shapes[node.input[0]])
    return starts, ends, [each % rank for each in axes or range(len(starts))], steps or [1] * len(starts)


def _split(work: _Cut, node: onnx.NodeProto) -> None:
    """Say how many channels each part gets now."""
    kept = work.kept_along(node.input[0])
    if kept is None or kept[0] != attributes(node).get("axis", 0) % len(work.coupled.file.shapes[node.input[0]]):
        return
    sizes = [work.shape(each)[kept[0]] for each in node.output]
    if len(node.input) > 1 and node.input[1] and node.input[1] not in work.coupled.file.constants:
        return
    for at, each in enumerate(node.attribute):
        if each.name == "num_outputs":
            del node.attribute[at]
            break
    if opset(work.model) < 13:
        work.set(node, "split", sizes)
    else:
        work.own(node, 1, np.array(sizes, dtype=np.int64))


def _gathered(work: _Cut, node: onnx.NodeProto) -> None:
    """Take what stays, from where it is now."""
    kept = work.kept_along(node.input[0])
    index = work.coupled.file.constants.get(node.input[1])
    axis = attributes(node).get("axis", 0) % len(work.coupled.file.shapes[node.input[0]])
    if kept is None or index is None or kept[0] != axis or index.ndim != 1:
        return
    index = index % len(kept[1])
    moved = np.cumsum(kept[1]) - 1
    work.own(node, 1, moved[index[kept[1][index]]].astype(np.int64))


def _expanded(work: _Cut, node: onnx.NodeProto) -> None:
    value = work.coupled.file.constants.get(node.input[1])
    if value is None:
        return
    after, before = work.shape(node.output[0]), list(work.coupled.file.shapes[node.output[0]])
    first = len(after) - len(value)
    changed = [after[at] if after[at] != before[at] and size > 1 else size for at, size in enumerate(value, first)]
    work.own(node, 1, np.array(changed, dtype=np.int64))


def _resized(work: _Cut, node: onnx.NodeProto) -> None:
    if len(node.input) > 3 and (value := work.coupled.file.constants.get(node.input[3])) is not None and value.size:
        after, axes = work.shape(node.output[0]), attributes(node).get("axes", range(value.size))
        work.own(node, 3, np.array([after[each] for each in axes], dtype=np.int64))


_ADAPTED: dict[str, Callable[[_Cut, onnx.NodeProto], None]] = {
    "Expand": _expanded,
    "Gather": _gathered,
    "Reshape": _reshaped,
    "Resize": _resized,
    "Slice": _sliced,
    "Split": _split,
}


def _replace(graph: onnx.GraphProto, made: Mapping[str, Array]) -> None:
    for each in graph.initializer:
        if each.name in made:
            each.CopyFrom(numpy_helper.from_array(made[each.name], each.name))
    used = {each for node in graph.node for each in node.input} | {each.name for each in graph.output}
    kept = [each for each in graph.initializer if each.name in used or not each.name]
    if len(kept) < len(graph.initializer) and not any(_has_graph(node) for node in graph.node):
        del graph.initializer[:]
        graph.initializer.extend(kept)


def _has_graph(node: onnx.NodeProto) -> bool:
    return any(each.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for each in node.attribute)


def _forget_sizes(graph: onnx.GraphProto) -> None:
    """Drop what was known of sizes inside the network; sizes of weights that are inputs too are set anew."""
    del graph.value_info[:]
    sizes = {each.name: each.dims for each in graph.initializer}
    for port in graph.input:
        if port.name in sizes:
            del port.type.tensor_type.shape.dim[:]
            for size in sizes[port.name]:
                port.type.tensor_type.shape.dim.add().dim_value = size
