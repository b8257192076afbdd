"""ResNet-50, VGG-16 and MobileNetV2 at full size → what filling the stairs does to their latency: random weights.

`python -m bench.tail.full_size` prints one JSON line for each network and choice of widths. There is no
accuracy here: channels are ranked by the weights they happen to have. The blind pruner keeps half of the operations;
its widths are then rounded, down as pruners do, and up to the blocks of 16 channels that all stairs here end at, so
that no group has fewer channels than the blind pruner left it. The plan moves every group to the block below or above:
what is fastest in all, by staircases of a few points, and loses no more importance than the blind pruner (relative to a
group's mean, by which that one ranks).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from amble.core.errors import Infeasible, Refused
from amble.core.subject import Where
from amble.levers.widths.adjusting import blind, rounded
from amble.levers.widths.choosing import Pricing, choose, knapsack
from amble.levers.widths.measuring import Effort, empty, staircases
from amble.levers.widths.network import Group, Network, Widths
from amble.levers.widths.staircase import shape_of
from amble.runtimes.onnx.layers import OnnxLayers
from amble.runtimes.torch import exporting
from bench.bases.base import KEPT
from bench.models.architectures import mobilenetv2, resnet50, vgg16
from bench.tail import choices, surgery
from bench.tail.measure import resized, session, timed

NETWORKS: dict[str, Callable[[], nn.Module]] = {"resnet50": resnet50, "vgg16": vgg16, "mobilenetv2": mobilenetv2}
KEEP, BLOCK = 0.5, 16
EFFORT = Effort(rounds=3, runs=3, most_runs=16, coarse=4, fine=0, checks=0, grid=2)
EXAMPLE = (1, 3, 224, 224)
PLAN = "moved to blocks, importance of the blind"
_HALVINGS = 14


def measured(name: str, rounds: int) -> list[dict[str, object]]:
    """Time one network at all choices of widths, which take turns."""
    torch.manual_seed(0)
    module, example = NETWORKS[name]().eval(), torch.rand(EXAMPLE)
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            nn.init.normal_(each.bias)  # else the exporter leaves out biases that are all zero
    network = surgery.importance(module, surgery.coupling(module, example, name=name), kind="l1").network
    model = exporting.to_onnx(module, KEPT / f"{name}.onnx", example)
    cut = blind(network, KEEP)
    plan = planned(network, cut)
    found: dict[str, Widths] = {
        "whole": network.today,
        "blind": cut,
        "filled up to blocks of 16": rounded(network, cut, BLOCK),
        "round to 16": choices.rounded(network, cut, BLOCK),
        "round to 8": choices.rounded(network, cut, 8),
        **({} if plan is None else {PLAN: plan}),
    }
    times_s = timed([session(resized(model, network, each)) for each in found.values()], EXAMPLE, rounds, 2)
    return [
        {"network": name, "variant": variant, "latency_s": time_s, "flops": network.flops(widths)}
        for (variant, widths), time_s in zip(found.items(), times_s, strict=True)
    ]


def planned(network: Network, cut: Widths) -> Widths | None:
    """Move all groups to the blocks below or above at once: the fastest that lose no more than these widths.

    None where other work on the machine makes times of layers vary too much.
    """
    relative, probe = replace(network, groups=tuple(map(_relative, network.groups))), OnnxLayers()
    shapes = [shape_of(each, relative) for each in relative.layers]
    try:
        table = staircases(shapes, probe, empty(probe, Where("host", "measured")), effort=EFFORT)
    except Refused as error:
        print(f"no plan for {network.name}: {error}", file=sys.stderr)
        return None
    ways = (choices.rounded(relative, cut, BLOCK), rounded(relative, cut, BLOCK))
    blocks = {name: tuple(sorted({way[name] for way in ways})) for name in relative.today}
    return fastest(Pricing(relative, table), blocks, relative.lost(cut))


def fastest(pricing: Pricing, blocks: choices.Edges, most_lost: float) -> Widths:
    """Bisect the budget to the loss."""
    asked, best = knapsack(pricing, blocks), {name: widths[-1] for name, widths in blocks.items()}
    low, high = 0.0, pricing.total(best)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        try:
            found = choose(asked, middle)
        except Infeasible:
            low = middle
            continue
        if found.lost <= most_lost:
            best, high = found.widths, middle
        else:
            low = middle
    return best


def _relative(group: Group) -> Group:
    mean = sum(group.importance) / group.width
    return replace(group, importance=tuple(each / mean for each in group.importance))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=8)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for name in chosen.networks:
        for record in measured(name, chosen.rounds):
            print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
