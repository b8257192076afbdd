"""A torch network whose layers read weights and inputs from unreliable memory, for training: fast, and differentiable.

In the forward pass values have bit errors; the gradient passes straight through to the clean floating-point weights
(EDEN: Koppula et al., 2019). Errors are drawn anew (`FreshErrors`) or come from weak cells of one module
(`ModuleErrors`). The same seed does not flip the same bits as the injectors of `runtimes`: only the rate is the same.
Values are FP32, or codes of 8 bits. Biases stay in reliable memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import hardtanh

from amble.core.dram import DramErrors, Span
from amble.levers.memory.learning.reads import layers, placed, places
from amble.runtimes.faults import MARGIN

__all__ = [
    "Asymmetric",
    "Errors",
    "Floats",
    "Format",
    "FreshErrors",
    "ModuleErrors",
    "Precision",
    "Store",
    "Symmetric",
    "Unreliable",
    "flipped",
    "ranges",
    "stores",
    "struck",
]

Precision = Literal["fp32", "int8"]


class Errors(Protocol):
    """Which bits a read flips."""

    def positions(self, name: str, num_bits: int, repeats: int, rate: float) -> Tensor:
        """Return bit positions int64 [flip], ascending, of ``repeats`` contents one after the other, at this rate."""
        ...


class FreshErrors:
    """Model 0, transient: every bit of every read alike. Draws from torch's global generator."""

    def positions(self, name: str, num_bits: int, repeats: int, rate: float) -> Tensor:
        """Return positions [flip], ascending: from one flip to the next the distance is geometric."""
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"a bit error rate lies in [0, 1), not {rate}")
        total = num_bits * repeats
        mean = -math.log1p(-rate)  # of the exponential law whose whole part is geometric
        found = torch.empty(0, dtype=torch.int64)
        start = 0
        while rate > 0.0 and start < total:
            at = _gaps((total - start) * rate, mean).cumsum(0) + (start - 1)
            found = torch.cat([found, at[at < total]])
            start = int(at[-1]) + 1
        return found


def _gaps(expected: float, mean: float) -> Tensor:
    """Return distances int64 [gap], of 1 or more, nearly always enough for so many flips."""
    enough = int(expected + 6.0 * math.sqrt(expected) + 16.0)
    return torch.empty(enough).exponential_().div_(mean).to(torch.int64).add_(1)


class ModuleErrors:
    """Weak cells of one module, which flip with the probability that its error model gives; inputs of a batch go
    through the same cells one after the other. ``at``: bit error rate → errors of the module at that rate."""

    def __init__(self, at: Callable[[float], DramErrors]) -> None:
        self._at, self._next = at, 0
        self._starts: dict[str, int] = {}
        self._weak: dict[tuple[str, int, float], tuple[Tensor, float]] = {}

    def positions(self, name: str, num_bits: int, repeats: int, rate: float) -> Tensor:
        """Return positions [flip]; tensors lie one after the other, in the order in which they were first read."""
        key = (name, num_bits, rate)
        if key not in self._weak:
            self._weak[key] = self._found(name, num_bits, rate)
        weak, flip = self._weak[key]
        cells = (torch.arange(repeats)[:, None] * num_bits + weak).reshape(-1)
        return cells[torch.rand(len(cells)) < flip]

    def _found(self, name: str, num_bits: int, rate: float) -> tuple[Tensor, float]:
        if name not in self._starts:
            self._starts[name], self._next = self._next, self._next + num_bits
        errors = self._at(rate)
        weak = errors.weak_cells(Span(self._starts[name], num_bits)).positions
        if weak is None:
            raise ValueError("all cells are weak: use FreshErrors, which need no list of them")
        return torch.from_numpy(weak), errors.model.most_flip


class Format(Protocol):
    """How values lie in memory, and what a load makes of them."""

    def read(self, values: Tensor, flips: Callable[[int], Tensor]) -> Tensor:
        """Return the values as read; ``flips``: bits of a value → positions [flip] among all bits of the tensor."""
        ...


@dataclass(frozen=True, slots=True)
class Floats:
    """FP32; what lies outside [low, high] becomes 0, as does NaN. None: the range of the values themselves, widened."""

    low: float | None = None
    high: float | None = None

    def read(self, values: Tensor, flips: Callable[[int], Tensor]) -> Tensor:
        """Flip bits of FP32; of a bfloat16 tensor the upper half, which is all that the arithmetic sees."""
        own = self.low is None or self.high is None
        low, high = _widened(values) if self.low is None or self.high is None else (self.low, self.high)
        read = values.clone() if own or _lies_in(values, low, high) else _plausible(values, low, high)
        positions = flips(32)
        if values.dtype == torch.bfloat16:
            positions = positions[(positions & 31) >= 16]
            at, masks = struck((positions >> 5) * 16 + (positions & 15), 16)
            found = _flat(values)[at].view(torch.int16) ^ masks.to(torch.int16)
        else:
            at, masks = struck(positions, 32)
            found = _flat(values)[at].view(torch.int32) ^ masks.to(torch.int32)
        _flat(read)[at] = _plausible(found.view(values.dtype), low, high)
        return read


@dataclass(frozen=True, slots=True)
class Asymmetric:
    """Codes 0 to 255 over [low, high] with 0 among them, rounded (Stutz et al., 2021). None: the values' own range."""

    low: float | None = None
    high: float | None = None

    def read(self, values: Tensor, flips: Callable[[int], Tensor]) -> Tensor:
        """Quantise, flip, and give the codes' values."""
        low, high = _range(values) if self.low is None or self.high is None else (self.low, self.high)
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max((high - low) / 255.0, 1e-12)
        zero = min(round(-low / scale), 255)
        codes = torch.mul(values.float(), 1.0 / scale).round_().clamp_(-zero, 255 - zero)  # less the zero point
        at, masks = struck(flips(8), 8)
        flat = _flat(codes)
        flat[at] = ((flat[at].to(torch.int64) + zero) ^ masks).sub_(zero).to(flat.dtype)
        return codes.mul_(scale).to(values.dtype)


@dataclass(frozen=True, slots=True)
class Symmetric:
    """Codes -127 to 127, a scale for every output channel (the first axis): what ONNX Runtime makes of weights."""

    def read(self, values: Tensor, flips: Callable[[int], Tensor]) -> Tensor:
        """Quantise, flip, and give the codes' values."""
        shape = (-1, *(1,) * (values.dim() - 1))
        scale = (values.float().abs().flatten(1).amax(1) / 127.0).clamp_min(1e-12).reshape(shape)
        codes = (values.float() / scale).round_().clamp_(-127, 127).to(torch.int8)
        return (flipped(codes.view(torch.uint8), flips(8), 8).view(torch.int8).float() * scale).to(values.dtype)


@dataclass(frozen=True, slots=True)
class Store:
    """How a layer's weights and input lie in memory; inputs are first cut to ``limits`` where there are any.

    Of layers that read the same tensor the first decides.
    """

    weights: Format
    inputs: Format
    limits: tuple[float, float] | None = None


class Unreliable(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """A network that reads its tensors from unreliable memory at a rate: its layers are trained in place.

    ``rate`` holds where a call gives none: training sets its own, judging takes this one. At rate 0 values are still
    cut to limits and quantised. A tensor that several layers or a shortcut read is read once for all of them.
    ``network`` is the graph of its layers.
    """

    def __init__(self, network: nn.Module, stores: Mapping[str, Store], errors: Errors, *, rate: float = 0.0) -> None:
        super().__init__()
        unknown = stores.keys() - layers(network).keys()
        if unknown:
            raise ValueError(f"the network has no layers {', '.join(sorted(unknown))}")
        self.network, self.stores, self.errors, self.rate = placed(network), dict(stores), errors, rate
        self._readers = {place: name for name, place in reversed(places(self.network).items()) if name in stores}

    def forward(self, inputs: Tensor, rate: float | None = None) -> Tensor:
        """Return the scores of inputs [B, ...]."""
        asked = self.rate if rate is None else rate
        with ExitStack() as stack:
            for place, name in self._readers.items():
                hook = self.network.get_submodule(place).register_forward_hook(self._behind(name, asked))
                stack.callback(hook.remove)
            read = {
                name: self._read(self.network.get_parameter(name), name, store.weights, asked, 1)
                for name, store in ((f"{layer}.weight", store) for layer, store in self.stores.items())
            }
            scores: Tensor = functional_call(self.network, read, (inputs,))
        return scores

    def _behind(self, name: str, rate: float) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        store = self.stores[name]

        def behind(_: nn.Module, given: tuple[Tensor, ...], found: Tensor) -> Tensor:
            values = found if store.limits is None else hardtanh(found, *store.limits)
            return self._read(values, f"{name}.input", store.inputs, rate, len(values))

        return behind

    def _read(self, values: Tensor, name: str, how: Format, rate: float, repeats: int) -> Tensor:
        def flips(width: int) -> Tensor:
            if rate == 0.0:
                return torch.empty(0, dtype=torch.int64)
            return self.errors.positions(name, values.numel() * width // repeats, repeats, rate)

        with torch.no_grad():
            dense = values.is_contiguous() or values.is_contiguous(memory_format=torch.channels_last)
            found = how.read(values.detach() if dense else values.detach().contiguous(), flips)
        read: Tensor = _StraightThrough.apply(values, found)
        return read


class _StraightThrough(torch.autograd.Function):  # type: ignore[misc]
    """Hands on what was read; its gradient is that of the clean values."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, found: Tensor) -> Tensor:
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def flipped(words: Tensor, positions: Tensor, width: int) -> Tensor:
    """Return integers [...] of ``width`` bits with these bit positions [flip], distinct and ascending, flipped."""
    found = words.clone()
    at, masks = struck(positions, width)
    _flat(found)[at] ^= masks.to(words.dtype)
    return found


def struck(positions: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Bit positions [flip], distinct and ascending → the words that they hit [word], and what flips their bits."""
    words, of = torch.unique_consecutive(positions // width, return_inverse=True)
    return words, torch.zeros(len(words), dtype=torch.int64).index_add_(0, of, 1 << positions % width)


def _flat(values: Tensor) -> Tensor:
    """Return a view [value] of a dense tensor in the order in which it lies in memory."""
    if not values.is_contiguous():
        values = values.permute(0, *range(2, values.dim()), 1)  # channels last
    return values.view(-1)


def _lies_in(values: Tensor, low: float, high: float) -> bool:
    least, most = _range(values)
    return low <= least and most <= high


def _plausible(values: Tensor, low: float, high: float) -> Tensor:
    return torch.where((values >= low) & (values <= high), values, torch.zeros((), dtype=values.dtype))


def ranges(network: nn.Module, batches: Iterable[Tensor], *, tail: float = 0.0) -> dict[str, tuple[float, float]]:
    """Run clean batches → the widest range of each layer's input, without this share of a batch at either end."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in layers(network)}
    with _watching(network, seen, tail), torch.inference_mode():
        for batch in batches:
            network(batch)
    return {name: (min(low for low, _ in each), max(high for _, high in each)) for name, each in seen.items()}


def stores(
    network: nn.Module,
    seen: Mapping[str, tuple[float, float]],
    precision: Precision,
    *,
    cut: bool = False,
    asymmetric: bool = False,
) -> dict[str, Store]:
    """Return how every layer lies in memory, its inputs in the ranges ``seen``, cut to them if asked.

    ``asymmetric``: weights of 8 bits in one asymmetric range a layer instead of symmetric ones for every channel.
    """
    made = {}
    for name in layers(network):
        low, high = seen[name]
        if precision == "int8":
            how: Format = Asymmetric(low, high)
            weights: Format = Asymmetric() if asymmetric else Symmetric()
        else:
            margin = 0.0 if cut else MARGIN * (high - low)  # what is cut lies within
            how, weights = Floats(low - margin, high + margin), Floats()
        made[name] = Store(weights, how, (low, high) if cut else None)
    return made


@contextmanager
def _watching(network: nn.Module, seen: Mapping[str, list[tuple[float, float]]], tail: float) -> Iterator[None]:
    def before(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            values = given[0].float().flatten().sort().values
            cut = int(tail * len(values))
            seen[name].append((float(values[cut]), float(values[len(values) - 1 - cut])))

        return note

    with ExitStack() as stack:
        for name, layer in layers(network).items():
            stack.callback(layer.register_forward_pre_hook(before(name)).remove)
        yield


def _range(values: Tensor) -> tuple[float, float]:
    low, high = values.aminmax()
    return float(low), float(high)


def _widened(values: Tensor) -> tuple[float, float]:
    low, high = _range(values)
    return low - MARGIN * (high - low), high + MARGIN * (high - low)
