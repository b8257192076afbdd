"""What was read of an ONNX network so far, as a torch.fx graph, and one node of it with what its readers ask for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import numpy_helper
from torch import fx, nn

from amble.core.errors import Refused

__all__ = ["Array", "Call", "Origin", "Reader", "Value", "plain"]

Array = npt.NDArray[Any]
Value: TypeAlias = "fx.Node | Array"
_OTHERS = re.compile(r"\W+")


@dataclass(frozen=True, slots=True)
class Origin:
    """A constant of the file, ``scale`` times as large as a parameter, its axes in the order ``axes`` (of two)."""

    constant: str
    scale: float = 1.0
    swapped: bool = False
    shape: tuple[int, ...] = ()

    def laid_out(self, values: Array) -> Array:
        """Return what belongs to a parameter as it lies in the file, not scaled."""
        return (values.T if self.swapped else values).reshape(self.shape or values.shape)


@dataclass(slots=True)
class Reader:
    """What was read so far: the module that holds the layers, the graph that calls them, and every named tensor.

    ``sizes`` are the dimensions of tensors, None where they are open. ``origins`` tells of parameters that can be
    trained, by their names, which constant of the file each is; constants that layers share are one parameter.
    """

    file: str
    sizes: dict[str, tuple[int | None, ...]]
    opset: int
    root: nn.Module = field(default_factory=nn.Module)
    origins: dict[str, Origin] = field(default_factory=dict)
    shared: dict[tuple[str, str], nn.Parameter] = field(default_factory=dict)
    graph: fx.Graph = field(default_factory=fx.Graph)
    values: dict[str, Value] = field(default_factory=dict)
    tensors: dict[str, fx.Node] = field(default_factory=dict)

    def constants(self, graph: onnx.GraphProto) -> None:
        """Take the initial values."""
        for each in graph.initializer:
            self.values[each.name] = numpy_helper.to_array(each)

    def tensor(self, name: str) -> fx.Node:
        """Return a named tensor; a constant becomes a parameter."""
        value = self.tensors.get(name, self.values[name])
        if isinstance(value, fx.Node):
            return value
        made = torch.from_numpy(np.array(value))
        attribute = self._free(plain(name))
        if made.is_floating_point():
            self.root.register_parameter(attribute, nn.Parameter(made))
        else:
            self.root.register_buffer(attribute, made)
        self.tensors[name] = self.graph.get_attr(attribute)
        return self.tensors[name]

    def layer(self, module: nn.Module, name: str, source: fx.Node) -> fx.Node:
        """Hold a layer under its node's name, and call it."""
        attribute = self._free(plain(name))
        self.root.add_module(attribute, module)
        return self.graph.call_module(attribute, (source,))

    def _free(self, name: str) -> str:
        taken = {*self.root._modules, *self.root._parameters, *self.root._buffers, *dir(nn.Module)}
        return next(each for each in (name, *(f"{name}_{count}" for count in range(1, 10_000))) if each not in taken)


@dataclass(frozen=True, slots=True)
class Call:
    """One node with its attributes."""

    reader: Reader
    node: onnx.NodeProto
    attributes: dict[str, Any]

    def refused(self, why: str) -> Refused:
        """Return the error to raise, which names the node."""
        return Refused(
            f"{self.reader.file}: operator {self.name} ({self.node.op_type}) cannot be read into torch: {why}"
        )

    @property
    def name(self) -> str:
        """Return the node's name, or that of its first output."""
        return str(self.node.name or self.node.output[0])

    def has(self, index: int) -> bool:
        """Tell whether there is such an input."""
        return index < len(self.node.input) and bool(self.node.input[index])

    def tensor(self, index: int = 0) -> fx.Node:
        """Return an input."""
        return self.reader.tensor(self.node.input[index])

    def constant(self, index: int) -> Array:
        """Return an input that must be known; Refused where it is computed."""
        value = self.reader.values.get(self.node.input[index])
        if not isinstance(value, np.ndarray):
            raise self.refused(f"its input {self.node.input[index]!r} is computed, and must be a constant")
        return value

    def operand(self, index: int) -> fx.Node | float:
        """Return an input of arithmetic: single numbers stay numbers."""
        value = self.reader.values[self.node.input[index]]
        if isinstance(value, np.ndarray) and value.size == 1 and value.ndim <= 1:
            return float(value.item()) if value.dtype.kind == "f" else int(value.item())
        return self.tensor(index)

    def size(self, index: int = 0) -> tuple[int | None, ...]:
        """Return the dimensions of an input."""
        return self.reader.sizes.get(self.node.input[index], ())

    def setting(self, name: str, index: int, default: Any) -> Any:
        """Return what newer operator sets take as an input and older ones as an attribute."""
        if self.has(index):
            return self.constant(index).tolist()
        return self.attributes.get(name, default)

    def call(self, function: Callable[..., Any], *given: Any, **named: Any) -> fx.Node:
        """Append a call of a function."""
        return self.reader.graph.call_function(function, given, named)

    def layer(self, module: nn.Module, source: fx.Node, **origins: Origin) -> fx.Node:
        """Append a call of a layer, which takes the node's name; ``origins`` are those of its parameters."""
        for parameter, origin in origins.items():
            key = origin.constant, repr(origin)
            module.register_parameter(parameter, self.reader.shared.setdefault(key, getattr(module, parameter)))
        made = self.reader.layer(module, self.name, source)
        self.reader.origins |= {f"{made.target}.{parameter}": origin for parameter, origin in origins.items()}
        return made

    def origin(self, index: int, **how: Any) -> Origin:
        """Return where a parameter comes from that is made of a constant input."""
        return Origin(self.node.input[index], shape=tuple(self.constant(index).shape), **how)

    def trained(self, index: int) -> None:
        """Let a constant input be trained, where it is one that is no single number."""
        name, parameters = self.node.input[index], dict(self.reader.root.named_parameters(recurse=False))
        value = self.reader.tensors.get(name)
        if value is not None and value.target in parameters:
            self.reader.origins[str(value.target)] = Origin(name)


def plain(name: str) -> str:
    """Return a name that torch takes."""
    made = _OTHERS.sub("_", name).strip("_") or "value"
    return f"n{made}" if made[0].isdigit() else made
