"""What is run: the operators of a network in execution order, for one batch size."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from amble.core.subject import Subject

__all__ = ["Gemm", "Graph", "Layer", "Operator", "Port"]


@dataclass(frozen=True, slots=True)
class Gemm:
    """The matrix product inside an operator: ``groups`` products of [m, k] by [k, n].

    A convolution is one with m = batch × output pixels, n = output channels / groups, k = inputs per output.
    """

    m: int
    n: int
    k: int
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or matrix product as the network's file has it, which is what ties all that is said of it.

    ``weights`` is the initialiser that it multiplies by ("" for a product of activations), of ``num_weights`` values;
    ``input`` the tensor that it reads, through a check or not: it is the same layer.
    """

    name: str
    weights: str
    num_weights: int
    input: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class Operator:
    """One node as the runtime executes it, after its own fusion.

    ``flops`` counts a multiply-add as two. ``bytes_read`` covers activations and weights, at the graph's own
    precision; ``weight_bytes`` is the share of it that never changes between inferences.
    ``output_shape`` is empty for scalars and where the runtime does not know it; ``layer`` is what it computes, None
    where that is no layer, or where it is not certain which.
    """

    name: str
    kind: str
    flops: float
    bytes_read: float
    bytes_written: float
    weight_bytes: float = 0.0
    output_shape: tuple[int, ...] = ()
    gemm: Gemm | None = None
    layer: Layer | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a network: its shape with the batch size filled in, and its ONNX element type name."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Graph:
    """Operators in execution order.

    ``digest`` identifies the content (model file, batch and shapes); ``source`` is where the weights are, empty for a
    synthetic graph. A segment of a graph is a graph: ``offset`` is the index of its first operator in the whole.
    """

    name: str
    operators: tuple[Operator, ...]
    batch: int
    digest: str
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    source: str = ""
    precision: str = "fp32"
    offset: int = 0
    whole: int = 0

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each input by its name: with ``source`` and ``batch``, what it takes to read it again."""
        return {port.name: port.shape for port in self.inputs}

    @property
    def subject(self) -> Subject:
        """Return what artefacts about this network carry."""
        return Subject(self.name, self.source, self.digest, self.batch, self.shapes)

    @property
    def num_operators(self) -> int:
        """Count the operators of the whole network that this graph is, or is a segment of."""
        return self.whole or len(self.operators)

    @property
    def ends(self) -> bool:
        """Tell whether the last operator of the whole network is in here."""
        return self.offset + len(self.operators) == self.num_operators

    def segment(self, start: int, stop: int) -> Graph:
        """Return operators ``start`` to ``stop - 1`` of this graph as a graph of its own."""
        if not 0 <= start < stop <= len(self.operators):
            raise ValueError(f"no operators {start} to {stop} in a graph of {len(self.operators)}")
        return replace(self, operators=self.operators[start:stop], offset=self.offset + start, whole=self.num_operators)
