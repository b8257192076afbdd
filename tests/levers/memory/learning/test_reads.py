"""Places at which a network reads its tensors from memory."""

import pytest
import torch
from torch import Tensor, nn

from amble.levers.memory.learning.reads import layers, placed, places


class Shortcut(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """A convolution, another beside it, and a shortcut, all reading what is given."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.beside = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x) + self.beside(x) + x


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), Shortcut(), nn.Flatten(), nn.Linear(32, 3))


IMAGES = torch.linspace(-1.0, 1.0, 32).reshape(2, 1, 4, 4)


def test_a_network_with_places_answers_as_it_did() -> None:
    plain = network()
    assert torch.equal(placed(plain)(IMAGES), plain(IMAGES))


def test_layers_share_their_weights_and_keep_their_names() -> None:
    plain = network()
    made = placed(plain)
    assert layers(made).keys() == layers(plain).keys() == {"0", "2.first", "2.beside", "4"}
    assert all(layers(made)[name] is each for name, each in layers(plain).items())


def test_a_tensor_that_two_layers_and_a_shortcut_read_has_one_place() -> None:
    found = places(placed(network()))
    assert found["2.first"] == found["2.beside"]
    assert len(set(found.values())) == 3


def test_what_happens_at_a_place_reaches_the_shortcut() -> None:
    made = placed(network())
    made.get_submodule(places(made)["2.first"]).register_forward_hook(lambda module, given, found: 0.0 * found)
    with torch.no_grad():
        for name in ("2.first", "2.beside"):
            layers(made)[name].bias.zero_()
    assert torch.equal(made(IMAGES), layers(made)["4"].bias.expand(2, 3))


def test_places_are_made_once() -> None:
    made = placed(placed(network()))
    assert len({name for name, _ in made.named_modules() if name.startswith("read_")}) == 3


def test_the_mode_of_the_network_is_kept() -> None:
    for training in (True, False):
        made = placed(network().train(training))
        assert all(each.training is training for each in made.modules())


def test_a_network_that_cannot_be_followed_is_refused() -> None:
    class Deciding(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) if x.sum() > 0 else x

    with pytest.raises(ValueError, match="control flow"):
        placed(Deciding())
