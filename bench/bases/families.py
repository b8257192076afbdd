"""Name → a small network: LeNet-, VGG-, ResNet- and MobileNetV2-like for grey images of 28 x 28, DS-CNN for keywords.

At most 13 M multiply-adds and 0.5 M parameters each, so that three seeds of each train on a CPU within the hour. Every
block is convolution, batch normalisation, activation, as in the networks they are named after: LeCun et al., 1998;
Simonyan and Zisserman, 2015; He et al., 2016 (basic blocks); Sandler et al., 2018 (inverted residuals); Y. Zhang et
al., "Hello Edge: Keyword Spotting on Microcontrollers", 2017 (DS-CNN).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from bench.bases.architecture import NUM_CLASSES, BasicBlock, Normalise, convolution

BAND_MEAN, BAND_STD = 0.2606, 0.1723  # of the 12,000 clips to learn from (`keywords.py`), scaled to [0, 1]

__all__ = ["NETWORKS", "keywords", "lenet", "mobilenet", "resnet", "vgg"]


def lenet() -> nn.Sequential:
    """Two 5 x 5 convolutions with pooling, two dense layers: 2.3 M multiply-adds, 0.43 M parameters."""
    return nn.Sequential(
        Normalise(),
        *(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, NUM_CLASSES)),
    )


def vgg() -> nn.Sequential:
    """Five 3 x 3 convolutions in three stages, 32, 48 and 96 channels: 13 M multiply-adds, 0.16 M parameters."""
    return nn.Sequential(
        Normalise(),
        *_active(1, 32, stride=2),
        *_active(32, 48),
        *_active(48, 48),
        nn.MaxPool2d(2),
        *_active(48, 96),
        *_active(96, 96),
        *_head(96),
    )


def resnet() -> nn.Sequential:
    """Three basic blocks of 32, 64 and 128 channels: 10 M multiply-adds, 0.31 M parameters."""
    return nn.Sequential(
        Normalise(),
        *_active(1, 32, stride=2),
        BasicBlock(32, 32, 1),
        BasicBlock(32, 64, 2),
        BasicBlock(64, 128, 2),
        *_head(128),
    )


class InvertedResidual(nn.Module):  # type: ignore[misc]  # torch has no types here
    """1 x 1 up, 3 x 3 depth-wise, 1 x 1 down without activation, around a shortcut where shapes allow one."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, expansion: int = 4) -> None:
        super().__init__()
        wide = inputs * expansion
        depthwise = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False)
        self.layers = nn.Sequential(
            *((convolution(inputs, wide, kernel=1), nn.ReLU6()) if expansion > 1 else ()),
            *(nn.Sequential(depthwise, nn.BatchNorm2d(wide)), nn.ReLU6()),
            convolution(wide, outputs, kernel=1),
        )
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.has_shortcut else y


def mobilenet() -> nn.Sequential:
    """Seven inverted residuals of 24, 40 and 64 channels: 6.8 M multiply-adds, 0.12 M parameters."""
    plan = ((24, 24, 1), (24, 40, 2), (40, 40, 1), (40, 40, 1), (40, 64, 1), (64, 64, 1))
    return nn.Sequential(
        Normalise(),
        *(convolution(1, 32, stride=2), nn.ReLU6()),
        InvertedResidual(32, 24, 1, expansion=1),
        *(InvertedResidual(*block) for block in plan),
        *(convolution(64, 256, kernel=1), nn.ReLU6()),
        *_head(256),
    )


class Standardise(nn.Module):  # type: ignore[misc]  # torch has no types here
    """[0, 1] pictures -> zero mean and unit variance, where these are the mean and deviation of their set."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, picture: Tensor) -> Tensor:
        return (picture - self.mean) * (1.0 / self.std)


def keywords() -> nn.Sequential:
    """A convolution of 10 x 4 and four depth-wise separable ones, 64 channels: 5.3 M multiply-adds, 0.02 M parameters.

    The smallest DS-CNN of Hello Edge, for pictures of 49 windows and 20 bands; only its first layer takes steps of two.
    """
    first = nn.Conv2d(1, 64, (10, 4), 2, (5, 1), bias=False)
    return nn.Sequential(
        Standardise(BAND_MEAN, BAND_STD),
        *(nn.Sequential(first, nn.BatchNorm2d(64)), nn.ReLU()),
        *(layer for _ in range(4) for layer in _separable(64)),
        *_head(64),
    )


NETWORKS: dict[str, Callable[[], nn.Sequential]] = {
    "lenet": lenet,
    "vgg": vgg,
    "resnet": resnet,
    "mobilenet": mobilenet,
    "keywords": keywords,
}


def _active(inputs: int, outputs: int, *, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return convolution(inputs, outputs, stride=stride), nn.ReLU()


def _separable(width: int) -> tuple[nn.Module, ...]:
    """3 x 3 depth-wise, then 1 x 1."""
    depthwise = nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False)
    return (
        *(nn.Sequential(depthwise, nn.BatchNorm2d(width)), nn.ReLU()),
        *(convolution(width, width, kernel=1), nn.ReLU()),
    )


def _head(width: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, NUM_CLASSES)
