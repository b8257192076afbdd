"""Networks made ready for approximate memory in one call."""

import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from amble.adapt.learning.hardening import cut_inputs, harden
from amble.adapt.learning.importing import to_torch
from amble.adapt.learning.training import CrossEntropy, Labelled, Recipe, accuracy, train
from amble.adapt.learning.unreliable import FreshErrors, Unreliable, ranges, stores

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # torch warns of what it imports itself
    from amble.adapt.learning.exporting import to_onnx

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
    epochs = harden(after, stripes(1), RECIPE, ber=0.02, held_out=stripes(2))
    assert len(epochs) == 3
    assert under_errors(after, 0.02) > under_errors(before, 0.02) + 0.02


def test_inputs_of_layers_are_cut_to_their_limits() -> None:
    made = nn.Sequential(nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        made[0].weight.copy_(torch.eye(2))
    cut_inputs(made, {"0": (-1.0, 2.0)})
    assert made(torch.tensor([[-5.0, 5.0]])).tolist() == [[-1.0, 2.0]]


@pytest.mark.parametrize("ber", [0.0, 0.5])
def test_a_rate_that_nothing_can_be_trained_for_is_refused(ber: float) -> None:
    with pytest.raises(ValueError, match="retrain"):
        harden(network(), stripes(1), RECIPE, ber=ber, held_out=stripes(2))


def test_a_network_from_a_file_is_hardened_and_written_as_a_file(tmp_path: Path) -> None:
    to_onnx(network(), tmp_path / "before.onnx", stripes(1).inputs)
    read = to_torch(tmp_path / "before.onnx")
    harden(read, stripes(1), RECIPE, ber=0.01, held_out=stripes(2))
    to_onnx(read, tmp_path / "after.onnx", stripes(1).inputs)
    session = onnxruntime.InferenceSession(tmp_path / "after.onnx", providers=["CPUExecutionProvider"])
    test = stripes(3)
    answers = session.run(None, {"image": test.inputs.numpy()})[0].argmax(1)
    assert np.mean(answers == test.labels.numpy()) > 0.9
