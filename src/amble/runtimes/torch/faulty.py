"""A torch module and the memories its tensors live in → the same module, reading them from there inside a `with` block.

Weights and inputs of layers are changed in place before a layer computes and put back after it, which costs time for
the errors and none for the tensors. Weights whose errors are always the same are read once, and then only exchanged.
Inference only. Needs the extra `torch`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import torch

from amble.runtimes.faults import Changed, Flips, Home, Injector, Wanted

__all__ = ["FaultyTorch"]

Array = npt.NDArray[Any]

_OURS = "amble"  # our key in torch's tables of hooks; its handles would cost more than the errors


@dataclass(frozen=True, slots=True)
class _Read:
    """One read of everything: its seed, its number, and the flips drawn ahead, by tensor."""

    seed: int
    read: int
    drawn: dict[str, Flips]


@dataclass(slots=True)
class _Input:
    """A layer's input as it was last: its size in bytes, and what is wanted ahead for one of that size."""

    name: str
    home: Home
    size_bytes: int = -1
    wanted: Wanted | None = None
    held: list[tuple[Changed, Array]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Copy:
    """A weight as it is found in memory every time, of one version of the clean one."""

    clean: torch.Tensor
    version: int
    found: torch.Tensor
    num_flips: int

    def of(self, weight: torch.nn.Parameter) -> bool:
        """Tell whether this is still what a weight's memory holds."""
        return (self.clean.data_ptr(), self.version) == (weight.data_ptr(), weight._version)


class FaultyTorch:
    """A module whose tensors are read from approximate memory.

    ``weights`` and ``inputs`` say where the weight and the input of a layer live, by the layer's name in the module.
    ``names`` gives tensors the names that another back end has for them (``LAYER.weight`` and ``LAYER.input`` →
    theirs), so that the same seed flips the same bits there.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        weights: Mapping[str, Home],
        inputs: Mapping[str, Home],
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.module, self.injector, self.num_flips = module, Injector(), 0
        self._weights, self._inputs, self._names = dict(weights), dict(inputs), dict(names or {})
        self._layers = dict(module.named_modules())
        self._wanted: tuple[Wanted, ...] = ()
        self._seen = {layer: _Input(self._name(f"{layer}.input"), home) for layer, home in self._inputs.items()}
        self._copies: dict[str, _Copy] = {}
        self._at = _Read(0, 0, {})
        unknown = (self._weights.keys() | self._inputs.keys()) - self._layers.keys()
        if unknown:
            raise ValueError(f"the module has no layers {', '.join(sorted(unknown))}")
        self._hooks = [(self._layers[layer], *self._hooked(seen)) for layer, seen in self._seen.items()]

    @contextmanager
    def reading(self, seed: int, *, read: int = 0) -> Iterator[torch.nn.Module]:
        """Run the module inside the block on what this seed and read find in memory; clean again after it.

        All that can be is drawn before: inputs are expected to have the shapes of the last time.
        """
        self.num_flips = 0
        drawn = [layer for layer, home in self._weights.items() if not home.errors.persistent]
        stored = {layer: _stored(self._layers[layer].weight) for layer in drawn}
        if not self._wanted:
            inputs = [each.wanted for each in self._seen.values() if each.wanted is not None]
            self._wanted = (*self._of_weights(stored), *inputs)
        self._at = _Read(seed, read, self.injector.ahead(self._wanted, seed, read=read))
        with ExitStack() as stack:
            for layer in (layer for layer in self._weights if layer not in stored):
                self._exchange(layer, stack)
            stack.enter_context(torch.inference_mode())
            for layer, array in stored.items():
                changed = self._change(array, self._name(f"{layer}.weight"), self._weights[layer])
                stack.callback(changed.undo, array)
            stack.callback(self._unhook)
            for module, before, after in self._hooks:
                module._forward_pre_hooks[_OURS] = before
                module._forward_hooks[_OURS] = after
            yield self.module

    def _unhook(self) -> None:
        for module, *_ in self._hooks:
            module._forward_pre_hooks.pop(_OURS, None)
            module._forward_hooks.pop(_OURS, None)
        for seen in self._seen.values():
            seen.held.clear()

    def _of_weights(self, weights: Mapping[str, Array]) -> Iterator[Wanted]:
        for layer, stored in weights.items():
            yield _wanted(stored, self._name(f"{layer}.weight"), self._weights[layer])

    def _exchange(self, layer: str, stack: ExitStack) -> None:
        """Put what is always found of a weight in its place, until the stack closes."""
        weight = self._layers[layer].weight
        copy = self._copies.get(layer)
        if copy is None or not copy.of(weight):
            clean, version = weight.data, weight._version
            found = clean.clone(memory_format=torch.contiguous_format)
            changed = self._change(_stored(found), self._name(f"{layer}.weight"), self._weights[layer])
            copy = self._copies[layer] = _Copy(clean, version, found, changed.num_flips)
        else:
            self.num_flips += copy.num_flips
        weight.data = copy.found
        stack.callback(setattr, weight, "data", copy.clean)

    def _hooked(self, seen: _Input) -> tuple[Any, Any]:
        """Make what changes a layer's input before it computes, and what puts it back after."""
        name, home, held = seen.name, seen.home, seen.held

        def before(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            first = given[0].contiguous()
            stored = _stored(first)
            if stored.nbytes != seen.size_bytes:
                seen.size_bytes, seen.wanted = stored.nbytes, _wanted(stored, name, home)
                self._wanted = ()
                self._at.drawn.pop(name, None)
            held.append((self._change(stored, name, home), stored))
            return (first, *given[1:])

        def after(*_: object) -> None:
            changed, stored = held.pop()
            changed.undo(stored)

        return before, after

    def _change(self, stored: Array, name: str, home: Home) -> Changed:
        at = self._at
        changed = self.injector.corrupt(stored, name, home, at.seed, read=at.read, flips=at.drawn.get(name))
        self.num_flips += changed.num_flips
        return changed

    def _name(self, name: str) -> str:
        return self._names.get(name, name)


def _stored(tensor: torch.Tensor) -> Array:
    """Return a tensor's memory as an array of its shape."""
    plain = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return np.asarray(plain.view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
    return np.asarray(plain.numpy())


def _wanted(stored: Array, name: str, home: Home) -> Wanted:
    return Wanted(name, home, stored.nbytes, stored.itemsize, len(stored) if home.each_example else 1)
