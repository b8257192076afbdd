"""The harsh cells of `prune.py` once more, in the blind pruner's measured time: `python train/equal_time.py vgg 1`.

Summed over layers, widths that break the blocks of the kernels look slower than they are in a network of such layers,
where nothing has to be converted back. So the budget is corrected by how long the blind and the whole network were
measured to take, as `measure.py` printed it to TIMES. One more line a network and seed goes to `train/prune.jsonl`.
"""

from __future__ import annotations

import argparse
import json

import choices
import torch
from base import HERE
from prune import LOG, PRUNED, RATIOS, Cell, cell, done, measured, provenance

from amble.core.widths import Widths

TIMES = HERE.parent / "build" / "tail"
VARIANT = "accuracy mode, time as measured"


def moved(of: Cell) -> Widths:
    """Move the blind pruner's widths to edges, in the time that its network was measured to take."""
    network = of.coupled.network
    lines = (TIMES / f"{of.name}-1.jsonl").read_text().splitlines()
    times_s = {tuple(each["widths"].items()): each["latency_s"] for each in map(json.loads, lines)}
    blind = choices.blind(network, RATIOS["harsh"][of.name])
    saved_s = times_s[tuple(network.today.items())] - times_s[tuple(blind.items())]
    budget_s = of.latency_s(network.today) - saved_s
    return choices.moved(choices.Timed.of(network, of.time_s), blind, of.edges, budget_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=PRUNED)
    parser.add_argument("seed", type=int)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if (chosen.network, chosen.seed, "harsh", VARIANT) in done():
        return
    of = cell(chosen.network, chosen.seed)
    record = measured(of, "harsh", VARIANT, lambda: moved(of)) | provenance()
    with LOG.open("a") as file:
        file.write(json.dumps(record) + "\n")
    print(record)


if __name__ == "__main__":
    main()
