"""Channels that belong together go together, the least important first."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from amble.core.errors import Refused
from amble.runtimes.torch.training import Labelled
from bench.tail.surgery import coupling, importance, pruned, recalibrated
from tests.levers.memory.learning.networks import Chain, Concatenated, Gated, Residual, seeded

EXAMPLE = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
KINDS = (Chain, Residual, Concatenated, Gated)


def labelled(num: int = 96) -> Labelled:
    generator = torch.Generator().manual_seed(2)
    return Labelled(torch.rand(num, 1, 8, 8, generator=generator), torch.randint(0, 4, (num,), generator=generator))


def widths_of(kind: type[nn.Module]) -> dict[str, int]:
    return coupling(seeded(kind), EXAMPLE).network.today


def test_groups_are_those_that_a_chain_writes() -> None:
    assert widths_of(Chain) == {"0.0": 8, "1.0": 12}


def test_layers_of_a_residual_sum_share_a_group() -> None:
    network = coupling(seeded(Residual), EXAMPLE).network
    assert network.today == {"stem.0": 8, "inner.0": 6}
    assert [each.name for each in network.writers("stem.0")] == ["stem.0", "outer.0"]
    assert [each.name for each in network.readers("stem.0")] == ["inner.0", "head"]


def test_a_layer_behind_a_concatenation_reads_two_groups() -> None:
    network = coupling(seeded(Concatenated), EXAMPLE).network
    assert network.by_name.keys() == {"left.0", "right.0", "after.0"}
    (after,) = (each for each in network.layers if each.name == "after.0")
    assert after.inputs == ("left.0", "right.0")
    assert network.num_inputs(after, {"left.0": 5, "right.0": 1}) == 6


def test_a_gate_and_a_depthwise_layer_belong_to_what_they_scale() -> None:
    network = coupling(seeded(Gated), EXAMPLE).network
    assert network.today == {"up.0": 8, "squeeze": 4}
    assert [each.name for each in network.writers("up.0")] == ["up.0", "depthwise.0", "excite"]
    assert [each.kind for each in network.layers] == ["conv", "depthwise", "conv", "conv", "conv"]


def test_what_the_network_answers_stays() -> None:
    network = coupling(seeded(Gated), EXAMPLE).network
    assert network.layers[-1].outputs is None
    assert network.num_outputs(network.layers[-1], {"up.0": 1, "squeeze": 1}) == 4


def test_a_dense_layer_reads_several_values_of_a_channel() -> None:
    network = coupling(seeded(Chain), EXAMPLE).network
    assert network.layers[-1].spread == 4
    assert network.num_inputs(network.layers[-1], {"1.0": 5}) == 20


def test_layers_know_the_size_of_what_they_read() -> None:
    network = coupling(seeded(Chain), EXAMPLE).network
    assert [each.size for each in network.layers] == [(8, 8), (8, 8), (1, 1)]
    assert network.flops() == 2 * (64 * 9 * 8 + 64 * 9 * 8 * 12 + 48 * 4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("worth", ["l1", "taylor"])
def test_layers_have_the_asked_widths_after_surgery(kind: type[nn.Module], worth: str) -> None:
    module = seeded(kind)
    coupled = importance(module, coupling(module, EXAMPLE), labelled(), kind=worth)  # type: ignore[arg-type]
    widths = {each.name: max(1, each.width // 2) for each in coupled.network.groups}
    smaller = pruned(module, coupled, widths)
    again = coupling(smaller, EXAMPLE).network
    assert again.today == widths
    assert again.params() == coupled.network.params(widths)
    assert again.flops() == coupled.network.flops(widths)
    assert smaller(EXAMPLE).shape == (2, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_original_is_left_alone(kind: type[nn.Module]) -> None:
    module = seeded(kind)
    before = module(EXAMPLE)
    coupled = coupling(module, EXAMPLE)
    pruned(module, coupled, {each.name: 1 for each in coupled.network.groups})
    torch.testing.assert_close(module(EXAMPLE), before)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_that_do_nothing_can_go_without_a_trace(kind: type[nn.Module]) -> None:
    module = seeded(kind)
    coupled = coupling(module, EXAMPLE)
    dead = silenced(module, coupled.parts)
    ranked = importance(dead, coupled, kind="l1")
    smaller = pruned(dead, ranked, {each.name: each.width - 1 for each in ranked.network.groups})
    torch.testing.assert_close(smaller(EXAMPLE), dead(EXAMPLE))


def silenced(module: nn.Module, parts: object) -> nn.Module:
    """The network without the third channel of every group: nothing is written there."""
    made = copy.deepcopy(module)
    layers = dict(made.named_modules())
    assert isinstance(parts, dict)
    for each in (part for group in parts.values() for part in group):
        place = each.places[each.channels.index(2)]
        with torch.no_grad():
            layers[each.layer].weight[place] = 0.0
            if layers[each.layer].bias is not None:
                layers[each.layer].bias[place] = 0.0
            if isinstance(layers[each.layer], nn.BatchNorm2d):
                layers[each.layer].running_mean[place] = 0.0
    return made


def test_taylor_importance_is_the_derivative_of_the_loss_in_a_gate() -> None:
    module, data = seeded(Chain), labelled(64)
    ranked = importance(module, coupling(module, EXAMPLE), data)
    found = dict(zip(ranked.order["0.0"], ranked.network.by_name["0.0"].importance, strict=True))
    for channel in (0, 3):
        assert found[channel] == pytest.approx(abs(slope(module, data, channel)), rel=0.02)


def slope(module: nn.Module, data: Labelled, channel: int, step: float = 1e-2) -> float:
    """By differences: the loss with the channel a little louder and a little softer."""
    losses = []
    for factor in (1.0 + step, 1.0 - step):
        changed = copy.deepcopy(module).double()
        with torch.no_grad():
            changed[0][1].weight[channel] *= factor  # type: ignore[index]
            changed[0][1].bias[channel] *= factor  # type: ignore[index]
        losses.append(nn.functional.cross_entropy(changed(data.inputs.double()), data.labels).item())
    return (losses[0] - losses[1]) / (2 * step)


def test_importance_without_labels_takes_the_networks_own_answers() -> None:
    module, data = seeded(Residual), labelled()
    own = Labelled(data.inputs, module(data.inputs).argmax(1))
    coupled = coupling(module, EXAMPLE)
    unlabelled = importance(module, coupled, Labelled(data.inputs, None))
    assert unlabelled.order == importance(module, coupled, own).order
    assert unlabelled.order != importance(module, coupled, data).order


def test_scales_of_normalisation_rank_channels() -> None:
    module = seeded(Chain)
    ranked = importance(module, coupling(module, EXAMPLE), kind="bn")
    scales: Tensor = module[0][1].weight  # type: ignore[index, assignment]
    assert list(ranked.order["0.0"]) == scales.abs().argsort().tolist()


def test_networks_without_normalisation_cannot_be_ranked_by_it() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    with pytest.raises(Refused, match="ask for taylor or l1"):
        importance(module, coupling(module, EXAMPLE), kind="bn")


def test_taylor_importance_needs_data() -> None:
    module = seeded(Chain)
    with pytest.raises(ValueError, match="needs data"):
        importance(module, coupling(module, EXAMPLE))


def test_grouped_convolutions_lose_the_same_channel_of_every_sub_group() -> None:
    torch.manual_seed(0)
    module = Chain(groups=2).eval()
    ranked = importance(module, coupling(module, EXAMPLE), kind="l1")
    assert [each.multiple for each in ranked.network.groups] == [2, 2]
    smaller = pruned(module, ranked, {"0.0": 4, "1.0": 6})
    first, second = ranked.order["0.0"][:2]
    assert abs(first - second) == 4
    assert smaller[1][0].weight.shape == (6, 2, 3, 3)  # type: ignore[index]
    with pytest.raises(ValueError, match="cannot have 5"):
        pruned(module, ranked, {"0.0": 5})


def test_widths_beyond_todays_are_refused() -> None:
    module = seeded(Chain)
    with pytest.raises(ValueError, match="cannot have 9 channels: 1 to 8"):
        pruned(module, coupling(module, EXAMPLE), {"0.0": 9})


def test_statistics_are_those_of_the_inputs_after_recalibration() -> None:
    module, inputs = seeded(Chain), labelled(128).inputs
    recalibrated(module, inputs)
    norm: nn.BatchNorm2d = module[0][1]  # type: ignore[index, assignment]
    seen = module[0][0](inputs)  # type: ignore[index]
    torch.testing.assert_close(norm.running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, seen.var((0, 2, 3)), rtol=0.05, atol=1e-4)
    assert norm.momentum == 0.1
    assert not module.training


def test_a_network_that_cannot_be_traced_is_refused() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    with pytest.raises(Refused, match="cannot be traced"):
        coupling(Odd(), EXAMPLE)
