"""Networks made ready for approximate memory in one call."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from amble.levers.memory.learning.hardening import ENOUGH_STEPS, Lesson, cut_inputs, harden, relearn, top_rate
from amble.levers.memory.learning.retrain import weight_limits
from amble.levers.memory.learning.unreliable import FreshErrors, Unreliable, ranges, stores
from amble.runtimes.torch.importing import to_torch
from amble.runtimes.torch.training import CrossEntropy, Epoch, Labelled, Recipe, accuracy, train

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # torch warns of what it imports itself
    from amble.runtimes.torch.exporting import to_onnx

RECIPE = Recipe(3, top_rate=0.02, batch=32, seed=1, bfloat16=False)


def stripes(seed: int, num: int = 640) -> Labelled:
    """Noisy images with a bright row or column, at one of two places."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (num,), generator=generator)
    images = 0.5 * torch.randn(num, 1, 6, 6, generator=generator)
    for at, label in enumerate(labels.tolist()):
        line = images[at, 0] if label < 2 else images[at, 0].T
        line[2 * (label % 2) + 1] += 1.5
    return Labelled(images, labels)


def network() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4))
    train(made, stripes(1), RECIPE, loss=CrossEntropy())
    return made


def under_errors(inner: nn.Module, ber: float) -> float:
    memory = Unreliable(inner, stores(inner, ranges(inner, [stripes(1).inputs]), "fp32"), FreshErrors(), rate=ber)
    torch.manual_seed(5)
    return sum(accuracy(memory, stripes(2)) for _ in range(10)) / 10


def test_a_hardened_network_bears_more() -> None:
    before, after = network(), network()
    epochs: list[Epoch] = []
    harden(after, stripes(1), RECIPE, ber=0.02, held_out=stripes(2), on_epoch=epochs.append)
    assert len(epochs) == 3
    assert under_errors(after, 0.02) > under_errors(before, 0.02) + 0.02


def test_inputs_of_layers_are_cut_to_their_limits() -> None:
    made = nn.Sequential(nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        made[0].weight.copy_(torch.eye(2))
    cut = cut_inputs(made, {"0": (-1.0, 2.0)})
    assert cut(torch.tensor([[-5.0, 5.0]])).tolist() == [[-1.0, 2.0]]


@pytest.mark.parametrize("ber", [0.0, 0.5])
def test_a_rate_that_nothing_can_be_trained_for_is_refused(ber: float) -> None:
    with pytest.raises(ValueError, match="retrain"):
        harden(network(), stripes(1), RECIPE, ber=ber, held_out=stripes(2))


def test_a_network_from_a_file_is_hardened_and_written_as_a_file(tmp_path: Path) -> None:
    to_onnx(network(), tmp_path / "before.onnx", stripes(1).inputs)
    read = to_torch(tmp_path / "before.onnx")
    hardened = harden(read, stripes(1), RECIPE, ber=0.01, held_out=stripes(2))
    to_onnx(hardened, tmp_path / "after.onnx", stripes(1).inputs)
    session = onnxruntime.InferenceSession(tmp_path / "after.onnx", providers=["CPUExecutionProvider"])
    test = stripes(3)
    answers = session.run(None, {"image": test.inputs.numpy()})[0].argmax(1)
    assert np.mean(answers == test.labels.numpy()) > 0.9


def test_weights_end_within_the_spreads_that_were_asked_for() -> None:
    made = network()
    limits = weight_limits(made, spreads=1.5)
    relearn(made, stripes(1), RECIPE, lesson=Lesson(0.01, spreads=1.5), held_out=stripes(2))
    for name, limit in limits.items():
        assert float(made.get_submodule(name).weight.detach().abs().max()) <= limit * (1 + 1e-6)


def test_the_tail_that_was_asked_for_lies_beyond_the_limits() -> None:
    made = network()
    (low, high), *_ = relearn(made, stripes(1), RECIPE, lesson=Lesson(0.01, tail=0.05), held_out=stripes(2)).values()
    values = stripes(1).inputs
    assert 0.01 < float((values < low).float().mean()) < 0.05
    assert 0.01 < float((values > high).float().mean()) < 0.05


def test_fp32_inputs_are_cut_to_less_than_a_flip_makes_of_zero() -> None:
    made, large = network(), Labelled(10.0 * stripes(1).inputs, stripes(1).labels)
    few = replace(RECIPE, epochs=1)
    floats = relearn(made, large, few, lesson=Lesson(0.01), held_out=large)
    codes = relearn(made, large, few, lesson=Lesson(0.01, "int8"), held_out=large)
    assert all(-2.0 < low <= high < 2.0 for low, high in floats.values())
    assert max(high for _, high in codes.values()) > 2.0


def test_few_steps_are_small_ones() -> None:
    assert top_rate(ENOUGH_STEPS - 1) < top_rate(ENOUGH_STEPS)


def test_in_few_steps_weights_keep_a_wide_range() -> None:
    made = network()
    tight = weight_limits(made, spreads=Lesson(0.01).spreads)
    harden(made, stripes(1), RECIPE, ber=0.01, held_out=stripes(2))
    weights = [each.weight.detach().abs().max() for each in made.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    assert any(float(most) > limit for most, limit in zip(weights, tight.values(), strict=True))
