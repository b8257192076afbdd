"""The bundled residual network: 13 convolutions of 3 x 3 and two shortcuts, for grey images of 28 x 28.

Three stages of two basic blocks each (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, Figure 2),
48, 96 and 192 channels at 28 x 28, 14 x 14 and 7 x 7, so that each stage costs about the same number of multiply-adds.
Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTHS = (48, 96, 192)
BLOCKS_PER_STAGE = 2
NUM_CLASSES = 10
PIXEL_MEAN, PIXEL_STD = 0.2860, 0.3530  # of the 60,000 training images, scaled to [0, 1]


class Normalise(nn.Module):  # type: ignore[misc]  # torch has no types here
    """[0, 1] pixels -> zero mean, unit variance over the training set."""

    def forward(self, image: Tensor) -> Tensor:
        return (image - PIXEL_MEAN) * (1.0 / PIXEL_STD)


def convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution with batch normalisation and no bias of its own."""
    padding = kernel // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(outputs),
    )


class BasicBlock(nn.Module):  # type: ignore[misc]  # torch has no types here
    """Two 3 x 3 convolutions around a shortcut; [B, inputs, H, W] -> [B, outputs, H / stride, W / stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, stride=stride)
        self.second = convolution(outputs, outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else convolution(inputs, outputs, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(torch.relu(self.first(x)))
        return torch.relu(y + self.shortcut(x))


def stages() -> nn.Sequential:
    """All blocks; the first block of each stage but the first halves the resolution."""
    blocks, inputs = [], WIDTHS[0]
    for stage, width in enumerate(WIDTHS):
        for position in range(BLOCKS_PER_STAGE):
            stride = 2 if stage > 0 and position == 0 else 1
            blocks.append(BasicBlock(inputs, width, stride))
            inputs = width
    return nn.Sequential(*blocks)


def network() -> nn.Sequential:
    """Image [B, 1, 28, 28] in [0, 1] -> logits [B, 10]."""
    return nn.Sequential(
        Normalise(),
        convolution(1, WIDTHS[0]),
        nn.ReLU(),
        stages(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(WIDTHS[-1], NUM_CLASSES),
    )
