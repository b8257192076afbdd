"""A model, a batch size and shapes → every input's shape, with no axis left open.

Which open axis is the batch is decided by its name, or by being the first one; every other open axis must be given.
One symbol has one value in the whole model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from amble.core.errors import Refused
from amble.core.graph import Port
from amble.runtimes.onnx.reading import elements

__all__ = ["bind", "network_inputs"]

Shape = tuple[int, ...]

_BATCH = re.compile(r"^(n|b|bs)$|batch", re.IGNORECASE)
_SEQUENCE = re.compile(r"seq|time|len|frame|sample|step|token|height|width|chan", re.IGNORECASE)
_ANONYMOUS = ("", "?")
_EXAMPLE_LENGTH = 128
_EXAMPLE_SIDE = 224
_EXAMPLE_SHAPE = (1, 3, 224, 224)


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of an input as the file has it: a fixed size, or open with a symbol (perhaps an empty one)."""

    index: int
    size: int | None
    symbol: str

    @property
    def is_batch(self) -> bool:
        """Tell whether this open axis is the batch."""
        if self.size is not None:
            return False
        named = self.symbol not in _ANONYMOUS
        first = self.index == 0 and not (named and _SEQUENCE.search(self.symbol))
        return first or (named and bool(_BATCH.search(self.symbol)))


def bind(model: onnx.ModelProto, name: str, batch: int, shapes: Mapping[str, Shape]) -> tuple[Port, ...]:
    """Give every open axis its size, in the model itself too (which forgets its inferred shapes) → its inputs.

    Refused when axes other than the batch are open and not in ``shapes``, or when the file contradicts them.
    """
    if batch < 1 or any(size < 1 for shape in shapes.values() for size in shape):
        raise ValueError(f"sizes must be positive, not batch {batch} with shapes {dict(shapes)}")
    inputs = {each.name: _axes(each, name) for each in network_inputs(model.graph)}
    _check_given(name, inputs, shapes)
    symbols = _symbols(name, inputs, batch, shapes)
    _check_open(name, {each: axes for each, axes in inputs.items() if each not in shapes}, symbols)
    bound = {
        each: shapes[each] if each in shapes else tuple(_size(axis, symbols) or 0 for axis in axes or [])
        for each, axes in inputs.items()
    }
    _check_batch(name, inputs, bound, batch)
    _write(model.graph, bound)
    dtypes = {each.name: elements(each.type.tensor_type.elem_type) for each in model.graph.input}
    return tuple(Port(each, shape, dtypes[each]) for each, shape in bound.items())


def network_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs that must be fed: those that are not weights."""
    weights = {each.name for each in graph.initializer}
    return [each for each in graph.input if each.name not in weights]


def _axes(value: onnx.ValueInfoProto, name: str) -> list[_Axis] | None:
    """Return an input's axes; None where the file does not even tell their number."""
    if not value.type.HasField("tensor_type"):
        kind = value.type.WhichOneof("value") or "nothing known"
        raise Refused(
            f"{name}: input {value.name!r} is not a tensor but {kind.removesuffix('_type')}; "
            f"export the model with tensors for inputs"
        )
    if not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    return [_Axis(i, d.dim_value if d.dim_value > 0 else None, d.dim_param) for i, d in enumerate(dims)]


def _check_given(name: str, inputs: Mapping[str, list[_Axis] | None], shapes: Mapping[str, Shape]) -> None:
    for each, shape in shapes.items():
        if each not in inputs:
            raise Refused(f"{name} has no input {each!r}; its inputs are {', '.join(inputs) or 'none'}")
        axes = inputs[each]
        if axes == [] and shape:
            raise Refused(
                f"{name}: input {each!r} is one number without axes, and cannot take the shape {shape} of examples; "
                f"export it with an axis for the batch, or as a constant"
            )
        if axes is not None and len(axes) != len(shape):
            raise Refused(f"{name}: input {each!r} has {len(axes)} axes, the shape {shape} has {len(shape)}")


def _symbols(
    name: str, inputs: Mapping[str, list[_Axis] | None], batch: int, shapes: Mapping[str, Shape]
) -> dict[str, int]:
    """Return the size of every symbol that is known: from the shapes given, and the batch."""
    sizes: dict[str, int] = {}
    for each, axes in inputs.items():
        for axis in axes or []:
            given = shapes[each][axis.index] if each in shapes else None
            if axis.is_batch and given not in (None, batch):
                raise Refused(
                    f"{name}: the shape of {each!r} has batch {given}, but the batch is {batch}; make them equal"
                )
            size = batch if axis.is_batch else given
            if size is None or axis.symbol in _ANONYMOUS or axis.size is not None:
                continue
            if sizes.setdefault(axis.symbol, size) != size:
                raise Refused(f"{name}: {axis.symbol!r} would be both {sizes[axis.symbol]} and {size}; make them equal")
    return sizes | {"batch": batch}


def _check_open(name: str, inputs: Mapping[str, list[_Axis] | None], symbols: Mapping[str, int]) -> None:
    """Refuse a network while axes are open: all of them in one line, with shapes to copy that would close them all."""
    likely, missing, examples = dict(symbols), list[str](), dict[str, Shape]()
    for each, axes in inputs.items():
        if axes is None:
            missing.append(f"input {each!r} has no shape in the file")
            examples[each] = _EXAMPLE_SHAPE
            continue
        unknown = [axis for axis in axes if _size(axis, likely) is None]
        if unknown:
            missing += [_open(axis, each) for axis in unknown]
            likely |= {axis.symbol: _likely(axis) for axis in unknown if axis.symbol not in _ANONYMOUS}
            examples[each] = tuple(_size(axis, likely) or _likely(axis) for axis in axes)
    if missing:
        raise Refused(f"{name}: {', '.join(missing)}; say the sizes: {_how(examples)}")


def _open(axis: _Axis, each: str) -> str:
    called = f" ({axis.symbol})" if axis.symbol not in _ANONYMOUS else ""
    return f"axis {axis.index}{called} of input {each!r} is open"


def _size(axis: _Axis, symbols: Mapping[str, int]) -> int | None:
    if axis.size is not None:
        return axis.size
    return symbols["batch"] if axis.is_batch else symbols.get(axis.symbol)


def _likely(axis: _Axis) -> int:
    """Return a size for the example in a message: a picture's side on the last of four axes, else a length."""
    return _EXAMPLE_SIDE if axis.index >= 2 else _EXAMPLE_LENGTH


def _how(shapes: Mapping[str, Shape]) -> str:
    flags = " ".join(f"--shape {each}:{','.join(map(str, shape))}" for each, shape in shapes.items())
    return f"{flags}, in Python shapes={dict(shapes)}"


def _check_batch(name: str, inputs: Mapping[str, list[_Axis] | None], bound: Mapping[str, Shape], batch: int) -> None:
    """Refuse a batch that the file does not have; a first axis of a picture (four axes) is always the batch."""
    if any(axis.is_batch for axes in inputs.values() for axis in axes or []):
        return
    leading = {each: shape[0] for each, shape in bound.items() if shape}
    fixed = {each for each, axes in inputs.items() if axes and axes[0].size is not None}
    pictures = {each: size for each, size in leading.items() if len(bound[each]) >= 4 and each in fixed}
    wrong = pictures if batch not in pictures.values() else {}
    if batch > 1 and batch not in leading.values():
        wrong = leading
    for each, size in wrong.items():
        other = (batch, *bound[each][1:])
        raise Refused(
            f"{name}: input {each!r} is fixed to batch {size}; ask for batch {size}, or try {_how({each: other})}"
        )


def _write(graph: onnx.GraphProto, bound: Mapping[str, Shape]) -> None:
    """Write the shapes into the model, and drop every shape that was inferred for others."""
    for each in graph.input:
        if each.name in bound:
            dims = [onnx.TensorShapeProto.Dimension(dim_value=size) for size in bound[each.name]]
            each.type.tensor_type.shape.CopyFrom(onnx.TensorShapeProto(dim=dims))
    del graph.value_info[:]
    for each in graph.output:
        if each.type.HasField("tensor_type"):
            each.type.tensor_type.ClearField("shape")
