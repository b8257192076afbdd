"""Training continues where it stopped, with the same weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import ModuleType

import pytest

torch = pytest.importorskip("torch")


@pytest.fixture
def train(script: Callable[[str], ModuleType]) -> ModuleType:
    torch.set_num_threads(1)
    return script("tools.bundled.train")


def noise(train: ModuleType, count: int = 256) -> object:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 28, 28), generator=generator, dtype=torch.uint8)
    return train.Split(images, torch.randint(0, 10, (count,), generator=generator))


def test_an_interrupted_run_ends_with_the_weights_of_one_that_was_not(train: ModuleType) -> None:
    data = noise(train)
    whole = train.start(4, 256, 1)
    train.train_epoch(whole, data, 1)
    saved = copy.deepcopy(whole.state())
    train.train_epoch(whole, data, 1)

    continued = train.start(4, 256, 99)
    continued.load(saved)
    assert continued.epoch == 1
    train.train_epoch(continued, data, 1)

    pairs = zip(whole.model.state_dict().values(), continued.model.state_dict().values(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def test_augmenting_shifts_and_flips_but_keeps_the_pixels(train: ModuleType) -> None:
    images = torch.zeros(400, 28, 28, dtype=torch.uint8)
    images[:, 10, 4] = 200
    made = train.augment(images, torch.Generator().manual_seed(0))
    places = made.nonzero()
    assert len(places) == 400
    assert set(places[:, 1].tolist()) == set(range(8, 13))
    assert set(places[:, 2].tolist()) == {*range(2, 7), *range(21, 26)}


def test_folding_batch_normalisation_keeps_the_answers(train: ModuleType) -> None:
    from bench.bases.architecture import network
    from bench.bases.export import folded

    torch.manual_seed(0)
    model = network()
    model(torch.rand(64, 1, 28, 28))  # running statistics that are not zero and one
    model.eval()
    image = torch.rand(4, 1, 28, 28)
    plain = folded(model)
    assert not [part for part in plain.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert torch.allclose(plain(image), model(image), atol=1e-5)
