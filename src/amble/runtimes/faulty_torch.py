"""A torch module and the memories its tensors live in → the same module, reading them from there inside a `with` block.

Weights and inputs of layers are changed in place before a layer computes and put back after it, which costs time for
the errors and none for the tensors. Inference only. Needs the extra `torch`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import torch

from amble.runtimes.faults import Changed, Flips, Home, Injector, Wanted

__all__ = ["FaultyTorch"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Read:
    """One read of everything: its seed, its number, and the flips drawn ahead, by tensor."""

    seed: int
    read: int
    drawn: dict[str, Flips]


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
        self._sizes: dict[str, Wanted] = {}
        self._wanted: tuple[Wanted, ...] = ()
        unknown = (self._weights.keys() | self._inputs.keys()) - self._layers.keys()
        if unknown:
            raise ValueError(f"the module has no layers {', '.join(sorted(unknown))}")

    @contextmanager
    def reading(self, seed: int, *, read: int = 0) -> Iterator[torch.nn.Module]:
        """Run the module inside the block on what this seed and read find in memory; clean again after it.

        All that can be is drawn before: inputs are expected to have the shapes of the last time.
        """
        self.num_flips = 0
        weights = {layer: _stored(self._layers[layer].weight) for layer in self._weights}
        if not self._wanted:
            self._wanted = (*self._of_weights(weights), *self._sizes.values())
        at = _Read(seed, read, self.injector.ahead(self._wanted, seed, read=read))
        with ExitStack() as stack, torch.inference_mode():
            for layer, stored in weights.items():
                changed = self._change(stored, f"{layer}.weight", self._weights[layer], at)
                stack.callback(changed.undo, stored)
            for layer, home in self._inputs.items():
                for handle in self._watch(layer, home, at):
                    stack.callback(handle.remove)
            yield self.module

    def _of_weights(self, weights: Mapping[str, Array]) -> Iterator[Wanted]:
        for layer, stored in weights.items():
            name, home = self._name(f"{layer}.weight"), self._weights[layer]
            yield Wanted(name, home, stored.nbytes, stored.itemsize, len(stored) if home.each_example else 1)

    def _watch(self, layer: str, home: Home, at: _Read) -> tuple[Any, Any]:
        """Change a layer's input before it computes, and put it back after."""
        held: list[tuple[Changed, Array]] = []
        name = self._name(f"{layer}.input")

        def before(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            first = given[0].contiguous()
            stored = _stored(first)
            size = Wanted(name, home, stored.nbytes, stored.itemsize, len(first) if home.each_example else 1)
            if self._sizes.get(layer) != size:
                self._sizes[layer] = size
                self._wanted = ()
                at.drawn.pop(name, None)
            held.append((self._change(stored, f"{layer}.input", home, at), stored))
            return (first, *given[1:])

        def after(*_: object) -> None:
            changed, stored = held.pop()
            changed.undo(stored)

        module = self._layers[layer]
        return module.register_forward_pre_hook(before), module.register_forward_hook(after)

    def _change(self, stored: Array, name: str, home: Home, at: _Read) -> Changed:
        known = self._name(name)
        changed = self.injector.corrupt(stored, known, home, at.seed, read=at.read, flips=at.drawn.get(known))
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
