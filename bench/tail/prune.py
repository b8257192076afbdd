"""The trained networks of `base.py` → pruned ones, fine-tuned: `python -m bench.tail.prune`.

About an hour on one core; interrupt it at any time, it continues with the next variant. Every variant of a network and
seed starts from the same weights, ranks channels by the same importance and is fine-tuned by the same recipe. One JSON
line a variant goes to `bench/tail/prune.jsonl`: widths, accuracy on held-out and test images, digests of code and data.
"""

from __future__ import annotations

import os
from typing import Any

from bench.kit import code
from bench.kit.places import BENCH

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a spinning OpenMP collapses as soon as another process is busy

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from amble.levers.widths import adjusting as width_adjust
from amble.levers.widths import choosing as width
from amble.levers.widths.network import Widths
from amble.runtimes.torch import training
from amble.runtimes.torch.training import CrossEntropy, Labelled, Recipe
from bench.bases import base
from bench.bases.base import KEPT, code_digest, held_out, labelled, learning, prepare, trained
from bench.bases.data import digest, original
from bench.tail import choices, search, surgery
from bench.tail.surgery import Coupling
from bench.tail.timing import Times

LOG = BENCH / "tail" / "prune.jsonl"
PRUNED = ("vgg", "resnet", "mobilenet")
RATIOS = {  # of channels that the blind pruner removes; at the harsh one it loses at least five points
    "moderate": {"vgg": 0.4, "resnet": 0.5, "mobilenet": 0.5},
    "harsh": {"vgg": 0.7, "resnet": 0.85, "mobilenet": 0.85},
}
FASTER = 0.7  # the budget of the latency mode, as a share of the time of the blind pruner's layers
NUM_RANKING, NUM_TUNING, NUM_JUDGING = 2_560, 25_600, 1_000
URGENT = (  # in this order, for all networks and seeds, so that what was done by any time can be compared
    {"blind", "latency mode", "accuracy mode", "search over edges", "search over multiples of 8"},
    {"planned", "round to 16", "planned, time of round to 16"},
    {"round to 8", "uniform"},
)
RECIPE = Recipe(1, top_rate=0.05, warm_up=0.1)
STEP = 8  # channels between the widths that a search tries


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """A trained network with its channels ranked, the times of its layers, and the edges of its stairs."""

    name: str
    seed: int
    module: nn.Module
    coupled: Coupling
    time_s: Times
    edges: choices.Edges

    def latency_s(self, widths: Widths) -> float:
        return choices.latency_s(self.coupled.network, widths, self.time_s)


def cell(name: str, seed: int) -> Cell:
    """Rank the channels of one trained network and measure its layers."""
    module = trained(name, seed)
    coupled = surgery.coupling(module, torch.rand(2, 1, 28, 28), name=name)
    coupled = surgery.importance(module, coupled, first(learning(), NUM_RANKING), prepare=prepare)
    time_s = Times(coupled.network, KEPT / f"layers-{name}.json")
    edges = choices.edges(coupled.network, time_s, step=STEP)
    return Cell(name, seed, module, coupled, time_s, edges)


def variants(of: Cell, level: str) -> Iterator[tuple[str, Callable[[], Widths]]]:
    """Yield the names of all variants at a level and what chooses their widths."""
    network, edges = of.coupled.network, of.edges
    pricing = choices.Timed.of(network, of.time_s)
    blind = choices.blind(network, RATIOS[level][of.name])
    round16 = choices.rounded(network, blind, 16)
    budget_s = of.latency_s(blind)
    yield "blind", lambda: blind
    if level == "moderate":
        yield "latency mode", lambda: choices.moved(pricing, blind, edges, FASTER * budget_s)
        yield "planned", lambda: choices.planned(pricing, edges, FASTER * budget_s)
    else:
        yield "accuracy mode", lambda: choices.moved(pricing, blind, edges, budget_s)
        yield "planned", lambda: choices.planned(pricing, edges, budget_s)
        yield "search over edges", lambda: searched(of, edges, budget_s)
        yield "search over multiples of 8", lambda: searched(of, _multiples(of), budget_s)
    yield "round to 16", lambda: round16
    yield "planned, time of round to 16", lambda: choices.planned(pricing, edges, of.latency_s(round16))
    yield "round to 8", lambda: choices.rounded(network, blind, 8)
    yield "uniform", lambda: choices.uniform(network, 1.0 - RATIOS[level][of.name])


def searched(of: Cell, space: choices.Edges, budget_s: float) -> Widths:
    """Evolve widths within the budget; every space gets the same number of evaluations."""
    score = search.inherited(of.module, of.coupled, first(held_out(), NUM_JUDGING), prepare=prepare)
    effort = search.Effort(seed=of.seed)
    return search.evolve(space, score, lambda widths: of.latency_s(widths) <= budget_s, effort).widths


def _multiples(of: Cell) -> dict[str, tuple[int, ...]]:
    return {
        group.name: tuple(each for each in group.allowed if each % STEP == 0 or each == group.width)
        for group in of.coupled.network.groups
    }


def tuned(of: Cell, widths: Widths) -> nn.Module:
    """Cut, set the normalisation anew and fine-tune."""
    smaller = surgery.pruned(of.module, of.coupled, widths)
    data = first(learning(), NUM_TUNING)
    surgery.recalibrated(smaller, data.inputs[:NUM_JUDGING], prepare=prepare)
    recipe = Recipe(RECIPE.epochs, top_rate=RECIPE.top_rate, warm_up=RECIPE.warm_up, seed=of.seed)
    training.train(smaller.to(memory_format=torch.channels_last), data, recipe, loss=CrossEntropy(), prepare=prepare)
    return smaller


def first(data: Labelled, count: int) -> Labelled:
    return Labelled(data.inputs[:count], None if data.labels is None else data.labels[:count])


def measured(of: Cell, choose: Callable[[], Widths]) -> dict[str, object]:
    """Choose widths and tune a network of them → most of its line of the log; the same widths are not trained twice."""
    begin_s = time.perf_counter()
    widths = dict(choose())
    chosen_s = time.perf_counter() - begin_s
    for each in logged():
        if (each["network"], each["seed"], each["widths"]) == (of.name, of.seed, widths):
            return each | {"choosing_s": chosen_s}
    smaller = tuned(of, widths)
    return {
        "network": of.name,
        "seed": of.seed,
        "widths": widths,
        "layers_s": of.latency_s(widths),
        "flops": of.coupled.network.flops(widths),
        "parameters": sum(each.numel() for each in smaller.parameters()),
        "importance_lost": of.coupled.network.lost(widths),
        "held_out_accuracy": training.accuracy(smaller, held_out(), prepare=prepare),
        "test_accuracy": training.accuracy(smaller, labelled("t10k"), prepare=prepare),
        "choosing_s": chosen_s,
        "time_s": time.perf_counter() - begin_s,
    }


def provenance() -> dict[str, object]:
    """Return the digests of what decides the numbers."""
    modules = (choices, surgery, search, width, width_adjust)
    return {
        "code_sha256": code.whole(Path(__file__), *(Path(str(each.__file__)) for each in modules)),
        "base_code_sha256": code_digest(),
        "data_sha256": digest(*original("train"), *original("t10k")),
        "torch": torch.__version__,
    }


def logged() -> list[dict[str, Any]]:
    """Return all lines of the log so far."""
    return [json.loads(line) for line in LOG.read_text().splitlines()] if LOG.exists() else []


def done() -> set[tuple[object, ...]]:
    return {tuple(record[key] for key in ("network", "seed", "level", "variant")) for record in logged()}


def main() -> None:
    chosen = base.asked(__doc__, PRUNED)
    origin = provenance()
    cells: dict[tuple[str, int], Cell] = {}
    for urgent in URGENT:
        for seed in chosen.seeds:
            for name in chosen.networks:
                if (name, seed) not in cells:
                    cells[name, seed] = cell(name, seed)
                run(cells[name, seed], urgent, origin)


def run(of: Cell, names: set[str], origin: dict[str, object]) -> None:
    """Append the variants of these names that are not in the log yet."""
    for level in RATIOS:
        for variant, choose in variants(of, level):
            if variant not in names or (of.name, of.seed, level, variant) in done():
                continue
            told = {"level": level, "ratio": RATIOS[level][of.name], "variant": variant}
            keep(of, measured(of, choose) | told | origin)


def asked(description: str | None) -> Cell:
    """Return the cell that the command line names: a network and a seed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=PRUNED)
    parser.add_argument("seed", type=int)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    return cell(chosen.network, chosen.seed)


def keep(of: Cell, record: dict[str, object]) -> None:
    """Append a line to the log."""
    with LOG.open("a") as file:
        file.write(json.dumps(record) + "\n")
    of.time_s.save()
    print(record, flush=True)


if __name__ == "__main__":
    main()
