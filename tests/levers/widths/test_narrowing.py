"""A network that is narrower and tuned is the file it was, with fewer and other weights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from amble.core.errors import Refused
from amble.levers.widths import narrowing, renormalising
from amble.levers.widths.channels.file import answers
from amble.levers.widths.narrowing import Narrowing, opened
from amble.runtimes.torch import training
from amble.runtimes.torch.importing import read, to_torch
from amble.runtimes.torch.training import CrossEntropy, Labelled, Recipe
from tests.levers.widths.channels.zoo import ZOO, Net, conv, exported, seeded


def inputs(num: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((num, 3, 8, 8)).astype(np.float32)


def half(found: Narrowing) -> dict[str, int]:
    return {each.name: each.allowed[len(each.allowed) // 2] for each in found.network.groups}


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def answered(path: Path, given: np.ndarray) -> np.ndarray:
    return np.concatenate([answers(onnx.load(path), {"x": each[None]}, path.name)["y"] for each in given])


@pytest.mark.parametrize("name", ZOO)
def test_a_network_is_read_into_torch_as_it_answers(tmp_path: Path, name: str) -> None:
    path = exported(seeded(name), tmp_path / "net.onnx")
    given = inputs(3)
    with torch.inference_mode():
        found = to_torch(path)(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(found, answered(path, given), atol=1e-5)


@pytest.mark.parametrize("name", ["squeeze and excitation", "C2f", "attention", "shared weights", "U-Net", "shuffled"])
def test_a_tuned_network_has_the_operators_of_the_one_that_was_cut_and_answers_as_trained(
    tmp_path: Path, name: str
) -> None:
    path, given = exported(seeded(name), tmp_path / "net.onnx"), inputs(64)
    found = opened(path, given, None)
    cut, tuned = tmp_path / "cut.onnx", tmp_path / "tuned.onnx"
    found.write(half(found), cut)
    found.tune(half(found), tuned, epochs=1)
    assert operators(tuned) == operators(cut)
    assert not np.array_equal(answered(tuned, given[:4]), answered(cut, given[:4]))  # it learned
    with torch.inference_mode():
        np.testing.assert_allclose(
            to_torch(tuned)(torch.from_numpy(given[:4])).numpy(), answered(tuned, given[:4]), atol=1e-5
        )


@pytest.mark.parametrize("name", ["C2f", "slices", "attention", "U-Net that resizes"])
@pytest.mark.parametrize("opset", [9, 12])
def test_files_of_old_operator_sets_are_cut_and_tuned_as_well(tmp_path: Path, name: str, opset: int) -> None:
    path, given = exported(seeded(name), tmp_path / "net.onnx", opset=opset), inputs(20)
    found = opened(path, given, None)
    found.write(half(found), tmp_path / "cut.onnx")
    found.tune(half(found), tmp_path / "tuned.onnx", epochs=1)
    assert onnx.load(tmp_path / "tuned.onnx").opset_import[0].version == opset
    assert operators(tmp_path / "tuned.onnx") == operators(tmp_path / "cut.onnx")


def test_normalisation_that_is_added_for_training_changes_no_answer_and_is_folded_without_a_trace(
    tmp_path: Path,
) -> None:
    path, given = exported(seeded("squeeze and excitation"), tmp_path / "net.onnx"), torch.from_numpy(inputs(64))
    network, _ = read(onnx.load(path), "net")
    with torch.inference_mode():
        before = network(given)
        renormalising.normalised(network, spreads := renormalising.measured(network, given))
        renormalising.settled(network, given)
        assert spreads
        torch.testing.assert_close(network(given), before, atol=1e-4, rtol=1e-3)
        renormalising.folded(network)
        torch.testing.assert_close(network(given), before, atol=1e-4, rtol=1e-3)
    assert not any(renormalising.SUFFIX in name for name, _ in network.named_modules())


@pytest.mark.parametrize("worth", ["taylor", "l1"])
def test_channels_that_do_nothing_go_first(tmp_path: Path, worth: narrowing.Worth) -> None:
    module = seeded("residual")
    dead = [1, 4, 6]
    with torch.no_grad():
        layer = module["b"]  # type: ignore[index]
        layer.weight[dead], layer.bias[dead] = 0.0, 0.0
    path = exported(module, tmp_path / "net.onnx")
    found = opened(path, inputs(64), np.arange(64) % 4, worth=worth)
    name = "/b/Conv"
    assert found.network.by_name[name].importance[:3] == pytest.approx((0.0, 0.0, 0.0))
    found.write({name: 9}, tmp_path / "cut.onnx")
    np.testing.assert_allclose(answered(tmp_path / "cut.onnx", inputs(4)), answered(path, inputs(4)), atol=1e-5)


class _Block(nn.Module):
    """Up, each channel by itself, a gate, down: what MobileNetV3 and EfficientNet are made of."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up = nn.Sequential(conv(width, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.SiLU())
        self.each = nn.Sequential(conv(inner, inner, groups=inner, bias=False), nn.BatchNorm2d(inner), nn.SiLU())
        self.squeeze, self.excite = conv(inner, 4, 1), conv(4, inner, 1)
        self.down = nn.Sequential(conv(inner, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.each(self.up(x))
        gate = self.excite(nn.functional.silu(self.squeeze(y.mean((2, 3), keepdim=True)))).sigmoid()
        return x + self.down(y * gate)


def _mobile(width: int, inner: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    stem = nn.Sequential(conv(3, width, bias=False), nn.BatchNorm2d(width), nn.SiLU())
    blocks = nn.Sequential(*(_Block(width, inner) for _ in range(2)))
    return Net(lambda net, x: net["blocks"](net["stem"](x)), width, stem=stem, blocks=blocks)


def _patterns(num: int, seed: int) -> Labelled:
    """Four patterns, moved by chance, under noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (num,), generator=generator)
    kinds = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    moves = torch.randint(0, 8, (num, 2), generator=generator).tolist()
    moved = [torch.roll(kinds[each], tuple(move), (1, 2)) for each, move in zip(labels, moves, strict=True)]
    return Labelled(torch.stack(moved) + 0.8 * torch.randn(num, 3, 8, 8, generator=generator), labels)


def test_where_normalisation_was_folded_tuning_recovers_what_training_afresh_gets(tmp_path: Path) -> None:
    learning, others = _patterns(800, 1), _patterns(800, 2)
    recipe = Recipe(6, top_rate=0.1, batch=64, bfloat16=False)
    training.train(whole := _mobile(8, 24, 0), learning, recipe, loss=CrossEntropy())
    path = exported(whole.eval(), tmp_path / "net.onnx")
    assert "BatchNormalization" not in operators(path)  # folded
    assert learning.labels is not None
    found = opened(path, learning.inputs.numpy(), learning.labels.numpy())
    found.write(half(found), tmp_path / "cut.onnx")
    found.tune(half(found), tmp_path / "settled.onnx", epochs=0)
    found.tune(half(found), tmp_path / "tuned.onnx", epochs=3)
    training.train(afresh := _mobile(4, 12, 1), learning, Recipe(3, top_rate=0.1, batch=64), loss=CrossEntropy())
    cut, settled, tuned = (
        training.accuracy(to_torch(tmp_path / f"{each}.onnx"), others) for each in ("cut", "settled", "tuned")
    )
    assert cut < settled < tuned
    assert tuned >= training.accuracy(afresh, others)
    assert operators(tmp_path / "tuned.onnx") == operators(path)


def test_a_network_that_takes_one_example_at_a_time_only_is_refused_with_a_remedy(tmp_path: Path) -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = conv(3, 8), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).relu().reshape(8, 64).mean(1))[None]

    path = exported(One().eval(), tmp_path / "one.onnx")
    with pytest.raises(Refused, match="several examples at once"):
        opened(path, inputs(20), None)
