"""Small networks, each with a way of its own of moving channels, as PyTorch exports them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

Body = Callable[["Net", Tensor], Tensor]


def conv(inputs: int, outputs: int, kernel: int = 3, **more: object) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **more)  # type: ignore[arg-type]


class Net(nn.Module):
    """Parts by name, the way through them, a mean over places and a classifier."""

    def __init__(self, body: Body, width: int, **parts: nn.Module) -> None:
        super().__init__()
        self.way, self.parts, self.head = body, nn.ModuleDict(parts), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.way(self, x)
        return self.head(y.mean(tuple(range(2, y.dim()))) if y.dim() == 4 else y)

    def __getitem__(self, name: str) -> nn.Module:
        return self.parts[name]


def _shuffled(net: Net, x: Tensor) -> Tensor:
    x = net["g"](torch.relu(net["a"](x))).relu()
    return net["b"](x.view(1, 4, 4, 8, 8).transpose(1, 2).reshape(1, 16, 8, 8)).relu()


def _shuffled_by_size(net: Net, x: Tensor) -> Tensor:
    x = net["g"](torch.relu(net["a"](x))).relu()
    n, c, h, w = x.shape
    return net["b"](x.view(n, 4, c // 4, h, w).transpose(1, 2).reshape(n, c, h, w)).relu()


def _pixels(net: Net, x: Tensor) -> Tensor:
    return net["b"](functional.pixel_shuffle(net["a"](x).relu(), 2)).relu()


def _unpixels(net: Net, x: Tensor) -> Tensor:
    return net["b"](functional.pixel_unshuffle(net["a"](x).relu(), 2)).relu()


def _c2f(net: Net, x: Tensor) -> Tensor:
    p, q = net["a"](x).relu().chunk(2, 1)
    return net["o"](torch.cat([p, q, q + net["m"](q).relu()], 1)).relu()


def _sliced(net: Net, x: Tensor) -> Tensor:
    x = net["a"](x).relu()
    return net["o"](torch.cat([x[:, 8:], net["m"](x[:, :8]).relu()], 1)).relu()


def _unet(net: Net, x: Tensor) -> Tensor:
    first = net["a"](x).relu()
    down = net["b"](functional.max_pool2d(first, 2)).relu()
    return net["c"](torch.cat([net["up"](down), first], 1)).relu()


def _resized(net: Net, x: Tensor) -> Tensor:
    first = net["a"](x).relu()
    down = net["b"](functional.max_pool2d(first, 2)).relu()
    return net["c"](torch.cat([functional.interpolate(down, scale_factor=2), first], 1)).relu()


def _gated(net: Net, x: Tensor) -> Tensor:
    x = functional.silu(net["bn"](net["dw"](functional.silu(net["up"](x)))))
    gate = net["excite"](functional.silu(net["squeeze"](functional.adaptive_avg_pool2d(x, 1)))).sigmoid()
    return functional.hardswish(net["down"](x * gate))


def _residual(net: Net, x: Tensor) -> Tensor:
    x = net["a"](x).relu()
    return (x + net["c"](net["b"](x).relu())).relu()


def _dense(net: Net, x: Tensor) -> Tensor:
    a = net["a"](x).relu()
    b = net["b"](a).relu()
    c = net["c"](torch.cat([a, b], 1)).relu()
    return torch.cat([c, a, b], 1)


def _shared(net: Net, x: Tensor) -> Tensor:
    return net["b"](net["b"](net["a"](x).relu()).relu()).relu()


def _multiplied(net: Net, x: Tensor) -> Tensor:
    return net["o"](net["g"](net["a"](x).relu()).relu()).relu()


def _flattened(net: Net, x: Tensor) -> Tensor:
    x = functional.max_pool2d(net["a"](x).relu(), 4)
    return net["f"](x.reshape(x.size(0), -1)).relu()


def _flattened_by_number(net: Net, x: Tensor) -> Tensor:
    return net["f"](functional.max_pool2d(net["a"](x).relu(), 4).reshape(1, 32)).relu()


def _attentive(net: Net, x: Tensor) -> Tensor:
    x = net["patch"](x).flatten(2).transpose(1, 2)
    n, t, d = x.shape
    q, k, v = net["qkv"](net["n1"](x)).reshape(n, t, 3, 2, 8).permute(2, 0, 3, 1, 4)
    seen = ((q @ k.transpose(-2, -1)) * 0.3).softmax(-1) @ v
    x = x + net["proj"](seen.transpose(1, 2).reshape(n, t, d))
    x = x + net["down"](functional.gelu(net["up"](net["n2"](x))))
    return x.mean(1)


def _heads(net: Net, x: Tensor) -> Tensor:
    x = net["patch"](x).flatten(2).transpose(1, 2)
    seen, _ = net["heads"](x, x, x, need_weights=False)
    return net["o"](seen).relu().mean(1)


def _mixer(net: Net, x: Tensor) -> Tensor:
    x = net["patch"](x).flatten(2)
    x = x + net["t2"](functional.gelu(net["t1"](x)))
    return net["c1"](x.transpose(1, 2)).relu().mean(1)


def _channel_attention(net: Net, x: Tensor) -> Tensor:
    x = net["a"](x).relu()
    return net["b"](x * x.mean(1, keepdim=True).sigmoid()).relu()


def _group_norm(net: Net, x: Tensor) -> Tensor:
    return net["b"](net["n"](net["a"](x)).relu()).relu()


def _picked(net: Net, x: Tensor) -> Tensor:
    x = net["a"](x).relu()
    return net["b"](x).relu() * x[:, 2:3]


def _scaled(net: Net, x: Tensor) -> Tensor:
    x = net["p"](net["a"](x))
    return net["b"](net["i"](x) * 2.0 - x).relu()


ZOO: dict[str, Callable[[], nn.Module]] = {
    "shuffled": lambda: Net(_shuffled, 16, a=conv(3, 16), g=conv(16, 16, 1, groups=4), b=conv(16, 16)),
    "shuffled by size": lambda: Net(_shuffled_by_size, 16, a=conv(3, 16), g=conv(16, 16, 1, groups=4), b=conv(16, 16)),
    "pixel shuffle": lambda: Net(_pixels, 8, a=conv(3, 16), b=conv(4, 8)),
    "pixel unshuffle": lambda: Net(_unpixels, 8, a=conv(3, 6), b=conv(24, 8)),
    "C2f": lambda: Net(_c2f, 8, a=conv(3, 16), m=conv(8, 8), o=conv(24, 8, 1)),
    "slices": lambda: Net(_sliced, 8, a=conv(3, 16), m=conv(8, 6), o=conv(14, 8, 1)),
    "U-Net": lambda: Net(
        _unet, 8, a=conv(3, 8), b=conv(8, 12), up=nn.ConvTranspose2d(12, 6, 2, stride=2), c=conv(14, 8)
    ),
    "U-Net with grouped upsampling": lambda: Net(
        _unet, 8, a=conv(3, 8), b=conv(8, 12), up=nn.ConvTranspose2d(12, 12, 2, stride=2, groups=12), c=conv(20, 8)
    ),
    "U-Net that resizes": lambda: Net(_resized, 8, a=conv(3, 8), b=conv(8, 12), c=conv(20, 8)),
    "squeeze and excitation": lambda: Net(
        _gated,
        10,
        up=conv(3, 12, 1),
        dw=conv(12, 12, groups=12),
        bn=nn.BatchNorm2d(12),
        squeeze=conv(12, 4, 1),
        excite=conv(4, 12, 1),
        down=conv(12, 10, 1),
    ),
    "residual": lambda: Net(_residual, 8, a=conv(3, 8), b=conv(8, 12), c=conv(12, 8)),
    "dense": lambda: Net(_dense, 22, a=conv(3, 8), b=conv(8, 8), c=conv(16, 6)),
    "shared weights": lambda: Net(_shared, 8, a=conv(3, 8), b=conv(8, 8)),
    "depth multiplier": lambda: Net(_multiplied, 8, a=conv(3, 8), g=conv(8, 16, groups=8), o=conv(16, 8, 1)),
    "grouped": lambda: Net(_multiplied, 8, a=conv(3, 8), g=conv(8, 16, groups=4), o=conv(16, 8, 1)),
    "flattened": lambda: Net(_flattened, 10, a=conv(3, 8), f=nn.Linear(32, 10)),
    "flattened by number": lambda: Net(_flattened_by_number, 10, a=conv(3, 8), f=nn.Linear(32, 10)),
    "attention": lambda: Net(
        _attentive,
        16,
        patch=nn.Conv2d(3, 16, 4, 4),
        n1=nn.LayerNorm(16),
        qkv=nn.Linear(16, 48),
        proj=nn.Linear(16, 16),
        n2=nn.LayerNorm(16),
        up=nn.Linear(16, 24),
        down=nn.Linear(24, 16),
    ),
    "attention by a module": lambda: Net(
        _heads,
        6,
        patch=nn.Conv2d(3, 8, 4, 4),
        heads=nn.MultiheadAttention(8, 2, batch_first=True),
        o=nn.Linear(8, 6),
    ),
    "mixer": lambda: Net(
        _mixer, 6, patch=nn.Conv2d(3, 8, 2, 2), t1=nn.Linear(16, 12), t2=nn.Linear(12, 16), c1=nn.Linear(8, 6)
    ),
    "mean over channels": lambda: Net(_channel_attention, 8, a=conv(3, 8), b=conv(8, 8)),
    "group normalisation": lambda: Net(_group_norm, 8, a=conv(3, 8), n=nn.GroupNorm(2, 8), b=conv(8, 8)),
    "a single channel": lambda: Net(_picked, 8, a=conv(3, 8), b=conv(8, 8)),
    "parameters of channels": lambda: Net(
        _scaled, 8, a=conv(3, 8), p=nn.PReLU(8), i=nn.InstanceNorm2d(8, affine=True), b=conv(8, 8)
    ),
}


def seeded(name: str) -> nn.Module:
    """A network whose normalisation is not trivial, in evaluation mode."""
    torch.manual_seed(0)
    made = ZOO[name]()
    for each in made.modules():
        if isinstance(each, nn.BatchNorm2d):
            nn.init.uniform_(each.weight, 0.5, 1.5)
            nn.init.normal_(each.bias)
            nn.init.normal_(each.running_mean)
            nn.init.uniform_(each.running_var, 0.5, 1.5)
    return made.eval()


def exported(module: nn.Module, path: Path, *, size: int = 8, opset: int = 17) -> Path:
    """Write a network as most people do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(1, 3, size, size),),
            str(path),
            opset_version=opset,
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
        )
    return path
