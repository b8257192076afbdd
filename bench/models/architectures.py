"""A seed -> well-known networks as torch modules with random weights, layer for layer as published.

Time and energy depend on the layers alone, so nothing is downloaded. Each function names its source; the parameter
counts equal the published ones (`tests/bench/models`). Letters: B batch, H height, W width.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

NUM_CLASSES = 1_000
Kernel = int | tuple[int, int]


class Residual(nn.Module):  # type: ignore[misc]  # torch is untyped where it is not installed
    """body(x) + shortcut(x)."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


class Branches(nn.Module):  # type: ignore[misc]
    """The outputs of several modules on one input, joined along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def initialise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights after He et al. (2015), and a fifth of that at the end of residual branches: activations stay finite."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in model.modules():
        if isinstance(module, Residual):
            nn.init.constant_([part for part in module.modules() if isinstance(part, nn.BatchNorm2d)][-1].weight, 0.2)
    return model.eval()


def conv(inputs: int, outputs: int, kernel: Kernel, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution that keeps the size at stride 1, and its batch normalisation."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (sides[0] // 2, sides[1] // 2)
    layer = nn.Conv2d(inputs, outputs, sides, stride, padding, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(outputs)]


# ResNet: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, Table 1; the stride of a bottleneck is
# in its 3 x 3 convolution, as in torchvision.


def basic(inputs: int, inner: int, stride: int) -> nn.Module:
    first, second = conv(inputs, inner, 3, stride=stride), conv(inner, inner, 3)
    shortcut = nn.Sequential(*conv(inputs, inner, 1, stride=stride)) if stride != 1 or inputs != inner else None
    return nn.Sequential(Residual(nn.Sequential(*first, nn.ReLU(), *second), shortcut), nn.ReLU())


def bottleneck(inputs: int, inner: int, stride: int) -> nn.Module:
    outputs = 4 * inner
    down, middle, up = conv(inputs, inner, 1), conv(inner, inner, 3, stride=stride), conv(inner, outputs, 1)
    shortcut = nn.Sequential(*conv(inputs, outputs, 1, stride=stride)) if stride != 1 or inputs != outputs else None
    body = nn.Sequential(*down, nn.ReLU(), *middle, nn.ReLU(), *up)
    return nn.Sequential(Residual(body, shortcut), nn.ReLU())


def resnet(blocks: Sequence[int], *, deep: bool) -> nn.Module:
    """Image [B, 3, 224, 224] -> [B, 1000]; `blocks` of each stage, bottlenecks if `deep`."""
    make, expansion = (bottleneck, 4) if deep else (basic, 1)
    layers = [*conv(3, 64, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, count in enumerate(blocks):
        for position in range(count):
            inner = 64 * 2**stage
            layers.append(make(inputs, inner, 2 if stage and not position else 1))
            inputs = inner * expansion
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, NUM_CLASSES))


def resnet18() -> nn.Module:
    return resnet((2, 2, 2, 2), deep=False)


def resnet50() -> nn.Module:
    return resnet((3, 4, 6, 3), deep=True)


def resnet152() -> nn.Module:
    return resnet((3, 8, 36, 3), deep=True)


# VGG: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, Table 1.


def vgg(convolutions: Sequence[int]) -> nn.Module:
    """Image [B, 3, 224, 224] -> [B, 1000]; number of `convolutions` before each of the five poolings."""
    layers: list[nn.Module] = []
    inputs = 3
    for stage, count in enumerate(convolutions):
        outputs = min(64 * 2**stage, 512)
        for _ in range(count):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    dense = [nn.Linear(512 * 49, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, NUM_CLASSES)]
    return nn.Sequential(*layers, nn.Flatten(), *dense)


def vgg16() -> nn.Module:
    return vgg((2, 2, 3, 3, 3))


def vgg19() -> nn.Module:
    return vgg((2, 2, 4, 4, 4))


def mobilenetv2() -> nn.Module:
    """Sandler et al., CVPR 2018, Table 2; image [B, 3, 224, 224] -> [B, 1000]."""
    layers = [*conv(3, 32, 3, stride=2), nn.ReLU6()]
    inputs = 32
    rows = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for expansion, outputs, count, stride in rows:
        for position in range(count):
            layers.append(inverted(inputs, outputs, expansion, stride=1 if position else stride))
            inputs = outputs
    layers += [*conv(inputs, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(1280, NUM_CLASSES))


def inverted(inputs: int, outputs: int, expansion: int, *, stride: int) -> nn.Module:
    """Inverted residual: expand, depthwise 3 x 3, project; with a shortcut where the shapes allow it."""
    inner = inputs * expansion
    expand = [*conv(inputs, inner, 1), nn.ReLU6()] if expansion != 1 else []
    depthwise = [*conv(inner, inner, 3, stride=stride, groups=inner), nn.ReLU6()]
    body = nn.Sequential(*expand, *depthwise, *conv(inner, outputs, 1))
    return Residual(body) if stride == 1 and inputs == outputs else body


def alexnet() -> nn.Module:
    """Krizhevsky, "One weird trick for parallelizing convolutional networks", 2014; [B, 3, 224, 224] -> [B, 1000]."""
    layers: list[nn.Module] = []
    rows = [(3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1)]
    for place, (inputs, outputs, kernel, stride, padding) in enumerate(rows):
        layers += [nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.ReLU()]
        layers += [nn.MaxPool2d(3, 2)] if place in (0, 1, 4) else []
    dense = [nn.Linear(256 * 36, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, NUM_CLASSES)]
    return nn.Sequential(*layers, nn.Flatten(), *dense)


# Inception-v4: Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
# AAAI 2017, Figures 3 to 9. A chain is written as its widths and kernels: "v" is 3 x 3 without padding, "/" that at
# stride 2.

KERNELS: dict[str, Kernel] = {"1": 1, "3": 3, "17": (1, 7), "71": (7, 1), "13": (1, 3), "31": (3, 1)}


def chain(inputs: int, *steps: tuple[int, str]) -> nn.Sequential:
    """Convolutions with batch normalisation and ReLU; a step is (outputs, kernel): a key of KERNELS, "v" or "/"."""
    layers: list[nn.Module] = []
    for outputs, kernel in steps:
        layer = conv(inputs, outputs, KERNELS.get(kernel, 3), stride=2 if kernel == "/" else 1)
        if kernel in ("v", "/"):
            layer[0].padding = (0, 0)
        layers += [*layer, nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers)


def pooled(inputs: int, outputs: int) -> nn.Sequential:
    """The branch with average pooling of each Inception block."""
    return nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), *chain(inputs, (outputs, "1")))


def halve() -> nn.Module:
    return nn.MaxPool2d(3, 2)


def inception_stem() -> nn.Sequential:
    tall = chain(160, (64, "1"), (64, "17"), (64, "71"), (96, "v"))
    return nn.Sequential(
        chain(3, (32, "/"), (32, "v"), (64, "3")),
        Branches(halve(), chain(64, (96, "/"))),
        Branches(chain(160, (64, "1"), (96, "v")), tall),
        Branches(chain(192, (192, "/")), halve()),
    )


def inception_a() -> nn.Module:
    double = chain(384, (64, "1"), (96, "3"), (96, "3"))
    return Branches(chain(384, (96, "1")), chain(384, (64, "1"), (96, "3")), double, pooled(384, 96))


def reduction_a() -> nn.Module:
    return Branches(chain(384, (384, "/")), chain(384, (192, "1"), (224, "3"), (256, "/")), halve())


def inception_b() -> nn.Module:
    double = chain(1024, (192, "1"), (192, "71"), (224, "17"), (224, "71"), (256, "17"))
    single = chain(1024, (192, "1"), (224, "17"), (256, "71"))
    return Branches(chain(1024, (384, "1")), single, double, pooled(1024, 128))


def reduction_b() -> nn.Module:
    long = chain(1024, (256, "1"), (256, "17"), (320, "71"), (320, "/"))
    return Branches(chain(1024, (192, "1"), (192, "/")), long, halve())


def inception_c() -> nn.Module:
    def fork(inputs: int) -> nn.Module:
        return Branches(chain(inputs, (256, "13")), chain(inputs, (256, "31")))

    single = nn.Sequential(chain(1536, (384, "1")), fork(384))
    double = nn.Sequential(chain(1536, (384, "1"), (448, "31"), (512, "13")), fork(512))
    return Branches(chain(1536, (256, "1")), single, double, pooled(1536, 256))


def inceptionv4() -> nn.Module:
    """Image [B, 3, 299, 299] -> [B, 1000]."""
    blocks = [inception_a() for _ in range(4)] + [reduction_a()]
    blocks += [inception_b() for _ in range(7)] + [reduction_b()]
    blocks += [inception_c() for _ in range(3)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1536, NUM_CLASSES)]
    return nn.Sequential(inception_stem(), *blocks, *head)


class TinyYoloV3(nn.Module):  # type: ignore[misc]
    """Redmon and Farhadi, "YOLOv3: An Incremental Improvement", 2018, and darknet's `cfg/yolov3-tiny.cfg`.

    Image [B, 3, 416, 416] -> boxes [B, 255, 13, 13] and [B, 255, 26, 26], before decoding.
    """

    NUM_OUTPUTS = 255  # three anchors of four sides, one score and 80 classes

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 32, 64, 128)
        layers = [part for a, b in pairwise(widths) for part in (leaky(a, b, 3), nn.MaxPool2d(2))]
        self.early = nn.Sequential(*layers, leaky(128, 256, 3))
        shrink = [nn.MaxPool2d(2), leaky(256, 512, 3), nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(2, 1)]
        self.late = nn.Sequential(*shrink, leaky(512, 1024, 3), leaky(1024, 256, 1))
        self.coarse = nn.Sequential(leaky(256, 512, 3), nn.Conv2d(512, self.NUM_OUTPUTS, 1))
        self.upward = nn.Sequential(leaky(256, 128, 1), nn.Upsample(scale_factor=2))
        self.fine = nn.Sequential(leaky(128 + 256, 256, 3), nn.Conv2d(256, self.NUM_OUTPUTS, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        early = self.early(image)
        late = self.late(early)
        return self.coarse(late), self.fine(torch.cat([self.upward(late), early], dim=1))


def leaky(inputs: int, outputs: int, kernel: int) -> nn.Module:
    return nn.Sequential(*conv(inputs, outputs, kernel), nn.LeakyReLU(0.1))


class Encoder(nn.Module):  # type: ignore[misc]
    """A model of the `transformers` package -> its last hidden state alone, from token ids and mask [B, length]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


IMAGE_NETWORKS = OrderedDict(
    resnet18=(resnet18, 224),
    resnet50=(resnet50, 224),
    resnet152=(resnet152, 224),
    vgg16=(vgg16, 224),
    vgg19=(vgg19, 224),
    mobilenetv2=(mobilenetv2, 224),
    alexnet=(alexnet, 224),
    inceptionv4=(inceptionv4, 299),
    tiny_yolov3=(TinyYoloV3, 416),
)
"""Name -> what builds it, and the side [pixels] of the image it takes."""
