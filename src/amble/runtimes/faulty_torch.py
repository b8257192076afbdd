"""A torch module and the memories its tensors live in → the same module, reading them from there inside a `with` block.

Weights and inputs of layers are changed in place before a layer computes and put back after it, which costs time for
the errors and none for the tensors. Inference only. Needs the extra `torch`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import torch

from amble.runtimes.faults import Changed, Home, Injector

__all__ = ["FaultyTorch"]


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
        unknown = (self._weights.keys() | self._inputs.keys()) - self._layers.keys()
        if unknown:
            raise ValueError(f"the module has no layers {', '.join(sorted(unknown))}")

    @contextmanager
    def reading(self, seed: int, *, read: int = 0) -> Iterator[torch.nn.Module]:
        """Run the module inside the block on what this seed and read find in memory; clean again after it."""
        self.num_flips = 0
        with ExitStack() as stack, torch.inference_mode():
            for layer, home in self._weights.items():
                stored = _stored(self._layers[layer].weight)
                changed = self._read(stored, f"{layer}.weight", home, seed, read)
                stack.callback(changed.undo, stored)
            for layer, home in self._inputs.items():
                for handle in self._watch(layer, home, seed, read):
                    stack.callback(handle.remove)
            yield self.module

    def _watch(self, layer: str, home: Home, seed: int, read: int) -> tuple[Any, Any]:
        """Change a layer's input before it computes, and put it back after."""
        held: list[tuple[Changed, npt.NDArray[Any]]] = []

        def before(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            first = given[0].contiguous()
            stored = _stored(first)
            held.append((self._read(stored, f"{layer}.input", home, seed, read), stored))
            return (first, *given[1:])

        def after(*_: object) -> None:
            changed, stored = held.pop()
            changed.undo(stored)

        module = self._layers[layer]
        return module.register_forward_pre_hook(before), module.register_forward_hook(after)

    def _read(self, stored: npt.NDArray[Any], name: str, home: Home, seed: int, read: int) -> Changed:
        changed = self.injector.corrupt(stored, self._names.get(name, name), home, seed, read=read)
        self.num_flips += changed.num_flips
        return changed


def _stored(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """Return a tensor's memory as an array [flat]."""
    flat = tensor.detach().reshape(-1)
    if tensor.dtype == torch.bfloat16:
        return np.asarray(flat.view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
    return np.asarray(flat.numpy())
