"""Operators that move elements and compute nothing → labels moved in the same way, by the operator itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from amble.levers.widths.channels.file import computed
from amble.levers.widths.channels.step import Step
from amble.levers.widths.channels.ties import Ids, Labels

__all__ = ["RULES"]


def _moved(step: Step) -> list[Labels]:
    """Let the operator itself move the labels of every element."""
    if step.given().is_free:
        return step.free()
    given: dict[str, np.ndarray] = {step.node.input[0]: np.ascontiguousarray(step.given().full)}
    for index in range(1, len(step.node.input)):
        value = step.value(index)
        if step.has(index) and value is None:
            return step.stays(f"where {step.name} moves them to is computed")
        if value is not None:
            given[step.node.input[index]] = value
    found = computed(step.node, given, list(step.file.model.opset_import))
    if found is None:
        return step.stays(f"how {step.name} moves them is not known")
    return [_one_axis(step, Labels.of(np.asarray(each, dtype=np.int64))) for each in found]


def _one_axis(step: Step, labels: Labels) -> Labels:
    """Let labels change along one axis alone: ties those that lie across it, the axis being that of most classes."""
    if len(labels.axes) == 0 and not labels.is_free:
        step.ties.stay(labels.ids, f"{step.name} takes single channels")
        return Labels.none(labels.shape)
    if len(labels.axes) <= 1 or step.classes is None:
        return labels
    classes = step.classes[labels.ids]
    best = max(labels.axes, key=lambda axis: (_num_apart(classes, axis), axis))
    rows = np.moveaxis(labels.ids, best, 0).reshape(labels.ids.shape[best], -1)
    step.ties.tie(rows[:, 1:], rows[:, :1])
    return Labels.on(best, rows[:, 0].copy(), labels.shape)


def _num_apart(classes: Ids, axis: int) -> int:
    """Count the places along an axis that could still go one by one."""
    rows = np.moveaxis(classes, axis, 0).reshape(classes.shape[axis], -1)
    num = len(rows)
    places = np.unique(np.stack([np.repeat(np.arange(num), rows.shape[1]), rows.reshape(-1) + num], axis=1), axis=0)
    size = int(places.max()) + 1
    links = coo_array((np.ones(len(places)), (places[:, 0], places[:, 1])), shape=(size, size))
    return len(np.unique(connected_components(links, directed=False)[1][:num]))


def _transposed(step: Step) -> list[Labels]:
    labels = step.given()
    order = step.attributes.get("perm", range(len(labels.shape))[::-1])
    return [Labels(labels.ids.transpose(order), step.shape())]


def _joined(step: Step) -> list[Labels]:
    """Concatenate: along the channels, or across them, which ties them."""
    inputs = [step.given(at) for at in range(len(step.node.input))]
    labelled = [each for each in inputs if each.axes]
    if not labelled:
        return step.free()
    rank = len(step.shape())
    joint = step.attributes["axis"] % rank
    axes = {each.axes for each in labelled}
    if axes == {(joint,)}:
        return [Labels.on(joint, np.concatenate([each.along(joint) for each in inputs]), step.shape())]
    if len(axes) > 1 or len(labelled[0].axes) > 1:
        found = np.concatenate([each.full for each in inputs], axis=joint)
        return [_one_axis(step, Labels.of(found))]
    (axis,) = labelled[0].axes
    for at, each in enumerate(inputs):
        if step.constant(at) is not None:
            step.ties.tie(step.labels(at, axis), labelled[0].along(axis))
        elif each.axes:
            step.ties.tie(each.along(axis), labelled[0].along(axis))
        else:
            step.ties.stay(labelled[0].ids, f"{step.name} joins it with channels that stay")
    return [Labels.on(axis, labelled[0].along(axis), step.shape())]


def _padded(step: Step) -> list[Labels]:
    labels, pads = step.given(), step.setting("pads", 1)
    if not labels.axes:
        return step.free()
    if len(labels.axes) > 1 or pads is None or step.has(3):
        return step.stays(f"where {step.name} pads is not known")
    (axis,) = labels.axes
    rank = len(labels.shape)
    before, after = pads[axis], pads[rank + axis]
    if before == after == 0:
        return [Labels(labels.ids, step.shape())]
    return step.stays(f"{step.name} adds channels")


_MOVED = "DepthToSpace Expand Flatten Gather Reshape Slice SpaceToDepth Split Squeeze Tile Unsqueeze"

RULES: dict[str, Callable[[Step], list[Labels]]] = {
    "Concat": _joined,
    "Pad": _padded,
    "Transpose": _transposed,
    **dict.fromkeys(_MOVED.split(), _moved),
}
"""What is understood, by the operator's kind."""
