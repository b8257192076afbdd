"""Small torch networks with the ties between layers that surgery has to follow."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def block(inputs: int, outputs: int, kernel: int = 3, *, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Chain(nn.Sequential):
    def __init__(self, *, groups: int = 1) -> None:
        layers = (block(1, 8), block(8, 12, groups=groups), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 4))
        super().__init__(*layers)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer = block(1, 8), block(8, 6), block(6, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((x + self.outer(self.inner(x))).mean((2, 3)))


class Concatenated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.after = block(1, 6), block(1, 4), block(10, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.after(torch.cat([self.left(x), self.right(x)], 1)).mean((2, 3)))


class Gated(nn.Module):
    """Depth-wise, with squeeze and excitation."""

    def __init__(self, width: int = 8, squeezed: int = 4) -> None:
        super().__init__()
        self.up, self.depthwise = block(1, width, 1), block(width, width, groups=width)
        self.squeeze, self.excite = nn.Conv2d(width, squeezed, 1), nn.Conv2d(squeezed, width, 1)
        self.head = nn.Conv2d(width, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.up(x))
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head(x * gate).mean((2, 3))


def seeded(kind: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A network whose normalisation is not trivial, in evaluation mode."""
    torch.manual_seed(seed)
    made = kind()
    for each in made.modules():
        if isinstance(each, nn.BatchNorm2d):
            nn.init.uniform_(each.weight, 0.5, 1.5)
            nn.init.normal_(each.bias)
            nn.init.normal_(each.running_mean)
            nn.init.uniform_(each.running_var, 0.5, 1.5)
    return made.eval()
