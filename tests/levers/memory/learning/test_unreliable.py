"""Values as unreliable memory gives them back, and networks that read them."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from amble.core.dram import DramErrors, Uniform
from amble.levers.memory.learning.reads import layers
from amble.levers.memory.learning.unreliable import (
    Asymmetric,
    Floats,
    FreshErrors,
    ModuleErrors,
    Precision,
    Symmetric,
    Unreliable,
    flipped,
    ranges,
    stores,
)


def none(width: int) -> Tensor:
    return torch.empty(0, dtype=torch.int64)


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


def unreliable(precision: str = "fp32", **how: bool) -> Unreliable:
    network = small()
    seen = ranges(network, [torch.rand(16, 1, 8, 8)])
    kind: Precision = "int8" if precision == "int8" else "fp32"
    return Unreliable(network, stores(network, seen, kind, **how), FreshErrors())


def on_module(rate: float) -> DramErrors:
    return DramErrors(Uniform(2 * rate, 0.5), module=7)


@pytest.mark.parametrize("rate", [1e-4, 1e-2, 0.2])
def test_fresh_errors_have_the_rate_that_was_asked_for(rate: float) -> None:
    torch.manual_seed(1)
    found = FreshErrors().positions("w", 1_000_000, 4, rate)
    spread = (rate * (1 - rate) / 4e6) ** 0.5
    assert len(found) / 4e6 == pytest.approx(rate, abs=4 * spread)


def test_fresh_errors_are_distinct_and_within_the_tensor() -> None:
    torch.manual_seed(1)
    found = FreshErrors().positions("w", 500, 3, 0.3)
    assert len(found.unique()) == len(found)
    assert int(found.min()) >= 0
    assert int(found.max()) < 1500


def test_fresh_errors_differ_between_reads() -> None:
    torch.manual_seed(1)
    first, second = (FreshErrors().positions("w", 10_000, 1, 0.01) for _ in range(2))
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_outside_what_can_be_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        FreshErrors().positions("w", 10, 1, rate)


def test_a_module_errs_at_the_rate_that_was_asked_for_in_every_input() -> None:
    torch.manual_seed(1)
    found = ModuleErrors(on_module).positions("x", 100_000, 5, 0.01)
    for each in range(5):
        inside = ((found >= each * 100_000) & (found < (each + 1) * 100_000)).sum()
        assert int(inside) == pytest.approx(1000, abs=150)


def test_a_module_errs_in_its_weak_cells_only_and_the_same_for_all_inputs() -> None:
    torch.manual_seed(1)
    errors = ModuleErrors(on_module)
    cells = {int(each) % 10_000 for _ in range(20) for each in errors.positions("x", 10_000, 4, 0.01)}
    assert len(cells) == pytest.approx(200, abs=50)


def test_weak_cells_of_a_lower_rate_are_among_those_of_a_higher() -> None:
    torch.manual_seed(1)
    errors = ModuleErrors(lambda rate: DramErrors(Uniform(rate, 1.0), module=3))
    low, high = (set(errors.positions("x", 20_000, 1, rate).tolist()) for rate in (0.001, 0.01))
    assert low
    assert low < high


def test_tensors_of_a_module_lie_at_different_places() -> None:
    errors = ModuleErrors(lambda rate: DramErrors(Uniform(rate, 1.0), module=3))
    first, second = (errors.positions(name, 20_000, 1, 0.01).tolist() for name in ("a", "b"))
    assert first != second
    assert errors.positions("a", 20_000, 1, 0.01).tolist() == first


def test_a_module_with_all_cells_weak_is_refused() -> None:
    with pytest.raises(ValueError, match="FreshErrors"):
        ModuleErrors(lambda rate: DramErrors(Uniform(1.0, rate))).positions("a", 100, 1, 0.1)


@pytest.mark.parametrize(("dtype", "width"), [(torch.uint8, 8), (torch.int16, 16), (torch.int32, 32)])
def test_flipping_every_bit_inverts_all_words(dtype: torch.dtype, width: int) -> None:
    words = torch.arange(12).to(dtype).reshape(3, 4)
    assert torch.equal(flipped(words, torch.arange(12 * width), width), ~words)


def test_flipping_twice_gives_the_words_back() -> None:
    torch.manual_seed(2)
    words, positions = torch.randint(0, 255, (5, 7)).to(torch.uint8), torch.randperm(280)[:60].sort().values
    once = flipped(words, positions, 8)
    assert not torch.equal(once, words)
    assert torch.equal(flipped(once, positions, 8), words)


def test_floats_without_errors_are_themselves() -> None:
    values = torch.linspace(-1, 1, 20)
    assert torch.equal(Floats().read(values, none), values)


def test_an_implausible_value_becomes_zero() -> None:
    read = Floats(-2.0, 2.0).read(torch.tensor([0.5, 0.5]), lambda width: torch.tensor([30]))
    assert read.tolist() == [0.0, 0.5]


def test_a_sign_is_flipped_in_both_widths() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        read = Floats(-2.0, 2.0).read(torch.tensor([0.5, 0.25], dtype=dtype), lambda width: torch.tensor([63]))
        assert read.tolist() == [0.5, -0.25]


def test_bits_that_bfloat16_has_not_are_not_flipped() -> None:
    values = torch.tensor([0.5], dtype=torch.bfloat16)
    assert torch.equal(Floats(-2.0, 2.0).read(values, lambda width: torch.arange(16)), values)


def test_asymmetric_codes_keep_values_within_half_a_step_and_zero_exactly() -> None:
    values = torch.cat([torch.zeros(1), torch.linspace(-0.3, 1.7, 101)])
    read = Asymmetric().read(values, none)
    assert float((read - values).abs().max()) <= 1.01 * 2.0 / 255 / 2 + 2.0 / 255 / 2
    assert float(read[0]) == 0.0


def test_the_highest_bit_of_an_asymmetric_code_moves_by_half_the_range() -> None:
    read = Asymmetric(0.0, 2.55).read(torch.tensor([0.0, 2.55]), lambda width: torch.tensor([7, 15]))
    assert read.tolist() == pytest.approx([1.28, 1.27])


def test_symmetric_codes_have_a_scale_for_every_channel() -> None:
    values = torch.tensor([[0.001, -0.001], [100.0, 50.0]])
    read = Symmetric().read(values, none)
    assert read == pytest.approx(values.numpy(), rel=0.01)


def test_a_network_in_reliable_memory_answers_as_it_is() -> None:
    network, inputs = unreliable(), torch.rand(4, 1, 8, 8)
    assert torch.allclose(network(inputs), network.network(inputs))


@pytest.mark.parametrize("how", [{}, {"asymmetric": True}, {"cut": True}])
def test_int8_answers_are_close_to_those_in_floating_point(how: dict[str, bool]) -> None:
    network, inputs = unreliable("int8", **how), torch.rand(4, 1, 8, 8)
    assert torch.allclose(network(inputs), network.network(inputs), atol=0.05)
    assert not torch.equal(network(inputs), network.network(inputs))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_errors_change_answers_and_leave_the_network_alone(precision: str) -> None:
    torch.manual_seed(3)
    network, inputs = unreliable(precision), torch.rand(4, 1, 8, 8)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert not torch.allclose(network(inputs, 0.05), network(inputs, 0.0))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(not each._forward_hooks for each in network.network.modules())


def test_the_gradient_is_that_of_the_values_read_applied_to_the_clean_weights() -> None:
    network = nn.Sequential(nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[0.5, -0.5]]))
    memory = Unreliable(network, stores(network, {"0": (-1.0, 1.0)}, "fp32"), _Sign())
    scores = memory(torch.tensor([[1.0, 1.0]]), 0.5)
    scores.sum().backward()
    assert scores.item() == pytest.approx(-1.0)
    assert network[0].weight.grad.tolist() == [[1.0, 1.0]]


class _Sign:
    """Flips the sign of the first weight, and nothing of inputs."""

    def positions(self, name: str, num_bits: int, repeats: int, rate: float) -> Tensor:
        return torch.tensor([31] if name.endswith("weight") else [], dtype=torch.int64)


def test_a_layer_that_is_not_there_is_refused() -> None:
    network = small()
    how = stores(network, ranges(network, [torch.rand(2, 1, 8, 8)]), "fp32")
    with pytest.raises(ValueError, match="no layers 9"):
        Unreliable(network, {"9": how["0"]}, FreshErrors())


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="no convolution"):
        layers(nn.Sequential(nn.ReLU()))


def test_ranges_without_tails_are_within_those_with() -> None:
    network, inputs = small(), torch.randn(64, 1, 8, 8)
    whole, cut = (ranges(network, [inputs], tail=tail) for tail in (0.0, 0.01))
    assert whole["0"] == (float(inputs.min()), float(inputs.max()))
    assert all(whole[name][0] <= cut[name][0] and cut[name][1] < whole[name][1] for name in whole)


def test_the_rate_of_a_whole_network_is_that_asked_for() -> None:
    class Counting(FreshErrors):
        bits = flips = 0

        def positions(self, name: str, num_bits: int, repeats: int, rate: float) -> Tensor:
            found = super().positions(name, num_bits, repeats, rate)
            self.bits, self.flips = self.bits + num_bits * repeats, self.flips + len(found)
            return found

    network, errors = small(), Counting()
    memory = Unreliable(network, stores(network, ranges(network, [torch.rand(2, 1, 8, 8)]), "int8"), errors)
    torch.manual_seed(4)
    memory(torch.rand(256, 1, 8, 8), 0.01)
    assert errors.bits == 8 * (36 + 4 * 36 * 3 + 256 * (64 + 144))
    assert errors.flips / errors.bits == pytest.approx(0.01, rel=4 * float(np.sqrt(1 / (0.01 * errors.bits))))
