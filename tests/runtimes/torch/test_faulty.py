"""A torch module reads its tensors from approximate memory, and is as it was afterwards."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from amble.core.dram import DramErrors, Uniform  # noqa: E402
from amble.runtimes.faults import Bounds, Home, Injector  # noqa: E402
from amble.runtimes.torch.faulty import FaultyTorch  # noqa: E402

ALWAYS = Home(DramErrors(Uniform(0.01, 1.0)))
SOMETIMES = Home(DramErrors(Uniform(1.0, 0.01)))


def linear() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4)).eval()


def bits(tensor: Any) -> list[int]:
    return list(tensor.detach().numpy().view(np.uint32).reshape(-1).tolist())


def test_torch_reads_examples_from_the_same_addresses_as_onnx_does() -> None:
    class Copy(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, given):  # type: ignore[no-untyped-def]
            return given.clone()

    layer = torch.nn.Sequential(Copy())
    place = Home(DramErrors(Uniform(0.01, 1.0)), each_example=True)
    faulty = FaultyTorch(layer, weights={}, inputs={"0": place})
    clean = torch.zeros(6, 500)
    for seed in range(2):
        with faulty.reading(seed) as module:
            found = module(clean).numpy()
        expected = Injector().inject({"0.input": clean.numpy()}, {"0.input": place}, seed)["0.input"]
        np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
        assert found.any()
        assert not clean.any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_torch_half_precision_weights_are_bounded_as_values(dtype: str) -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(64, 64).to(getattr(torch, dtype)))
    clean = layer[0].weight.detach().clone()
    faulty = FaultyTorch(
        layer, weights={"0": Home(DramErrors(Uniform(1.0, 0.05)), 0, Bounds(-1, 1, "zero"))}, inputs={}
    )
    with faulty.reading(0):
        read = layer[0].weight.detach().clone()
    assert read.abs().max() <= 1
    assert (read != clean).float().mean() > 0.3
    assert torch.equal(layer[0].weight, clean)


@pytest.mark.parametrize("home", [ALWAYS, SOMETIMES])
def test_weights_are_what_the_injector_finds_and_clean_after_every_read(home: Home) -> None:
    module = linear()
    clean = module[0].weight.detach().clone()
    faulty = FaultyTorch(module, weights={"0": home}, inputs={})
    for seed in (1, 2, 2):
        with faulty.reading(seed):
            found, num_flips = bits(module[0].weight), faulty.num_flips
        expected = Injector().inject({"0.weight": clean.numpy()}, {"0.weight": home}, seed)["0.weight"]
        assert found == bits(torch.from_numpy(expected))
        assert num_flips > 0
        assert torch.equal(module[0].weight, clean)


def test_weights_that_were_trained_on_are_read_anew() -> None:
    module = linear()
    faulty = FaultyTorch(module, weights={"0": ALWAYS}, inputs={})
    with faulty.reading(0):
        first = bits(module[0].weight)
    optimiser = torch.optim.SGD(module.parameters(), lr=1.0)
    module(torch.ones(2, 64)).sum().backward()
    optimiser.step()
    clean = module[0].weight.detach().clone()
    with faulty.reading(0):
        second = bits(module[0].weight)
    assert second != first
    assert second == bits(torch.from_numpy(Injector().inject({"w": clean.numpy()}, {"w": ALWAYS}, 0)["w"]))
    assert torch.equal(module[0].weight, clean)


def test_nothing_of_a_read_stays_on_the_module_even_when_it_fails() -> None:
    module = linear()
    before = bits(module[0].weight)
    faulty = FaultyTorch(module, weights={"0": ALWAYS}, inputs={"0": SOMETIMES, "2": SOMETIMES})
    with pytest.raises(RuntimeError, match="shapes"), faulty.reading(0):
        module(torch.ones(2, 63))
    assert bits(module[0].weight) == before
    assert not any(layer._forward_pre_hooks or layer._forward_hooks for layer in module)
    pickle.loads(pickle.dumps(module))  # noqa: S301  our own
    copy.deepcopy(module)
    image = torch.ones(2, 64)
    with faulty.reading(0):
        module(image)
    assert torch.equal(image, torch.ones(2, 64))
